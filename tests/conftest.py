"""Shared by the whole suite: the Hypothesis profiles, and the count of namespace tests at the end of a run."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from mpt.accel.choice import native_is_built
from mpt.lab.lab import sweep
from tests.turns import Turns, first_alone, in_turn, seat

# `gate` finds the same things on every machine; `fast` is an eighth of it, for scripts/test --fast; `hunt` looks for
# new things: MPT_HYPOTHESIS=hunt scripts/test tests/wire
for name, examples in (("gate", 200), ("fast", 25)):
    settings.register_profile(
        name, derandomize=True, deadline=None, max_examples=examples, suppress_health_check=[HealthCheck.too_slow]
    )
settings.register_profile("hunt", deadline=None, max_examples=20_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("MPT_HYPOTHESIS", "gate"))

NETNS_TESTS = Path(__file__).parent / "netns"
NEEDS_ROOT = "needs root: sudo scripts/test"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole-suite",
        action="store_true",
        help="as root, fail unless every namespace test was run, and what needs the sanitizers (scripts/test)",
    )


def pytest_configure(config: pytest.Config) -> None:
    whole = config.getoption("--whole-suite")
    if whole and not native_is_built() and os.environ.get("MPT_BUILD_NATIVE") != "no":
        raise pytest.UsageError("the native data path is not built, its tests would be skipped: try pip install -v")
    if not hasattr(config, "workerinput"):  # the workers of pytest-xdist report to the process that counts
        config.pluginmanager.register(NamespaceTally(strict=whole and os.geteuid() == 0))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the leftovers of killed workers, as after ^C."""
    if os.geteuid() == 0 and getattr(config.option, "numprocesses", None):
        sweep()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Let one worker compile the tests, for all, and hide them from the garbage collector, which took a quarter of the
    time of a run to look them through."""
    run = getattr(session.config, "workerinput", {}).get("testrunuid")
    gc.disable()
    try:
        with first_alone(run) if run else nullcontext():
            return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(NETNS_TESTS):
            item.add_marker(pytest.mark.netns)
        if os.geteuid() != 0 and item.get_closest_marker("netns"):
            item.add_marker(pytest.mark.skip(reason=NEEDS_ROOT))
    if hasattr(config, "workerinput"):
        items[:] = in_turn(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Turns:
    """Let the workers of pytest-xdist take work in the order of `in_turn`."""
    return Turns(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let only so many tests of all workers compute at a time."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with seat(item, item.config.workerinput["testrunuid"]):
        return (yield)


class NamespaceTally:
    """Counts the namespace tests that ran, so that nobody takes a run that skipped them for a proof.

    `strict` makes the run fail when one was skipped, or when there was none.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.run = 0
        self.skipped = 0

    @property
    def failed(self) -> bool:
        return self.strict and (self.skipped > 0 or self.run == 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "netns" not in report.keywords:
            return
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped += 1
        elif report.when == "call":
            self.run += 1

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.failed and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not (self.run or self.skipped or self.strict):
            return
        line = f"namespace tests: {self.run} run"
        if self.skipped:
            line += f", {self.skipped} skipped" + ("" if os.geteuid() == 0 else f" ({NEEDS_ROOT})")
        if self.failed:
            line += "; FAILED: as root a whole run must run them all"
        terminalreporter.write_line(line, red=self.failed)
