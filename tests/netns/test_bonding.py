"""One TCP stream gets the sum of unequal paths. Figures are goodput in Mbit/s as the receiver sees it.

The rates are such that a shared machine has the time for them, also on the Python data path.
"""

from __future__ import annotations

from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.tunnel import Description, Tunnel
from tests.netns.support import answers, at_least, figure_3, on_every_data_plane, stream, wait_until
from tests.netns.support import no_traceback as no_traceback

CEILING = 0.9315  # of the rate of a path: a full segment of 1388 bytes is a frame of 1490, as tbf counts it


@on_every_data_plane
def test_unequal_rates_with_weights(lab: Lab) -> None:
    """Paths of 50 and 10 Mbit/s with weights 5:1 carry one TCP stream at 90 % of the possible sum or more."""
    a, b, links = figure_3(lab, Shape(rate_mbit=50), Shape(rate_mbit=10))
    Tunnel(Description(links, weights=(5, 1), reorder_window=1000), lab.directory)
    wait_until(lambda: answers(a, "10.0.0.2"), "an answer through the tunnel")
    possible = 60 * CEILING
    bonded = at_least(0.9 * possible, lambda: stream(a, b, "10.0.0.2"))
    print(f"\n50 + 10 Mbit/s, weights 5:1: {bonded:.1f} of {possible:.1f} ({bonded / possible:.1%})")


@on_every_data_plane
def test_unequal_delays_with_a_reorder_window(lab: Lab) -> None:
    """Two paths of 25 Mbit/s whose delays are 5 and 45 ms carry one TCP stream at 85 % of the sum or more with a window
    that fits."""
    a, b, links = figure_3(lab, Shape(rate_mbit=25, delay_ms=5), Shape(rate_mbit=25, delay_ms=45))
    possible = 50 * CEILING
    Tunnel(Description(links, reorder_window=1000), lab.directory)
    wait_until(lambda: answers(a, "10.0.0.2"), "an answer through the tunnel")
    bonded = at_least(0.85 * possible, lambda: stream(a, b, "10.0.0.2", seconds=7, warmup=3))
    print(f"\n25 + 25 Mbit/s, 5 and 45 ms: {bonded:.1f} of {possible:.1f} ({bonded / possible:.1%})")
