from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.machines import FakeMachine, Machine, real_machine


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.netns)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The host layer's two implementations: what holds on one must hold on the other."""
    if request.param == "fake":
        yield FakeMachine()
    else:
        with real_machine() as real:
            yield real
