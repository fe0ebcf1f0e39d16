"""How late a daemon's keepalives are while links and routes of its host change, used and unused ones."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.load import KeepaliveWatch, lateness
from bench.measure import Effort, Figures
from bench.variants import Stage

ROUTES, PAIRS = 30_000, 300  # over a cable that no path uses; pairs of interfaces that nobody uses
SETTLE = 0.3  # seconds after each event
CABLE = [
    "link add cable0 type veth peer name cable1",
    *(f"link set cable{n} up" for n in (0, 1)),
    "address add 172.31.0.2/24 dev cable0",
]
OVER_IT = [f"route add {20 + n // 65536}.{n // 256 % 256}.{n % 256}.0/24 via 172.31.0.3" for n in range(ROUTES)]
UNUSED = (["link set x0 up"], ["link set x0 down"], ["link set cable0 down"], ["link set cable0 up"])
OTHERS = [f"link add x{n} type veth peer name y{n}" for n in range(PAIRS)]


def while_links_change(stage: Stage, effort: Effort) -> Figures:
    """Measure, on a host with many routes and interfaces, the latest keepalive of a in ms: while a cable that no path
    uses goes up and down, and then the cable under the routes, which takes them away; while an address of a path's
    interface comes and goes; and while a default route does."""
    count = effort.events
    stage.a.ip(*CABLE, *OTHERS)
    try:
        return {
            "events_cable_late_ms": _late(stage, count, OVER_IT, *UNUSED),
            "events_address_late_ms": _late(
                stage, count, OVER_IT, ["address add 10.77.0.1/24 dev eth1"], ["address del 10.77.0.1/24 dev eth1"]
            ),
            "events_default_late_ms": _late(
                stage, count, [], ["route add default via 172.31.0.3"], ["route del default via 172.31.0.3"]
            ),
        }
    finally:
        stage.a.ip("link del cable0", *(f"link del x{n}" for n in range(PAIRS)))


def _late(stage: Stage, count: int, before: Sequence[str], *events: Sequence[str]) -> float:
    """Return the latest keepalive of a while `events` happen `count` times, in ms; `before` comes first each time."""
    latest = 0.0
    for _ in range(count):
        stage.a.ip(*(line.replace("add", "replace", 1) for line in before))
        watch = KeepaliveWatch(stage.a)
        started = time.time()
        for lines in events:
            stage.a.ip(*lines)
            time.sleep(SETTLE)
        ended = time.time()
        sent = [at for at in watch.finish() if started <= at <= ended]
        latest = max(latest, lateness(started, sent, ended, stage.variant.keepalive))
    return latest * 1000
