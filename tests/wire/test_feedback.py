"""The messages with which two adaptive ends measure their paths."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.errors import DecodeError
from mpt.wire.feedback import (
    LARGEST,
    LONGEST_HELD,
    MOST_RANGES,
    PROBE_MESSAGE,
    Feedback,
    Record,
    decode,
    encode,
    length,
)

BARE = Record(0xA1B2C3D4, 1, 5, 6, 7000, None, None, 0x1234, None)
FULL = BARE._replace(least=16, median=32, held=LONGEST_HELD, ranges=((3, 2), (0xFFFFFFFF, 1)))
REPORT = Feedback(1600, 4800, 1_000_000, (BARE, FULL))


def test_the_octets_of_a_report() -> None:
    """Header, a record without delays, and one with ranges, as the protocol's page gives them."""
    assert encode(REPORT).hex() == (
        "42" "01" "02" "0640" "12c0" "000f4240"
        "a1b2c3d4" "01" "00" "00000005" "00000006" "0000000000001b58" "ffff" "ffff" "1234" "ffff"
        "a1b2c3d4" "01" "02" "00000005" "00000006" "0000000000001b58" "0010" "0020" "1234" "fffe"
        "00000003" "0002" "ffffffff" "0001"
    )  # fmt: skip


def test_a_suspect_path_has_a_bit_beside_it() -> None:
    """The highest one: ids of paths are below 64."""
    octets = encode(Feedback(0, None, 0, (BARE._replace(suspect=True),)))
    assert octets[11 + 4] == 0x81


def test_the_example_of_the_documentation() -> None:
    """docs/protocol.md shows these octets."""
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    [digits] = re.findall(r"^feedback\n([0-9a-f]+)$", text, re.MULTILINE)
    record = Record(0x01020304, 1, 9, 8, 8 * 1070, 3, 5, 0x1234, 1, ((4, 2),))
    assert decode(bytes.fromhex(digits)) == Feedback(1600, None, 12_345_678, (record,))


records = st.builds(
    Record,
    session=st.integers(0, 2**32 - 1),
    path=st.integers(0, 63),
    settled=st.integers(0, 2**32 - 1),
    packets=st.integers(0, 2**32 - 1),
    octets=st.integers(0, 2**64 - 1),
    least=st.integers(0, 0xFFFE),
    median=st.integers(0, 0xFFFF),
    echo=st.integers(0, 0xFFFF),
    held=st.none() | st.integers(0, LONGEST_HELD),
    ranges=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 0xFFFF)), max_size=MOST_RANGES).map(tuple),
    suspect=st.booleans(),
)


@given(
    st.builds(
        Feedback,
        hold=st.integers(0, 0xFFFF),
        playout=st.none() | st.integers(0, 0xFFFF),
        clock=st.integers(0, 2**32 - 1),
        records=st.lists(records, max_size=2).map(tuple),
    )
)
def test_a_report_comes_back(report: Feedback) -> None:
    """A report is read as it was written, and is as long as `length` says."""
    octets = encode(report)
    assert len(octets) == length(report.records) <= LARGEST
    assert decode(octets) == report._replace(acks=report.acks and report.playout is not None)


def test_the_report_of_nothing() -> None:
    """A playout that is not valid, and a delay that nobody measured, are None."""
    report = Feedback(0, None, 0, (BARE,))
    assert decode(encode(report)) == report


def test_a_delay_of_all_ones_is_not_taken_for_none() -> None:
    """One tick less is written."""
    (record,) = decode(encode(Feedback(0, None, 0, (BARE._replace(least=0xFFFF, median=0xFFFF),)))).records
    assert (record.least, record.median) == (0xFFFE, 0xFFFF)


def test_counters_turn_over() -> None:
    """They are written modulo the width of their fields; a wait of seconds is unknown."""
    grown = BARE._replace(settled=2**32 + 1, packets=2**32 + 2, octets=2**64 + 3, held=0x10000)
    (record,) = decode(encode(Feedback(0x10000, None, 2**32 + 4, (grown,)))).records
    assert record == BARE._replace(settled=1, packets=2, octets=3)


@pytest.mark.parametrize(
    "records",
    [
        (BARE._replace(ranges=((0, 1),) * (MOST_RANGES + 1)),),
        (BARE._replace(ranges=((0, 1),) * MOST_RANGES),) * 4,
    ],
)
def test_too_long_a_report_is_not_written(records: tuple[Record, ...]) -> None:
    """Whoever makes it chooses what is left out."""
    with pytest.raises(ValueError, match="too long"):
        encode(Feedback(0, None, 0, records))


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "message_unknown"),
        (PROBE_MESSAGE, "message_unknown"),
        (encode(REPORT)[:-1], "message_short"),
        (encode(REPORT)[:12], "message_short"),
        (encode(REPORT)[:4], "message_short"),
        (encode(REPORT).ljust(LARGEST + 1, b"\0"), "message_size"),
        (encode(Feedback(0, None, 0, (BARE,)))[:16] + b"\x3d" + bytes(600), "message_size"),
    ],
)
def test_broken_reports(octets: bytes, reason: str) -> None:
    """Each is refused with its reason."""
    with pytest.raises(DecodeError) as caught:
        decode(octets)
    assert caught.value.reason == reason


@given(st.binary(max_size=300).map(lambda rest: b"\x42" + rest))
def test_whatever_comes_is_read_or_refused(octets: bytes) -> None:
    """Nothing but DecodeError is raised."""
    try:
        decode(octets)
    except DecodeError:
        pass


def test_a_probe_is_no_smaller_than_carriers_pass() -> None:
    """It has 32 octets."""
    assert len(PROBE_MESSAGE) == 32 and PROBE_MESSAGE[0] == 0x49
