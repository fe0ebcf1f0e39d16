"""The five commands at the head of docs/getting-started.md, typed into two fresh hosts, make a tunnel."""

from __future__ import annotations

import re
from pathlib import Path

from mpt.lab.lab import Lab
from mpt.lab.links import PLAIN
from mpt.lab.process import python
from tests.netns.support import answers, figure_3, wait_until
from tests.netns.support import no_traceback as no_traceback

DOCUMENT = Path(__file__).parents[2] / "docs" / "getting-started.md"
PROGRAMS = {"mpt": python("mpt.cli.main"), "mptsrv": python("mpt.daemon.main")}


def test_five_commands_make_a_tunnel(lab: Lab) -> None:
    """Word for word; TEXT and KEY are what the command before has printed."""
    server, laptop, _ = figure_3(lab, PLAIN)
    hosts = {"server": server, "laptop": laptop}
    document = DOCUMENT.read_text(encoding="utf-8").partition("## Five commands")[2]
    steps = re.findall(r"^    (server|laptop)# (\w+)(.*)$", document.partition("\n## ")[0], re.MULTILINE)
    assert len(steps) == 7
    printed = ""
    for name, program, rest in steps[:5]:
        host, directory = hosts[name], lab.directory / f"etc-{name}"
        for placeholder, pattern in (("TEXT", r"mpt join (\S+)"), ("KEY", r"--key (\S+)")):
            found = re.search(pattern, printed)
            rest = re.sub(rf"\b{placeholder}\b", found[1] if found else placeholder, rest)
        process = host.start([*PROGRAMS[program], *rest.split()], variables={"MPT_CONFIG_DIR": str(directory)})
        if program == "mptsrv":
            process.wait_for_output("Tunnel information", 20)
            continue
        assert process.wait(20) == 0, process.complaint()
        printed = process.output()
    name, program, target = steps[5]
    assert program == "ping"
    wait_until(lambda: answers(hosts[name], target.split()[-1]), "the laptop reaches the server through the tunnel")
    name, program, rest = steps[6]
    there = {"MPT_CONFIG_DIR": str(lab.directory / f"etc-{name}")}
    for words in (rest.split(), ["check"], ["doctor"]):
        process = hosts[name].start([*PROGRAMS[program], *words], variables=there)
        assert process.wait(30) == 0, process.complaint()
        said = process.output()
        assert {"status": "1 of 1 paths work", "check": "nothing is wrong", "doctor": "paths work"}[words[0]] in said
