"""Size probes of a plain connection: what a narrow line carries is found, told, and kept to."""

from __future__ import annotations

from collections.abc import Callable

from mpt.daemon.roundtrips import EVERY
from mpt.wire.sizeprobe import SizeTail, answer, decode
from tests.daemon.logged import logged
from tests.daemon.stage import KEEPALIVE_IN, PACKET, Run, Stage, connection, path

GRE = KEEPALIVE_IN[:4]
LARGEST = 1440 + 4


def play(stage: Stage, seconds: float, carries: Callable[[int], int]) -> set[int]:
    """Let the peer answer what comes over path `number` if it has at most `carries(number)` octets, and keep the paths
    alive and in use; return the sizes of the datagrams that were sent."""
    sizes: set[int] = set()
    for step in range(round(seconds / 0.05)):
        if step % 20 == 0:
            stage.tun.inject(PACKET)
            stage.tun.inject(PACKET)
        for number in (1, 2):
            if step % 10 == 0:
                stage.receive(number, KEEPALIVE_IN)
            for datagram in stage.sent(f"eth{number}"):
                sizes.add(len(datagram))
                tail = decode(datagram[4:])
                if tail is not None and len(datagram) <= carries(number):
                    assert not tail.is_answer
                    stage.receive(number, GRE + answer(KEEPALIVE_IN[4:], tail.size))
        stage.reactor.pass_time(0.05)
    return sizes


def mtus(stage: Stage) -> list[int]:
    """Return the largest packet of each path as the next table has it."""
    return [each.mtu for each in stage.root.runs.tunnels[0].connections["c"].row(1440).paths]


def test_a_line_that_carries_everything_is_left_alone(run: Run) -> None:
    """One probe of the largest datagram, which fills the tunnel's MTU, and no word in the log."""
    stage = run(connection(size_probe=True))
    with logged() as log:
        sizes = play(stage, 5.0, lambda number: LARGEST)
    assert max(sizes) == LARGEST
    assert mtus(stage) == [1440, 1440]
    assert not [line for line in log if "octets" in line]


def test_the_largest_size_of_a_narrow_line_is_found_and_the_path_kept_off_what_it_does_not_carry(run: Run) -> None:
    """The other path has the large packets. When the line is wide again, that is noticed, too."""
    stage = run(connection(size_probe=True))
    with logged() as log:
        play(stage, 60.0, lambda number: 1260 if number == 1 else LARGEST)
    assert 1252 <= mtus(stage)[0] <= 1256 and mtus(stage)[1] == 1440
    (told,) = (line for line in log if "octets" in line)
    assert "path_0 of c" in told and f"more than {mtus(stage)[0] + 4} octets are lost" in told
    with logged() as log:
        play(stage, 700.0, lambda number: LARGEST)
    assert mtus(stage) == [1440, 1440]
    assert [line for line in log if "it carries packets of 1440 octets again" in line]


def test_a_silent_path_and_a_peer_that_answers_no_probe_prove_nothing(run: Run) -> None:
    """The C program takes a probe for a keepalive."""
    stage = run(connection(size_probe=True))
    play(stage, 30.0, lambda number: 0)
    assert mtus(stage) == [1440, 1440]


def test_probes_are_answered_even_if_none_are_sent_but_not_all_of_a_flood(run: Run) -> None:
    """Without the key nothing but keepalives is sent."""
    stage = run(connection(path(1), path(2)))
    assert max(play(stage, 5.0, lambda number: LARGEST)) == len(KEEPALIVE_IN)
    probe = (KEEPALIVE_IN + bytes.fromhex("4d505453 01 00 05a0")).ljust(1440, b"\0")
    stage.clear()
    stage.receive(1, probe)
    assert [decode(each[4:]) for each in stage.sent("eth1")] == [SizeTail(True, 1440)]
    for _ in range(1000):
        stage.receive(1, probe)
    assert len(stage.sent("eth1")) < 25


def test_the_round_trip_is_shown(run: Run) -> None:
    """The peer repeats what a small probe asks for; an answer to anything else tells nothing."""
    stage = run(connection(size_probe=True))
    paths = stage.root.runs.tunnels[0].connections["c"].paths
    play(stage, EVERY - 0.5, lambda number: LARGEST)
    assert [path.round_trip for path in paths] == [None, None]
    play(stage, 1.0, lambda number: LARGEST)
    assert all(0 < (path.round_trip or 0) <= 0.05 for path in paths)
    known = [path.round_trip for path in paths]
    for name in range(40):
        stage.receive(1, GRE + answer(KEEPALIVE_IN[4:], name))
    assert [path.round_trip for path in paths] == known


def test_the_round_trip_of_a_path_that_is_down_is_not_known(run: Run) -> None:
    """Nor is it where the peer answers no probe."""
    stage = run(connection(size_probe=True))
    paths = stage.root.runs.tunnels[0].connections["c"].paths
    play(stage, EVERY + 1, lambda number: LARGEST if number == 1 else 0)
    assert paths[0].round_trip is not None and paths[1].round_trip is None
    stage.root.runs.tunnels[0].connections["c"].switch(0, False)
    play(stage, EVERY + 1, lambda number: LARGEST)
    assert paths[0].round_trip is None and paths[1].round_trip is not None


def test_a_round_trip_is_forgotten_when_a_question_is_not_answered(run: Run) -> None:
    """The peer may be another program now, whose keepalives go on."""
    stage = run(connection(size_probe=True))
    paths = stage.root.runs.tunnels[0].connections["c"].paths
    play(stage, EVERY + 1, lambda number: LARGEST)
    assert None not in [path.round_trip for path in paths]
    play(stage, EVERY, lambda number: 0)
    assert None not in [path.round_trip for path in paths]
    play(stage, EVERY, lambda number: 0)
    assert [path.round_trip for path in paths] == [None, None]
