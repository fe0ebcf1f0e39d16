"""docs/getting-started.md's home router with DSL and LTE, typed as it is printed, until its connection has keys.

pc ── eth0  home  eth1 ───────────── internet ── eth0  vps
                  eth2 ── modem, NAT ──┘
"""

from __future__ import annotations

import re

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from tests.netns.support import answers, wait_until
from tests.netns.support import no_traceback as no_traceback
from tests.netns.typist import Typist, typist
from tests.typed import EVERYTHING, GUIDE, HOME, Piece

SOMEWHERE = "198.18.0.80"  # a server in the Internet
MODEM = """table ip modem {{
    chain before {{ type nat hook prerouting priority dstnat; {forwarded}; }}
    chain behind {{ type nat hook postrouting priority srcnat; oifname "wan" masquerade; }}
}}"""


def test_a_home_router(lab: Lab) -> None:
    """Both lines carry, everything goes through the tunnel on request, the connection gets keys and loses them."""
    hosts = network(lab)
    home, vps, modem = hosts["home"], hosts["vps"], hosts["modem"]
    with typist("home router", hosts, lab.directory) as typed:
        write_files(typed)
        typed.type("home")
        apply(typed, vps, Piece(GUIDE, HOME).blocks[-1])
        (forwarded,) = re.findall(r"`(iifname \"wan\" .*?)`", Piece(GUIDE, HOME).text.replace("\n", " "))
        apply(typed, modem, MODEM.format(forwarded=forwarded))
        for name in ("vps", "home"):
            typed.type_command(name, "mptsrv --check")
            typed.type_command(name, "mptsrv")
        typed.serve(vps)
        typed.type()
        typed.type_command("home", "ping -c 5 10.0.0.1")
        seen = typed.watched()
        for line in ("198.51.100.10", "203.0.113.20"):
            assert f"IP 192.0.2.10.4754 > {line}.4754" in seen, seen

        of_home, of_vps, rules, _ = Piece(GUIDE, EVERYTHING).blocks
        for name, block in (("home", of_home), ("vps", of_vps)):
            (file,) = (typed.etc(name) / "connections").glob("*.conf")
            file.write_text(re.sub(r"(network_count *=) 0", r"\1 1", file.read_text()) + block)
        typed.type("home", "vps")
        apply(typed, vps, rules)
        for name in ("vps", "home"):
            typed.type_command(name, "mpt reload")
        typed.serve(hosts["internet"])
        wait_until(lambda: answers(hosts["pc"], SOMEWHERE), "the PC reaches the Internet through the tunnel")
        typed.type()
        assert "from 198.51.100.10 lookup 101" in home.run(["ip", "rule"])

        for host, interface in ((modem, "wan"), (hosts["internet"], "lte")):
            host.ip(f"link set {interface} mtu 1430")
        typed.type(may_fail=["ping -c 1 -M do -s 1403 -I eth2 192.0.2.10"])
        assert "mtu = 1430" in typed.printed or "mtu=1430" in typed.complaint + typed.printed

        typed.type()
        typed.type()
        sealed = lambda: "keys" in home.run(status(typed)) and answers(home, "10.0.0.1")  # noqa: E731
        wait_until(sealed, "keys, and an answer with them", 15)
        typed.type()
        wait_until(lambda: answers(home, "10.0.0.1"), "an answer without keys", 15)
        assert "keys" not in home.run(status(typed))


def network(lab: Lab) -> dict[str, Host]:
    """Return the hosts of the picture, by their names."""
    internet, modem = lab.host("internet", forwarding=True), lab.host("modem", forwarding=True)
    home, vps, pc = lab.host("home"), lab.host("vps"), lab.host("pc")
    lab.link(internet, vps, [("192.0.2.1/24", "192.0.2.10/24")], interfaces=(None, "eth0"))
    lab.link(home, pc, [("192.168.1.1/24", "192.168.1.2/24")], interfaces=("eth0", None))
    lab.link(internet, home, [("198.51.100.1/24", "198.51.100.10/24")], interfaces=(None, "eth1"))
    lab.link(internet, modem, [("203.0.113.1/24", "203.0.113.20/24")], interfaces=("lte", "wan"))
    lab.link(modem, home, [("192.168.8.1/24", "192.168.8.100/24")], interfaces=(None, "eth2"))
    internet.ip(f"address add {SOMEWHERE}/32 dev lo")
    modem.ip("route add default via 203.0.113.1")
    vps.ip("route add default via 192.0.2.1")
    home.ip("route add default via 198.51.100.1", "route add default via 192.168.8.1 metric 700")
    pc.ip("route add default via 192.168.1.1")
    return {"internet": internet, "modem": modem, "home": home, "vps": vps, "pc": pc}


def write_files(typed: Typist) -> None:
    """Write the files of both ends, as the text has them or says how they differ."""
    interface, connection, far_paths = Piece(GUIDE, HOME).blocks[:3]
    head = connection.partition("[path_0]")[0]
    for changed in (("name               = vps", "home"), ("ip_local           = 10.0.0.2", "10.0.0.1")):
        head = head.replace(changed[0], f"{changed[0].partition('=')[0]}= {changed[1]}")
    head = head.replace("ip_remote          = 10.0.0.1", "ip_remote          = 10.0.0.2")
    files = {
        "home": (interface, "vps.conf", connection),
        "vps": (interface.replace("10.0.0.2/24", "10.0.0.1/24"), "home.conf", head + far_paths),
    }
    for name, (general, file, text) in files.items():
        (typed.etc(name) / "connections").mkdir(parents=True)
        (typed.etc(name) / "interface.conf").write_text(general)
        (typed.etc(name) / "connections" / file).write_text(text)


def apply(typed: Typist, host: Host, rules: str) -> None:
    """Give nftables a file."""
    file = typed.directory / f"{host.name}.nft"
    file.write_text(rules)
    host.run(["nft", "-f", str(file)])


def status(typed: Typist) -> list[str]:
    """Return the words that show the status of the router."""
    return ["env", *(f"{name}={value}" for name, value in typed.variables("home").items()), "mpt", "status"]
