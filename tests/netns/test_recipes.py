"""docs/recipes.md, typed as it is printed: clients and sites, and the server that they all have.

pc ── eth0  client  eth1, eth2 ── internet ── eth0  vps  eth1 ── far pc
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpt.lab.lab import Lab
from tests.netns.support import answers, wait_until
from tests.netns.typist import Typist, typist

ANYWHERE = "198.18.0.80"  # a host of the Internet


class Stage:
    """The hosts, which stay; what a recipe starts and writes is its own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.internet = internet = lab.host("internet", forwarding=True)
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


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Lab() as lab:
        yield Stage(lab)


@pytest.fixture
def typed(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Typist]:
    hosts = dict.fromkeys(("client", "laptop", "home", "camper", "host"), stage.client)
    with typist(request.param, {**hosts, "vps": stage.vps, "pc": stage.pc}, stage.lab.directory) as made:
        yield made


def recipe(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("typed", [name], ids=[""], indirect=True)


@recipe("a laptop")
def test_a_laptop(typed: Typist) -> None:
    """Both ends show each other."""
    typed.type()
    assert "laptop" in typed.printed


@recipe("everything")
def test_everything_through_the_tunnel(stage: Stage, typed: Typist) -> None:
    """A PC reaches the Internet by the address of the VPS, in both directions."""
    typed.type()
    piece = typed.pieces[0]._replace(after="", before="")
    networks, weights, rules = piece.blocks
    typed.network_sections("home", networks)
    template = typed.etc("vps") / "connections" / "conf.template"
    template.write_text(template.read_text().partition("[path_0]")[0] + weights)
    file = typed.directory / "nat.nft"
    file.write_text(rules)
    stage.vps.run(["nft", "-f", str(file)])
    typed.type()
    wait_until(lambda: answers(stage.pc, ANYWHERE), "the PC reaches the Internet through the tunnel")
    typed.serve(stage.internet)
    typed.type()
    stage.vps.run(["nft", "flush", "ruleset"])


@recipe("a camper")
def test_a_camper(typed: Typist) -> None:
    """The status knows that 5G is metered, and why it waits."""
    typed.type()
    assert "metered" in typed.printed or "cheaper" in typed.printed


@recipe("two sites")
def test_two_sites(stage: Stage, typed: Typist) -> None:
    """A PC of one site reaches a PC of the other."""
    typed.network_sections("home", typed.type()._replace(before="").blocks[0])
    typed.type()
    wait_until(lambda: answers(stage.pc, "192.168.2.2"), "the sites reach each other")


@recipe("IPv6 over IPv4")
def test_ipv6_over_ipv4(stage: Stage, typed: Typist) -> None:
    """The PCs reach each other by IPv6; the lines have none."""
    typed.network_sections("home", typed.type()._replace(before="").blocks[0])
    typed.type()
    wait_until(lambda: answers(stage.pc, "fd00:2::2"), "the sites reach each other by IPv6")


@recipe("from the C program")
def test_from_the_c_program(typed: Typist) -> None:
    """The guide's own files are taken as they are; what is not right on this host is told."""
    guide = Path(__file__).parents[2] / "conf" / "samples" / "guide" / "host_a"
    typed.places["/usr/local/src/mpt/conf"] = str(guide)
    typed.type(may_fail=["mpt check"])
    assert "eth1" in typed.printed
