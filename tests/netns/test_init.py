"""The pair of configurations that `mpt init` makes is a tunnel; `mpt check` and `mpt doctor` say so there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.process import python
from tests.netns.support import answers, figure_3, start, wait_until
from tests.netns.support import no_traceback as no_traceback

CABLES = ["--path", "eth1=10.1.1.2/24,eth1=10.1.1.3/24", "--path", "eth2=10.2.2.2/24,eth2=10.2.2.3/24"]
MPT = python("mpt.cli.main")


def said(host: Host, *words: str, status: int = 0) -> str:
    """Return what `mpt` prints on a host; it must end with this status."""
    process = host.start([*MPT, *words])
    assert process.wait(30) == status, process.complaint()
    return process.output()


def findings(host: Host, *words: str, status: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Return the findings of `mpt doctor` by topic."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in json.loads(said(host, "doctor", "--json", *words, status=status))["findings"]:
        found.setdefault(each["topic"], []).append(each)
    return found


@pytest.mark.parametrize("kind", ["sealed", "plain"])
def test_the_pair_makes_a_tunnel(lab: Lab, kind: str) -> None:
    """Both directories pass the check where they are used. The doctor finds closed ports before the daemons run, heard
    ones after, and how long packets get to the peer."""
    a, b, _ = figure_3(lab)
    b.run(["ip", "link", "set", "eth2", "mtu", "1400"])
    a.run(["ip", "link", "set", "eth2", "mtu", "1400"])
    made = lab.directory / "made"
    said(
        a,
        "init",
        str(made),
        "--names",
        "a,b",
        *CABLES,
        "--tunnel",
        "10.9.0.0/24",
        *(["--plain"] if kind == "plain" else []),
    )
    checked = json.loads(said(a, "check", "--json", str(made / "a")))["findings"]
    told = [(each["severity"], each["key"], each["remedy"].partition(",")[0]) for each in checked]
    narrow = [("warning", "mtu", "mtu = 1364")] if kind == "plain" else []
    closed = [("warning", "remote_cmd_port", "start mptsrv there")] if kind == "plain" else []
    assert told == narrow + closed
    before = findings(a, str(made / "a"), status=1)
    assert {each["severity"] for each in before["peer"]} == {"fault"}
    assert "no mptsrv answers" in before["daemon"][0]["message"]
    start((a, made / "a"), (b, made / "b"))
    wait_until(lambda: answers(a, "10.9.0.1"), "a reaches b through the tunnel")
    wait_until(lambda: answers(b, "10.9.0.2"), "b reaches a through the tunnel")
    print(said(a, "show", "status", "--json"))
    after = findings(a, str(made / "a"))
    assert "all of its paths work" in after["daemon"][0]["message"]
    assert [each["message"].rpartition(": ")[2] for each in after["peer"]][:2] == ["heard", "heard"]
    assert [each["message"].split()[4:6] for each in after["MTU"]] == [
        ["1500", "octets"],
        ["1400", "octets"],
    ]
