"""Adaptive connections over real lines: the sum of unequal lines without a rate in any file, and a line that goes."""

from __future__ import annotations

import time
from itertools import pairwise

from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.transfer import Progress, Transfer, rate_between
from tests.netns.support import no_traceback as no_traceback
from tests.netns.support import on_every_data_plane, wait_until
from tests.netns.support_sealed import B, SealedHosts, wait_for_answer

RATES = {"native": (20, 10), "python": (6, 3)}  # Mbit/s; a busy machine must not be the narrowest place
PAYLOAD = 0.92  # of these at an MTU of 1400
DEAD = 0.5  # s without an octet when a line dies silently, on a machine that may be busy; 0.2 on a quiet one
PULLED = 0.4  # s; 0.15
BACK = 2.5  # s after which a line that is there again carries its share


class Stream:
    """A TCP stream from a to b while things happen, and its progress."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self.progress: list[Progress] = []

    def go_on(self, seconds: float) -> float:
        """Let it run for so long; return the Mbit/s in that time, the first 0.2 s left out."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            time.sleep(0.02)
            self.progress += self._transfer.poll()
        return rate_between(self.progress, began + 0.2, time.monotonic())

    def gap_after(self, at: float) -> float:
        """Return the longest time without an octet in the second after `at`."""
        times = [each.at for each in self.progress if at - 0.3 <= each.at <= at + 1.0]
        return max(later - earlier for earlier, later in pairwise(times))


@on_every_data_plane
def test_unequal_lines_carry_their_sum_and_one_that_goes_is_hardly_noticed(lab: Lab, data_plane: str) -> None:
    """Nobody has told the rates. A line dies silently and comes back, then its cable is pulled and put in again."""
    hosts, rates = SealedHosts(lab), RATES[data_plane]
    for link, rate in zip(hosts.links, rates, strict=True):
        link.shape(Shape(rate_mbit=rate, queue_ms=300))
    hosts.write(lines=["scheduler = adaptive"])
    site, _ = hosts.start()
    wait_for_answer(hosts.a, B, 10.0)
    wait_until(lambda: site.status()["connections"][0]["adaptive"]["peer_adapts"], "the word of the peer")
    transfer = Transfer(hosts.a, hosts.b, B, seconds=11, warmup=1, congestion="cubic")
    stream = Stream(transfer)
    stream.go_on(2.5)
    both = stream.go_on(2.0)
    lost = time.monotonic()
    hosts.links[0].black_hole()
    one = stream.go_on(1.2)
    hosts.links[0].restore()
    stream.go_on(BACK)
    pulled = time.monotonic()
    hosts.links[0].pull()
    stream.go_on(1.0)
    hosts.links[0].plug()
    result = transfer.finish()
    gaps = stream.gap_after(lost), stream.gap_after(pulled)
    print(f"\n{both:.1f} Mbit/s, one line {one:.1f}, gaps {gaps[0]:.3f} and {gaps[1]:.3f} s")
    assert result.verified
    assert both > 0.75 * PAYLOAD * sum(rates) > PAYLOAD * max(rates)
    assert one > 0.7 * PAYLOAD * rates[1]
    assert gaps[0] < DEAD and gaps[1] < PULLED
    (connection,) = site.status()["connections"]
    assert [path["adaptive"]["octets_sent"] > 500_000 for path in connection["paths"]] == [True, True]
    assert connection["adaptive"]["resent"] > 0
