"""One line loses much of what the peer sends over it: the tunnel does without it."""

from __future__ import annotations

from mpt.lab.lab import Lab
from mpt.lab.links import Shape
from mpt.lab.tunnel import Description, Tunnel
from tests.netns.support import at_least, figure_3, iperf3, no_path_falls, status_count, wait_until
from tests.netns.support import no_traceback as no_traceback

LINE = 20.0  # Mbit/s
FOUND = 40.0  # s: four measurements


def test_one_of_three_lines_loses_half_in_one_direction(lab: Lab) -> None:
    """The end that misses keepalives leaves the line and tells the other, which does the same; TCP has the other two
    lines' rate then. The log says why."""
    a, b, links = figure_3(lab, *[Shape(rate_mbit=LINE)] * 3)
    tunnel = Tunnel(Description(links, keepalive=0.1, dead=2.0, reorder_window=1000), lab.directory)
    at_a, at_b = tunnel.daemons
    with no_path_falls(at_a, at_b, paths=(0, 2)):
        before = status_count(at_b, 1, "down")
        links[1].shape(Shape(rate_mbit=LINE, loss_percent=50), Shape(rate_mbit=LINE))
        seconds = wait_until(lambda: status_count(at_b, 1, "down") > before, "host b leaves path_1", FOUND)
        wait_until(lambda: "(eth2 to 10.2.2.3): the peer says it is down" in at_a.process.output(), "host a is told")
        rate = at_least(0.7 * 2 * LINE, lambda: iperf3(a, b, "10.0.0.2", seconds=3))
    print(f"\n50 % lost on one of three lines: left after {seconds:.1f} s, TCP {rate:.1f} Mbit/s then")
    assert "of the peer's keepalives are lost on the way (max_loss = 30)" in at_b.process.output()
