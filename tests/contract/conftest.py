from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from mpt.data.datapath import PythonDataPath
from mpt.testing.datapath import Stage, closing
from tests.accel.loopback import loopback_stage
from tests.host.machines import FakeMachine, Machine, real_machine

try:
    from mpt.accel.native import NativeDataPath, can_seal
except ImportError:
    NativeDataPath = None  # type: ignore[assignment, misc]  # not built


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.netns)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The host layer's two implementations: a test of one must hold on the other."""
    if request.param == "fake":
        yield FakeMachine()
    else:
        with real_machine() as real:
            yield real


DATA_PATHS = {
    "python in memory": Stage.in_memory,
    "python on descriptors": lambda: Stage.on_descriptors(PythonDataPath),
    "python on loopback": lambda: loopback_stage(PythonDataPath),
}
if NativeDataPath is not None:
    DATA_PATHS["native on loopback"] = lambda: loopback_stage(NativeDataPath)
    # no runs of datagrams in one message: only UDP cuts them again
    DATA_PATHS["native on descriptors"] = lambda: Stage.on_descriptors(partial(NativeDataPath, gso=False))
WITHOUT_ADDRESSES = {"native on descriptors"}  # knows no peer from another, and has one connection on a socket
WITHOUT_MARKS = {"python on descriptors", "native on descriptors"}


SEALING = [name for name in DATA_PATHS if not name.startswith("native") or can_seal()]


@pytest.fixture(params=[name for name in SEALING if name not in WITHOUT_ADDRESSES])
def sealing_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A data path with sealed connections."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


ADAPTING = [name for name in SEALING if name not in WITHOUT_ADDRESSES]


@pytest.fixture(params=ADAPTING)
def adapting_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A data path with adaptive connections."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


@pytest.fixture(params=[name for name in ADAPTING if name in ("python in memory", "native on loopback")])
def fast_adapting_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """One of each, the fastest."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


@pytest.fixture(params=[name for name in SEALING if name not in WITHOUT_MARKS])
def sealing_marking_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The same on sockets whose datagrams have a TOS octet."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


@pytest.fixture(params=[name for name in SEALING if name.endswith("on loopback")])
def sealing_udp_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The same on real UDP sockets."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


@pytest.fixture(params=[name for name in SEALING if name in ("python in memory", "native on loopback")])
def fast_sealing_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """One of each, the fastest."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


@pytest.fixture(params=[name for name in DATA_PATHS if name not in WITHOUT_ADDRESSES])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A data path; its counters must add up at the end of every test, and after it was closed."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


@pytest.fixture(params=[name for name in DATA_PATHS if name not in WITHOUT_MARKS])
def marking_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The same on sockets whose datagrams have a TOS octet."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


@pytest.fixture(params=[name for name in DATA_PATHS if name.startswith("python")])
def python_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The Python data path alone, for what the native one bounds or orders otherwise (tests/accel)."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


@pytest.fixture(params=[name for name in DATA_PATHS if name.endswith("on loopback")])
def udp_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The same on real UDP sockets."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


@pytest.fixture(params=[name for name in DATA_PATHS if name.endswith("on descriptors")])
def descriptor_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The same on socketpairs, whose descriptors a test can let fail."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made


@pytest.fixture(params=[name for name in DATA_PATHS if name in ("python in memory", "native on loopback")])
def fast_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """One of each, the fastest, for what is done a hundred thousand times."""
    with closing(DATA_PATHS[request.param]()) as made:
        yield made
