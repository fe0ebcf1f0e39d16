"""The soak's arithmetic, its order of events and its findings; and once, briefly, the soak itself."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import socket
import subprocess
import threading
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

from bench.soak.course import Counts, Soak
from bench.soak.events import Deck, Events
from bench.soak.files import ATTEMPTS, PATIENCE, READY, compare, connect, goes_on, random_file, receive, send
from bench.soak.loads import LOADS, SMALL
from bench.soak.memory import MemoryLog, slope
from bench.soak.stage import SCANDALS, SoakStage, miscounts, settings, sleeping_paths, wanted_settings
from mpt.accel.choice import native_is_built
from mpt.errors import HostError
from mpt.lab.lab import leftovers
from mpt.lab.process import environment, python
from mpt.lab.tunnel import Description

# ---- memory and outcome --------------------------------------------------------------------------------------------


def test_the_slope_is_that_of_the_line_of_least_squares() -> None:
    """A straight line gives its slope, noise around it cancels, and too few points give none."""
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(0, 1), (1, 0), (2, 1), (3, 0), (4, 1)]) == pytest.approx(0)
    assert slope([(3, 7)]) == slope([]) == slope([(1, 1), (1, 2)]) == 0


def log_of(sizes: list[float], warm_up: float = 60) -> MemoryLog:
    """A sample a minute."""
    return MemoryLog(warm_up, [(60.0 * index, size) for index, size in enumerate(sizes)])


def soak_of(*logs: MemoryLog, failures: list[str] | None = None, sanitized: bool = False) -> Soak:
    counts = Counts(30, 101, 989_639_760, Counter({"carrier": 2, "both": 1}), Counter({"weights": 4}))
    return Soak(300.04, 7, logs, counts, failures or [], sanitized)


@pytest.mark.parametrize(
    ("sizes", "is_right"),
    [
        ([40, 45, 45.1, 45, 45.1, 45], True),
        ([40, 45, 46, 47, 48, 49], False),  # a megabyte a minute
        ([61, 45, 45, 45, 45, 45], False),  # the limit holds from the start
        ([45, 45, 45, 45, 45, 61], False),
    ],
)
def test_a_soak_fails_by_growth_and_by_size(sizes: list[float], is_right: bool) -> None:
    """Growth in the warm-up is none; after it, more than a full window is, and so is a size above the limit, ever."""
    log = log_of(sizes)
    assert log.is_right is is_right
    assert soak_of(log, log).is_right is is_right
    assert soak_of(log, log, sanitized=True).is_right
    assert not soak_of(log, log, failures=["a file came wrong"], sanitized=True).is_right


def test_the_soak_reports_memory_and_what_was_done() -> None:
    """The start is the first sample after the warm-up; sizes are in MB, the slope in kB a minute; events by kind."""
    soak = soak_of(log_of([40, 45, 45.1, 45.2]), log_of([40, 44, 44, 44]))
    values = json.loads(json.dumps(soak.as_json()))
    assert values["daemons"]["a"]["start_mb"] == 45
    assert values["daemons"]["a"]["max_mb"] == 45.2
    assert values["daemons"]["a"]["slope_kb_per_min"] == pytest.approx(100)
    assert values["bytes_checked"] == 989_639_760
    assert values["flaps"] == {"carrier": 2, "both": 1}
    assert (values["seed"], values["passed"], values["failures"]) == (7, True, [])
    text = soak.as_text()
    assert "   101 files, 989,639,760 octets, every one as it was sent\n     3 flaps: 1 both, 2 carrier\n" in text
    assert "stayed under 60 MB and did not grow" in text
    assert "\nFAILED: this\nFAILED: that\n" in soak_of(*soak.logs, failures=["this", "that"]).as_text()


# ---- what is found -------------------------------------------------------------------------------------------------


def status() -> dict[str, Any]:
    """Of a healthy daemon, what the soak looks at."""
    path = {"status": "up", "peer_says_down": False, "weight_out": 1, "keepalive_time": 0.5, "packets_sent": 10}
    connections = [
        {
            "name": f"lab_ipv{version}",
            "reorder_window": 1000,
            "paths": [{"name": f"path_{index}", **path} for index in (0, 1)],
        }
        for version in (4, 6)
    ]
    tunnel = {
        "packets_read": 43,
        "egress_dropped": {"no_path": 2, "not_ip": 1},
        "datagrams_received": 30,
        "keepalives_received": 8,
        "packets_delivered": 20,
        "packets_held": 1,
        "ingress_dropped": {"late": 1},
    }
    return {"tunnels": [tunnel], "connections": connections}


def test_counters_that_add_up_are_right() -> None:
    """A healthy daemon has no faults, nor has one whose deleted connection hides the counts of its paths."""
    assert miscounts(status()) == []
    partly = status()
    del partly["connections"][1]
    assert miscounts(partly) == []


@pytest.mark.parametrize(
    ("name", "word"),
    [("packets_read", "sent 40"), ("packets_delivered", "received 30"), ("datagrams_received", "received 31")],
)
def test_a_packet_that_nobody_counted_is_found(name: str, word: str) -> None:
    """One packet more or less on one side of either sum is told."""
    wrong = status()
    wrong["tunnels"][0][name] += 1
    (found,) = miscounts(wrong)
    assert word in found


def test_paths_that_do_not_carry_packets_are_named() -> None:
    """A path sleeps when it is down here, or when the peer says so."""
    assert sleeping_paths(status()) == []
    wrong = copy.deepcopy(status())
    wrong["connections"][0]["paths"][1]["status"] = "down"
    wrong["connections"][1]["paths"][0]["peer_says_down"] = True
    assert sleeping_paths(wrong) == ["path_1 of lab_ipv4: down", "path_0 of lab_ipv6: up, and down at the peer"]


def test_the_settings_of_a_daemon_are_compared_with_its_files() -> None:
    """Window, weights and keepalive times are seen; what else the status tells does not matter."""
    description = Description([], weights=(1, 1), keepalive=0.5, reorder_window=1000)
    assert settings(status()) == wanted_settings(description)
    changed = status()
    changed["connections"][1]["paths"][0]["weight_out"] = 3
    assert settings(changed) != wanted_settings(description)


@pytest.mark.parametrize(
    "words",
    [
        "Traceback (most recent call last):",
        "==42==ERROR: AddressSanitizer: heap-use-after-free",
        "mpt/accel/reorder.c:12:3: runtime error: index 9 out of bounds",
    ],
)
def test_scandals_are_recognized(words: str) -> None:
    """What Python and the sanitizers write is found; what a daemon says of a flap is none."""
    assert SCANDALS.search(words)
    assert not SCANDALS.search("path_0 of lab_ipv4 (eth1, 10.1.1.2 to 10.1.1.3) is interface down")


# ---- the order of events -------------------------------------------------------------------------------------------


def test_every_kind_comes_before_any_comes_again() -> None:
    """A deck gives each kind once, then the frequent kinds again; the same seed gives the same order."""
    deck = Deck(random.Random(1), "abcd", "ab")
    drawn = [deck.draw() for _ in range(12)]
    assert set(drawn[:4]) == set(drawn[6:10]) == set("abcd")
    assert set(drawn[4:6]) == set(drawn[10:]) == set("ab")
    again = Deck(random.Random(1), "abcd", "ab")
    assert [again.draw() for _ in range(12)] == drawn


class Noted(Events):
    """Events that only note their kinds, until there are five; the second of each kind fails."""

    def __init__(self, seed: int, over: asyncio.Event) -> None:
        self.failures: list[str] = []
        self.happening: list[str] = []
        super().__init__(cast(SoakStage, None), 0.0, seed, print, self.failures.append)
        self._over = over

    def kinds(self) -> tuple[list[str], list[str]]:
        return ["a", "b", "c"], []

    async def happen(self, kind: str) -> None:
        assert not self.is_quiet
        self.happening.append(kind)
        if len(self.happening) == 5:
            self._over.set()
        if self.happening.count(kind) == 2:
            raise HostError("no")


def test_events_follow_each_other_until_the_soak_is_over() -> None:
    """The seed gives their order; the last one comes to its end; what fails is told, and not counted as done."""

    async def run(seed: int) -> Noted:
        over = asyncio.Event()
        events = Noted(seed, over)
        await events.run(over)
        return events

    first, again, other = (asyncio.run(run(seed)) for seed in (1, 1, 4))
    assert first.happening == again.happening != other.happening
    assert len(first.happening) == 5 and first.is_quiet
    assert dict(first.done) == {"a": 1, "b": 1, "c": 1}
    assert first.failures == [f"event {kind}: no" for kind in first.happening[3:]]


def test_the_loads_carry_files_of_every_size_over_both_versions_both_ways() -> None:
    """One octet, the edges of a segment and of 64 KB, and 200 MB are among the files."""
    files = [files for load in LOADS for files in load.files]
    sizes = {size for each in files for size in each.sizes}
    assert {1, 1388, 65_535, 65_536, 200_000_000} <= sizes
    assert len({(each.version, each.upward) for each in files if each.sizes == SMALL}) == 4
    assert any(load.iperf is not None and load.files for load in LOADS)


# ---- files ---------------------------------------------------------------------------------------------------------


def test_files_come_as_they_were_sent() -> None:
    """Both ends give the same size and SHA-256 of each file, and no two files are the same."""
    sizes = [1, 65_537, 65_537]
    arrived: list[dict[str, object]] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        receiver = threading.Thread(target=lambda: arrived.extend(receive(server, len(sizes))))
        receiver.start()
        sent = list(send("127.0.0.1", server.getsockname()[1], sizes))
        receiver.join()
    assert arrived == sent
    assert [each["bytes"] for each in sent] == sizes
    assert sent[1]["sha256"] != sent[2]["sha256"]
    file, digest = random_file(0)
    with file:
        assert digest.startswith("e3b0c442") and file.read() == b""


@pytest.mark.parametrize("lost", [0, 1, ATTEMPTS - 1, ATTEMPTS])
def test_a_connection_is_begun_anew_for_as_long_as_patience_lasts(lost: int) -> None:
    """Each attempt has its share of the time, so that a few lost packets do not cost all of it."""
    given: list[float] = []

    def create(address: tuple[str, int], timeout: float) -> socket.socket:
        given.append(timeout)
        if len(given) <= lost:
            raise TimeoutError
        return socket.socket()

    with pytest.raises(TimeoutError) if lost == ATTEMPTS else nullcontext():
        connect("127.0.0.1", 1, create).close()
    assert len(given) == min(lost + 1, ATTEMPTS)
    assert sum(given) <= PATIENCE


def accounts(*files: tuple[int, str]) -> str:
    return "".join(json.dumps({"bytes": size, "sha256": digest}) + "\n" for size, digest in files)


def test_accounts_that_differ_are_an_error() -> None:
    """A wrong octet, a lost one and a missing file are told; else the files and their octets are counted."""
    sent = accounts((1, "aa"), (9, "bb"))
    assert compare(sent, f"{READY}\n{sent}") == (2, 10)
    with pytest.raises(HostError, match="came wrong"):
        compare(sent, accounts((1, "aa"), (9, "bc")))
    with pytest.raises(HostError, match="came wrong"):
        compare(sent, accounts((1, "aa"), (8, "bb")))
    with pytest.raises(HostError, match="2 files were sent, 1 came"):
        compare(sent, accounts((1, "aa")))


def test_a_transfer_goes_on_until_both_ends_have_ended_or_one_has_failed() -> None:
    """The receiver may be the first to end as well as the sender; a failure of one is not waited out."""
    assert goes_on(None, None) and goes_on(0, None) and goes_on(None, 0)
    assert not goes_on(0, 0) and not goes_on(1, None) and not goes_on(None, -9)


# ---- the whole -----------------------------------------------------------------------------------------------------


@pytest.mark.netns
@pytest.mark.parametrize("data_plane", ["python", "native"] if native_is_built() else ["python"])
def test_a_short_soak_finds_nothing_and_leaves_nothing(tmp_path: Path, data_plane: str) -> None:
    """Half a minute of loads, flaps and reloads ends well, with files checked, and everything is removed."""
    file = tmp_path / "soak.json"
    argv = python("bench.main", "--soak", "20", "--data-plane", data_plane, "--json", str(file))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as bench:
        output, errors = bench.communicate(timeout=200)
    assert bench.returncode == 0, output + errors
    values = json.loads(file.read_text())["soak"]
    assert values["failures"] == []
    assert values["transfers"] > 40
    assert sum(values["flaps"].values()) > 1
    assert sum(values["reloads"].values()) > 1
    assert not [left for left in leftovers() if left.startswith(f"mpt-{bench.pid}.")]
