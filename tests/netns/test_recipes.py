"""docs/recipes.md, typed as it is printed: clients and sites, and the server that they all have.

pc ── eth0  client  eth1, eth2 ── internet ── eth0  vps  eth1 ── far pc
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.process import Process
from tests.netns.support import answers, wait_until

DOCUMENT = Path(__file__).parents[2] / "docs" / "recipes.md"
STEP = re.compile(r"^    (\w+)# (.*?)(?:   +\(.*)?$", re.MULTILINE)
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANYWHERE = "198.18.0.80"  # a host of the Internet


class Stage:
    """The hosts, which stay; what a recipe starts and writes is its own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        internet = lab.host("internet", forwarding=True)
        self.vps, self.client = lab.host("vps"), lab.host("client")
        self.pc, self.far_pc = lab.host("pc"), lab.host("far-pc")
        lab.link(internet, self.vps, [("192.0.2.1/24", "192.0.2.10/24")], interfaces=(None, "eth0"))
        near = [("192.168.1.1/24", "192.168.1.2/24"), ("fd00:1::1/64", "fd00:1::2/64")]
        far = [("192.168.2.1/24", "192.168.2.2/24"), ("fd00:2::1/64", "fd00:2::2/64")]
        lab.link(self.client, self.pc, near, interfaces=("eth0", None))
        lab.link(self.vps, self.far_pc, far)
        lab.link(internet, self.client, [("198.51.100.1/24", "198.51.100.10/24")], interfaces=(None, "eth1"))
        lab.link(internet, self.client, [("192.168.8.1/24", "192.168.8.100/24")], interfaces=(None, "eth2"))
        internet.ip(f"address add {ANYWHERE}/32 dev lo")
        self.vps.ip("route add default via 192.0.2.1")
        self.client.ip("route add default via 198.51.100.1 metric 1", "route add default via 192.168.8.1 metric 2")
        for host, router in ((self.pc, "1.1"), (self.far_pc, "2.1")):
            host.ip(f"route add default via 192.168.{router}", f"route add default via fd00:{router[0]}::1")


class Typist:
    """Types the commands of one recipe; what the command before has printed stands for TEXT and KEY."""

    def __init__(self, stage: Stage, title: str) -> None:
        self.stage = stage
        self.text = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        self.blocks = BLOCK.findall(self.text)
        self.printed = ""
        self.places: dict[str, str] = {}  # where what a recipe takes from elsewhere is here
        self.daemons: list[tuple[Host, Process]] = []
        self.directory = stage.lab.directory / re.sub(r"\W+", "-", title)
        self.directory.mkdir()

    def type(self, after: str = "", before: str = "") -> None:
        """Type the steps between two pieces of the text."""
        text = self.text.partition(after)[2] if after else self.text
        steps = STEP.findall(text.partition(before)[0] if before else text)
        assert steps
        for name, command in steps:
            self._type(name, command)

    def etc(self, name: str) -> Path:
        """Return what a host has for /etc/mpt."""
        return self.directory / f"etc-{'vps' if name == 'vps' else 'client'}"

    def network_sections(self, block: str) -> None:
        """Replace the [net_n] of the client by those of a block."""
        [file] = (self.etc("client") / "connections").glob("*.conf")
        text = file.read_text()
        file.write_text(text[: text.index("[net_0]")] + block)

    def end(self) -> None:
        """End the daemons."""
        for host, process in self.daemons:
            host.end(process)

    def _type(self, name: str, command: str) -> None:
        host = self.stage.vps if name == "vps" else self.stage.client
        for placeholder, pattern in (("TEXT", r"mpt join (\S+)"), ("KEY", r"--key (\S+)")):
            found = re.search(pattern, self.printed)
            command = re.sub(rf"\b{placeholder}\b", found[1] if found else placeholder, command)
        for place, here in {**self.places, "/etc/mpt": str(self.etc(name))}.items():
            command = command.replace(place, here)
        scripts = sysconfig.get_path("scripts")
        variables = {"MPT_CONFIG_DIR": str(self.etc(name)), "PATH": f"{scripts}:/usr/sbin:/usr/bin:/sbin:/bin"}
        argv = ["bash", "-c", f"exec {command}"]
        if command == "mptsrv":
            self.daemons.append((host, host.start(argv, variables=variables)))
            self.daemons[-1][1].wait_for_output("Tunnel information", 20)
        elif command.startswith("ping"):
            wait_until(lambda: answers(host, command.split()[-1]), command)
        else:
            process = host.start(argv, variables=variables)
            assert process.wait(30) == 0, f"{command}\n{process.complaint()}"
            self.printed = process.output()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Lab() as lab:
        yield Stage(lab)


@pytest.fixture
def typed(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Typist]:
    typist = Typist(stage, request.param)
    yield typist
    typist.end()


def recipe(title: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("typed", [title], ids=[""], indirect=True)


@recipe("A laptop behind NAT")
def test_a_laptop(typed: Typist) -> None:
    """Both ends show each other."""
    typed.type()
    assert "laptop" in typed.printed


@recipe("DSL and LTE, everything through the tunnel")
def test_everything_through_the_tunnel(typed: Typist) -> None:
    """A PC reaches the Internet by the address of the VPS."""
    typed.type(before="At the router, `mpt join`")
    typed.network_sections(typed.blocks[0])
    rules = typed.directory / "nat.nft"
    rules.write_text(next(block for block in typed.blocks if block.startswith("table inet")))
    typed.stage.vps.run(["nft", "-f", str(rules)])
    typed.type(after="oifname", before="- **The default route**")
    wait_until(lambda: answers(typed.stage.pc, ANYWHERE), "the PC reaches the Internet through the tunnel")
    typed.stage.vps.run(["nft", "flush", "ruleset"])


@recipe("A camper with Starlink and 5G")
def test_a_camper(typed: Typist) -> None:
    """The status knows that 5G is metered, and why it waits."""
    typed.type()
    assert "metered" in typed.printed or "cheaper" in typed.printed


@recipe("Two sites")
def test_two_sites(typed: Typist) -> None:
    """A PC of one site reaches a PC of the other."""
    typed.type(before="The join text does not name")
    typed.network_sections(typed.blocks[0])
    typed.type(after="Both ends forward")
    wait_until(lambda: answers(typed.stage.pc, "192.168.2.2"), "the sites reach each other")


@recipe("IPv6 over IPv4")
def test_ipv6_over_ipv4(typed: Typist) -> None:
    """The PCs reach each other by IPv6; the lines have none."""
    typed.type(before="At `home`, replace")
    typed.network_sections(typed.blocks[0])
    typed.type(after="dst_addr = fd00:2::/64")
    wait_until(lambda: answers(typed.stage.pc, "fd00:2::2"), "the sites reach each other by IPv6")


@recipe("From the C program")
def test_from_the_c_program(typed: Typist) -> None:
    """The guide's own files are taken as they are."""
    guide = Path(__file__).parents[2] / "conf" / "samples" / "guide" / "host_a"
    typed.places["/usr/local/src/mpt/conf"] = str(guide)
    typed.type(before="    host# mpt check")
    assert "no error" in typed.printed
