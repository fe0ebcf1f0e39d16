"""The sixteen pairs of lines in virtual time: 20 MiB of TCP through an adaptive connection over both, beside the better
line alone through the same tunnel.

    python -m bench.simlines [--control bbr|cubic] [--only NAME,...] [--seeds N] [--mib N]
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from typing import Any, Final

from mpt.testing.simcongestion import Bbr, Cubic
from mpt.testing.simnet import MBIT, Simulation
from mpt.testing.simtunnel import Tunnel, ways

LONGEST: Final = 60.0  # s
CONTROLS: Final[dict[str, type[Cubic] | type[Bbr]]] = {"bbr": Bbr, "cubic": Cubic}
Lines = tuple[dict[str, Any], ...]


def line(mbit: float, milliseconds: float, jitter: float = 0.0, loss: float = 0.0) -> dict[str, Any]:
    """Return the arguments of a line; jitter in milliseconds, loss in per cent."""
    return {"rate": mbit * MBIT, "delay": milliseconds / 1000, "jitter": jitter / 1000, "loss": loss / 100}


PROFILES: Final[dict[str, Lines]] = {
    "baseline": (line(50, 20), line(50, 20)),
    "loss_05": (line(50, 20, 0, 0.5), line(50, 20, 0, 0.5)),
    "loss_2": (line(50, 20, 0, 2), line(50, 20, 0, 2)),
    "jit_5": (line(50, 20, 5), line(50, 20, 5)),
    "jit_20": (line(50, 20, 20), line(50, 20, 20)),
    "rtt_40": (line(50, 20), line(50, 40)),
    "rtt_70": (line(50, 20), line(50, 70)),
    "rtt_120": (line(50, 20), line(50, 120)),
    "rtt_320": (line(50, 20), line(50, 320)),
    "bw_4to1": (line(50, 20), line(12, 20)),
    "bw_10to1": (line(100, 20), line(10, 20)),
    "dual_lte": (line(40, 30, 5, 0.5), line(25, 45, 8, 0.5)),
    "fiber_lte": (line(300, 8), line(30, 40, 8, 0.5)),
    "lte_starlink": (line(40, 35, 8), line(100, 50, 25, 1)),
    "lte_geo": (line(40, 35), line(20, 320, 20, 0.5)),
    "congested": (line(20, 50, 20, 2), line(15, 60, 25, 2)),
}


def goodput(lines: Lines, control: Cubic | Bbr, octets: float, seed: int) -> float:
    """Return the Mbit/s of one transfer; what did not come within LONGEST counts by what came."""
    simulation = Simulation()
    tunnel = Tunnel(simulation, ways(simulation, *lines, seed=seed))
    tunnel.run(1.0)
    began = simulation.now
    sender, receiver = tunnel.tcp(control, octets)
    tunnel.run(LONGEST, lambda: sender.finished is not None)
    tunnel.close()
    return receiver.octets / ((sender.finished or simulation.now) - began) / MBIT


def report(names: Sequence[str], kind: type[Cubic] | type[Bbr], octets: float, seeds: int) -> None:
    """Run the profiles and print a table."""
    print(f"{kind.__name__.lower():14s} {'alone':>13s} {'both':>7s} {'of best':>8s} {'of rates':>9s}")
    shares: list[float] = []
    for name in names:
        lines = PROFILES[name]
        runs = range(1, seeds + 1)
        alone = [statistics.median(goodput((each,), kind(), octets, seed) for seed in runs) for each in lines]
        both = statistics.median(goodput(lines, kind(), octets, seed) for seed in runs)
        share = both / sum(each["rate"] for each in lines) * MBIT
        shares.append(share)
        beside = " / ".join(f"{each:.1f}" for each in alone)
        print(f"{name:14s} {beside:>13s} {both:7.1f} {both / max(alone):8.2f} {share:9.2f}", flush=True)
    print(f"{'geometric mean':38s} {math.exp(statistics.fmean(math.log(share) for share in shares)):14.3f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--control", choices=tuple(CONTROLS), action="append", help="of TCP; both by default")
    parser.add_argument("--only", default=",".join(PROFILES), help="names of pairs, with commas")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, of which the median counts")
    parser.add_argument("--mib", type=float, default=20.0, help="what is transferred")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if unknown := [name for name in names if name not in PROFILES]:
        parser.error(f"no such pair: {', '.join(unknown)}")
    for control in options.control or CONTROLS:
        report(names, CONTROLS[control], options.mib * 2**20, options.seeds)


if __name__ == "__main__":
    main()
