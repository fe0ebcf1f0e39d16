"""A sealed path is narrower than the tunnel, its datagrams are not to be cut, and nobody tells its size."""

from __future__ import annotations

import re

from mpt.config.identity import make_identity
from mpt.lab.lab import Lab
from mpt.lab.ping import ping
from mpt.model import key_text
from tests.netns.support import answers, at_least, start, stream, wait_until
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support_control import Site
from tests.netns.support_sealed import A, B, write_connection, write_host
from tests.netns.test_narrow_line import ENOUGH, behind_routers

LARGEST = 1400 - 28  # octets in a ping that fills the tunnel's MTU
FOUND = 5.0  # s: three rounds, and what a busy machine needs


def test_a_narrow_sealed_path_is_no_black_hole(lab: Lab) -> None:
    """It carries what fits. When it is the only one, the host's own kernel hears what fits, and TCP goes on."""
    a, b = behind_routers(lab)
    directories = {name: lab.directory / f"conf-{name}" for name in "ab"}
    keys = {}
    for name, own in (("a", A), ("b", B)):
        write_host(directories[name], own, directories[name] / "private.key")
        keys[name] = key_text(make_identity(directories[name] / "private.key").public_key)
    paths = [f"eth{n}\nremote_ipaddr = 10.{n}.9.3\ngw_ipaddr = 10.{n}.{n}.1" for n in (1, 2)]
    write_connection(directories["a"], "sealed", A, B, keys["b"], paths)
    paths = [f"eth{n}\ngw_ipaddr = 10.{n}.9.1" for n in (1, 2)]
    write_connection(directories["b"], "sealed", B, A, keys["a"], paths)
    for number in (1, 2):
        b.ip(f"route add 10.{number}.{number}.0/24 via 10.{number}.9.1")
    daemon, _ = start((a, directories["a"]), (b, directories["b"]))
    wait_until(lambda: answers(a, B), "an answer through the tunnel", timeout=20)
    wait_until(lambda: None not in ping(a, B, interval=0.02, timeout=0.3, size=LARGEST), "full size", timeout=20)
    a.ip("link set eth2 down")
    wait_until(lambda: answers(a, B), "an answer over the narrow path", timeout=20)
    too_big = re.compile(rf"From {B} .*Frag needed and DF set \(mtu = 1[12]\d\d\)")
    largest = ["ping", "-c", "1", "-W", "1", "-M", "do", "-s", str(LARGEST), B]
    wait_until(lambda: too_big.search(a.run(largest, check=False)), "the size of the narrow path", timeout=FOUND)
    at_least(ENOUGH, lambda: stream(a, b, B, seconds=1, warmup=0.5))
    assert Site(a, directories["a"], daemon).status()["tunnels"][0]["egress_dropped"]["too_big"] >= 1
