"""What people see of a pulled path: the page in Debian's Chromium, `mpt status`, `mpt top`, the kernel's counters."""

from __future__ import annotations

import json
import os
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mpt.lab.hosts import Host
from mpt.lab.iperf import iperf3
from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.process import environment, python
from mpt.lab.tunnel import Daemon, Description, Tunnel
from mpt.local.history import Inside
from mpt.local.statustext import rate
from tests.netns.browser import Browser, browser
from tests.netns.support import figure_3, status_of, wait_until, wait_until_heard
from tests.netns.support import no_traceback as no_traceback

SECONDS: Final = int(os.environ.get("MPT_PAGE_SECONDS", "4"))  # of the comparison
SHOWN: Final = 2.0  # s after which a pulled path is on the page
AGREED: Final = 0.02
HEALTH: Final = "document.getElementById('health').textContent"
MBIT: Final = 16  # of a stream whose packets are all of one size
UNITS: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def test_the_page_shows_a_pulled_path_and_everything_agrees(lab: Lab) -> None:
    """Within two seconds; then for some seconds the page, `mpt status`, `mpt top`, the JSON document and the kernel's
    counter agree within 2 %. The page has no complaint, is usable at 360 pixels, by keyboard and by ear."""
    a, b, links = figure_3(lab)
    extra = {"general": ["status_listen = 127.0.0.1:9400"]}
    tunnel = Tunnel(Description(links, extra=extra), lab.directory)
    wait_until_heard(*tunnel.daemons)
    load = ["--udp", "--bitrate", f"{MBIT}M", "--length", "1200", "--time", "120"]
    with browser(a, lab.directory) as page, iperf3(a, b, ["10.0.0.2"], *load), top(a, lab.directory) as screen:
        page.resize(1200)
        page.open("http://127.0.0.1:9400/")
        page.wait_until(f"{HEALTH} === 'All 2 paths work'")
        page.wait_until(
            "document.querySelector('.chart.out canvas') && document.querySelector('.bar').ariaLabel === "
            "'share of what is sent: 50 %'"
        )
        assert_usable(page)
        links[0].pull()
        took = page.wait_until(f"{HEALTH} === '1 of 2 paths work'", 10)
        if took > SHOWN:  # a busy machine may keep the browser waiting: measured a second time
            links[0].plug()
            page.wait_until(f"{HEALTH} === 'All 2 paths work'", 10)
            links[0].pull()
            took = page.wait_until(f"{HEALTH} === '1 of 2 paths work'", 10)
        assert took <= SHOWN
        page.wait_until("document.querySelector('.path .state').textContent.startsWith('interface down')", 2)
        assert "path_0 of lab_ipv4 is interface down" in page.text() and "mpt interface eth1 up" in page.text()
        wait_until(lambda: status_of(tunnel.daemons[0])["connections"][0]["paths"][0]["out_rate"] == 0, "path_0 idle")
        found = compare(a, tunnel.daemons[0], page, screen)
        if not agree(found):  # a busy machine may keep one of four programs waiting: measured a second time
            found = compare(a, tunnel.daemons[0], page, screen)
        print(
            f"\npulled path shown after {took:.2f} s; "
            + ", ".join(f"{who} {8e-6 * it:.3f}" for who, it in found.items())
        )
        assert agree(found), found
        assert_one_snapshot(page)
        links[0].plug()
        page.wait_until(f"{HEALTH} === 'All 2 paths work'", 10)
        assert page.complaints == []


def test_the_page_shows_what_an_adaptive_connection_knows_of_its_inside(lab: Lab) -> None:
    """The round trip inside the tunnel beside those of the paths, what waits for its order, and how long it was held:
    in words and as lines, of the past, too."""
    a, b, links = figure_3(lab)
    for link, delay in zip(links, (2, 20), strict=True):
        link.shape(Shape(rate_mbit=10, delay_ms=delay, queue_ms=100))
    extra = {"general": ["status_listen = 127.0.0.1:9400"], "connection": ["scheduler = adaptive"]}
    tunnel = Tunnel(Description(links, sealed=True, reorder_window=1000, extra=extra), lab.directory)
    wait_until_heard(*tunnel.daemons)
    with iperf3(a, b, ["10.0.0.2"], "--reverse", "--time", "60"):
        inside = lambda: status_of(tunnel.daemons[0])["connections"][0]["inside"] or {}  # noqa: E731
        wait_until(lambda: inside().get("hold_p99"), "held packets")
        with browser(a, lab.directory) as page:
            page.open("http://127.0.0.1:9400/")
            page.wait_until("!!document.querySelector('.chart.hold canvas')")
            (trip,) = shown(page, "Round trip, ms")
            assert re.fullmatch(r"path_0 [\d.]+, path_1 [\d.]+, inside the tunnel, estimated ([\d.]+)", trip)
            assert float(trip.split()[-1]) > 2.0  # ms: the line with the least delay alone takes 4
            (waiting,) = shown(page, "Packets that wait for their order")
            (hold,) = shown(page, "Held for their order, ms")
            assert re.fullmatch(r"packets [\d.]+", waiting)
            assert re.fullmatch(r"half [\d.]+, 99 % [\d.]+", hold)
            past = page.value("[...[...pasts.values()][0].rows].filter(([key]) => key.startsWith('inside'))")
            assert [key for key, _ in past] == [f"inside {name}" for name in Inside._fields]
            known = [[value for value in row if value is not None] for _, row in past]
            assert all(known) and any(known[0]) and any(known[2]), past
            assert page.complaints == []


def shown(page: Browser, title: str) -> list[str]:
    """Return what is now, by the words of the charts with this title."""
    head = f"{title} in the last ten minutes; now "
    return [name.removeprefix(head) for role, name in page.names() if role == "image" and name.startswith(head)]


