"""The measuring and the checking of a stream."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt.errors import HostError
from mpt.lab.transfer import BLOCK, NUMBER, Checker, Meter, Progress, pattern, rate_between, receive, send


def stream(blocks: int) -> bytearray:
    """The first `blocks` blocks that a right sender sends."""
    data = bytearray()
    for number in range(blocks):
        data += number.to_bytes(NUMBER, "big") + pattern()[NUMBER:]
    return data


def check(data: bytes | bytearray, piece: int) -> bool:
    """Feed `data` to a checker in pieces of at most `piece` bytes; what it says at the end."""
    checker, position = Checker(), 0
    while position < len(data):
        space = checker.space()
        part = data[position : position + min(piece, len(space))]
        space[: len(part)] = part
        checker.filled(len(part))
        position += len(part)
    return checker.finish()


@pytest.mark.parametrize("piece", [65_536, 999_983, BLOCK])
def test_the_right_stream_is_right(piece: int) -> None:
    """Whole blocks and an incomplete last one pass, in pieces of any size."""
    data = stream(3)
    assert check(data, piece)
    assert check(data[: -BLOCK // 3], piece)


@settings(max_examples=30)  # each one copies megabytes
@given(position=st.integers(0, 2 * BLOCK - 1), flipped=st.integers(1, 255))
def test_one_wrong_byte_is_found(position: int, flipped: int) -> None:
    """Any changed byte, in a complete block or in the last one, makes the stream wrong."""
    data = stream(2)[: BLOCK + BLOCK // 2]
    data[position % len(data)] ^= flipped
    assert not check(data, BLOCK)


def test_a_doubled_or_missing_block_is_found() -> None:
    """Blocks are numbered, so that one twice or one too few does not pass for right."""
    data = stream(3)
    assert not check(data[:BLOCK] + data[:BLOCK], BLOCK)
    assert not check(data[:BLOCK] + data[2 * BLOCK :], BLOCK)


def test_the_goodput_is_that_of_the_measuring_time() -> None:
    """Bytes before the end of the warm-up and after the measuring time do not count."""
    meter = Meter(warmup=1.0, seconds=2.0)
    for tenth in range(50):  # 1 Mbit/s at first, 10 while it counts, 1 again
        meter.arrived(125_000 if 10 < tenth <= 30 else 12_500, 100 + tenth / 10)
    assert meter.mbit() == pytest.approx(10.0)


def test_without_enough_time_there_is_no_rate() -> None:
    """A stream that ends within the warm-up has the rate 0."""
    meter = Meter(warmup=1.0, seconds=2.0)
    meter.arrived(1000, 5.0)
    meter.arrived(1000, 5.5)
    assert meter.mbit() == 0.0


def test_the_longest_gap_is_after_the_warm_up() -> None:
    """The longest silence that ends after the warm-up is reported with its end, the silence before the end too."""
    meter = Meter(warmup=1.0, seconds=9.0)
    for now in (0.0, 0.9, 1.0, 1.1, 1.5, 1.6):
        meter.arrived(1, now)
    assert meter.longest_gap == pytest.approx(0.4)
    assert meter.gap_ended == 1.5
    meter.arrived(0, 3.0)
    assert meter.longest_gap == pytest.approx(1.4)
    assert meter.gap_ended == 3.0


def test_the_rate_between_two_times() -> None:
    """The mean rate counts from the first to the last report between the times; without two of them it is 0."""
    progress = [Progress(at / 10, at * 125_000) for at in range(31)]
    assert rate_between(progress, 0.95, 2.05) == pytest.approx(10.0)
    assert rate_between(progress, 2.91, 3.5) == 0.0


def test_both_ends_agree_over_a_socket() -> None:
    """A short stream over the loopback arrives whole and right, and the sender is told so."""
    port = free_port()
    results = []
    taker = threading.Thread(target=lambda: results.append(receive("127.0.0.1", port, 0.0, 0.05)))
    taker.start()
    sent = eventually_send(port)
    taker.join()
    assert (results[0].bytes, results[0].verified, results[0].error) == (sent, True, "")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def eventually_send(port: int) -> int:
    """Send as soon as the receiver listens."""
    while True:
        try:
            return send("127.0.0.1", port, 0.05)
        except ConnectionRefusedError:
            continue


def test_a_receiver_that_found_an_error_fails_the_sender() -> None:
    """The sender raises when the receiver counts other bytes than were sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def lie() -> None:
            stream, _ = server.accept()
            with stream:
                while stream.recv(BLOCK):
                    pass
                stream.sendall(b'{"bytes": 1, "verified": true}\n')

        liar = threading.Thread(target=lie)
        liar.start()
        with pytest.raises(HostError, match="the receiver says"):
            send("127.0.0.1", server.getsockname()[1], 0.01)
        liar.join()
