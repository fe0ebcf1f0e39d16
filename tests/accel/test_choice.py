"""Which data path is taken, and what is said about it."""

from __future__ import annotations

import os
import sys

import pytest

from mpt.accel import IFF_VNET_HDR, choose_datapath
from mpt.data.datapath import PythonDataPath
from mpt.errors import ConfigError
from mpt.testing.tun import FakeTun


def test_python_is_always_there() -> None:
    """The reference needs nothing."""
    plane = choose_datapath("python")
    assert (plane.name, plane.why, plane.make) == ("python", "asked for", PythonDataPath)
    assert not plane.tun_flags & IFF_VNET_HDR


def test_a_wrong_choice() -> None:
    """The operator is told the right ones."""
    with pytest.raises(ConfigError, match="data_plane = fast: write auto, python or native"):
        choose_datapath("fast")


def test_auto_without_the_native_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without it runs in Python, and says why; asked for, it is an error with advice."""
    monkeypatch.setitem(sys.modules, "mpt.accel.native", None)
    plane = choose_datapath()
    assert plane.name == "python"
    assert "the native one is not there" in plane.why
    with pytest.raises(ConfigError, match="MPT_BUILD_NATIVE=yes"):
        choose_datapath("native")


def test_auto_takes_the_native_one() -> None:
    """With its TUN flags: super-packets only if the TUN may offload."""
    native = pytest.importorskip("mpt.accel.native", exc_type=ImportError)
    plane = choose_datapath()
    assert plane.name == "native"
    assert plane.tun_flags & IFF_VNET_HDR
    assert not choose_datapath("native", tun_offload=False).tun_flags & IFF_VNET_HDR
    tun = FakeTun()
    made = plane.make(tun.fd, lambda path, now: None)
    assert isinstance(made, native.NativeDataPath)
    made.close()
    os.close(tun.fd)
    tun.close()