def assert_usable(page: Browser) -> None:
    """At 360 pixels nothing is cut off; Tab reaches the paths and the events; all that is drawn has words."""
    page.resize(360)
    page.wait_until("document.documentElement.scrollWidth <= 360 && innerWidth === 360")
    names = page.names()
    assert {("heading", "mpt"), ("heading", "lab_ipv4"), ("heading", "Events")} <= names
    assert {("article", "path_0 over eth1"), ("article", "path_1 over eth2")} <= names
    assert ("list", "Events, the newest first") in names
    pictures = [name for role, name in names if role == "image"]
    assert all(pictures), names
    assert any(
        re.fullmatch(r"Sent, Mbit/s in the last ten minutes; now path_0 [\d.]+, path_1 [\d.]+", it) for it in pictures
    )
    reached = []
    for _ in range(3):
        page.press("Tab")
        reached.append(page.value("document.activeElement.ariaLabel"))
    assert reached == ["path_0 over eth1", "path_1 over eth2", "Events, the newest first"]
    page.resize(1200)


def agree(rates: dict[str, float]) -> bool:
    """Return whether all are within AGREED of the kernel's."""
    return all(abs(found / rates["kernel"] - 1) <= AGREED for found in rates.values())


def compare(host: Host, daemon: Daemon, page: Browser, screen: Screen) -> dict[str, float]:
    """Return what was sent over path_1, octets a second, by each who shows it: the mean over SECONDS of what they show.

    The kernel's counter of the tunnel interface is read when the daemon has a new sample, so that all speak of the same
    seconds.
    """
    shown: dict[str, list[float]] = {"json": [], "status": [], "top": [], "page": []}
    sample = next_sample(daemon, None)
    began, sent_before = time.monotonic(), host.interfaces()["tun0"][1]
    for _ in range(SECONDS):
        sample = next_sample(daemon, sample)
        ended, sent = time.monotonic(), host.interfaces()["tun0"][1]
        shown["json"].append(sample["out_rate"])
        shown["status"].append(octets(first(r"  path_1 .*? \d+%  +([\d.]+[kMG]?)", mpt(host, "status"))))
        time.sleep(0.2)  # top and the page look once a second; with the sample of this second, or the one before
        shown["top"].append(octets(first(r"path_1 .* ([\d.]+[kMG]?) out ", screen.text())))
        value, unit = page.value("document.querySelectorAll('.path')[1].querySelector('dd').textContent").split()
        shown["page"].append(octets(value + unit[0].removeprefix("b")))
    return {"kernel": (sent - sent_before) / (ended - began), **{who: statistics.mean(it) for who, it in shown.items()}}


def next_sample(daemon: Daemon, before: dict[str, Any] | None) -> dict[str, Any]:
    """Return path_1 in the status document as soon as its rate is another than `before`."""
    while True:
        path: dict[str, Any] = status_of(daemon)["connections"][0]["paths"][1]
        before = before or path
        if path["out_rate"] != before["out_rate"]:
            return path
        time.sleep(0.02)


def octets(shown: str) -> float:
    """Return a rate in octets a second of one in bits, such as 12.1M."""
    number = shown.rstrip("kMG")
    return float(number) * UNITS[shown.removeprefix(number)] / 8


def first(pattern: str, text: str) -> str:
    """Return the group of the first match."""
    found = re.search(pattern, text)
    assert found, f"{pattern} is not in\n{text}"
    return found[1]


def assert_one_snapshot(page: Browser) -> None:
    """The page's numbers are those of one status document, the last one that it has asked for."""
    page.value(
        "{ const ask = fetch; window.fetch = async (...what) => { const answer = await ask(...what);"
        " if (what[0] === 'status.json') { const copy = await answer.clone().json();"
        " setTimeout(() => { window.seen = [JSON.stringify(copy), document.body.innerText]; }, 200); }"
        " return answer; }; 0 }"
    )
    page.wait_until("!!window.seen")
    document, text = page.value("window.seen")
    for path in json.loads(document)["connections"][0]["paths"]:
        short = rate(path["out_rate"])
        unit = {"k": "kbit/s", "M": "Mbit/s", "G": "Gbit/s"}.get(short[-1], "bit/s")
        assert f"out\n{short.rstrip('kMG')} {unit}\n" in text, (short, text)
        assert f"from\n{path['local_address']}\n" in text


def mpt(host: Host, *words: str) -> str:
    """Return what ``mpt`` prints on `host`."""
    return host.run(python("mpt.cli.main", *words))


class Screen:
    """`mpt top` in a terminal of 80 x 24."""

    def __init__(self, host: Host, socket: Path) -> None:
        self._host, self._tmux = host, ["tmux", "-S", str(socket), "-f", "/dev/null"]
        command = " ".join(python("mpt.cli.main", "top"))
        host.run(
            [
                *self._tmux,
                "new-session",
                "-d",
                "-x",
                "80",
                "-y",
                "24",
                f"env PYTHONPATH={environment()['PYTHONPATH']} {command}",
            ]
        )

    def text(self) -> str:
        """Return what is on it."""
        text = self._host.run([*self._tmux, "capture-pane", "-p"])
        lines = text.splitlines()
        assert len(lines) <= 24 and max(map(len, lines)) <= 80
        return text

    def close(self) -> None:
        """End it by its own key."""
        self._host.run([*self._tmux, "send-keys", "q"])
        self._host.run([*self._tmux, "kill-server"], check=False)


@contextmanager
def top(host: Host, directory: Path) -> Iterator[Screen]:
    """Run `mpt top` on `host` while the block runs."""
    screen = Screen(host, directory / "tmux")
    try:
        yield screen
    finally:
        screen.close()
