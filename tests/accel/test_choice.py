"""The choice of the data path, and the message about it."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest

from mpt.accel.choice import TO_HAVE_IT, choose_datapath, configured_datapath
from mpt.data.datapath import PythonDataPath
from mpt.errors import ConfigError
from mpt.host.tun import IFF_VNET_HDR
from mpt.model import GeneralConfig
from mpt.testing.tun import FakeTun


def test_python_is_always_there() -> None:
    """The reference needs nothing."""
    plane = choose_datapath("python")
    assert (plane.name, plane.why) == ("python", "asked for")
    assert isinstance(plane.make(-1), PythonDataPath)
    assert not plane.tun_flags & IFF_VNET_HDR


def test_a_wrong_choice() -> None:
    """The operator is told the right ones."""
    with pytest.raises(ConfigError, match="data_plane = fast: write auto, python or native"):
        choose_datapath("fast")


def without(monkeypatch: pytest.MonkeyPatch, native: ModuleType | None) -> None:
    """An installation with `native` in place of the extension; None: it was not built."""
    monkeypatch.delitem(sys.modules, "mpt.accel.native", raising=False)
    monkeypatch.setitem(sys.modules, "mpt.accel._native", native)


def test_the_native_one_was_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without it runs in Python, and says how to get it; asked for, it is an error with that advice."""
    without(monkeypatch, None)
    plane = choose_datapath()
    assert plane.name == "python"
    assert plane.why == f"the native one was not built. {TO_HAVE_IT}"
    assert "gcc, python3-dev and libssl-dev" in TO_HAVE_IT
    assert "MPT_BUILD_NATIVE=yes pip install --force-reinstall --no-cache-dir ." in TO_HAVE_IT
    with pytest.raises(ConfigError) as caught:
        choose_datapath("native")
    assert str(caught.value) == (
        f"data_plane = native: the native data path was not built. Write auto to do without. {TO_HAVE_IT}"
    )


def test_the_native_one_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it was not built is not said then, but what is wrong with it."""
    without(monkeypatch, ModuleType("mpt.accel._native"))
    plane = choose_datapath()
    assert plane.name == "python"
    assert plane.why.startswith("the native one was built but does not load (cannot import name 'ffi'")
    with pytest.raises(ConfigError, match="data path was built but does not load \\(cannot import"):
        choose_datapath("native")


def test_the_variable_wins_over_the_configuration() -> None:
    """$MPT_DATA_PLANE is the choice where it is set; empty, it is not."""
    assert configured_datapath(GeneralConfig(data_plane="native"), {"MPT_DATA_PLANE": "python"}).name == "python"
    assert configured_datapath(GeneralConfig(data_plane="python"), {"MPT_DATA_PLANE": ""}).name == "python"
    assert configured_datapath(GeneralConfig(data_plane="python"), {}).why == "asked for"


def test_an_error_names_where_the_choice_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, or the key: it is there that the operator has to write something else."""
    without(monkeypatch, None)
    with pytest.raises(ConfigError, match=r"^MPT_DATA_PLANE = fast: write auto, python or native$"):
        configured_datapath(GeneralConfig(data_plane="python"), {"MPT_DATA_PLANE": "fast"})
    with pytest.raises(ConfigError, match=r"^MPT_DATA_PLANE = native: the native data path was not built"):
        configured_datapath(GeneralConfig(data_plane="python"), {"MPT_DATA_PLANE": "native"})
    with pytest.raises(ConfigError, match=r"^data_plane = native: the native data path was not built"):
        configured_datapath(GeneralConfig(data_plane="native"), {})


def test_auto_takes_the_native_one() -> None:
    """With its TUN flags: super-packets only if the TUN may offload."""
    native = pytest.importorskip("mpt.accel.native", exc_type=ImportError)
    plane = choose_datapath()
    assert plane.name == "native"
    assert plane.tun_flags & IFF_VNET_HDR
    assert not choose_datapath("native", tun_offload=False).tun_flags & IFF_VNET_HDR
    tun = FakeTun()
    made = plane.make(tun.fd)
    assert isinstance(made, native.NativeDataPath)
    made.close()
    os.close(tun.fd)
    tun.close()


def test_openssl_may_do_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where libipsec-mb is there but not wanted."""
    native = pytest.importorskip("mpt.accel.native", exc_type=ImportError)
    monkeypatch.setattr(native, "can_seal", lambda: True)
    monkeypatch.setattr(native, "sealing_libraries", lambda gcm: "both" if gcm else "OpenSSL")
    assert configured_datapath(GeneralConfig(), {}).told(True).endswith("; it seals with both")
    plane = configured_datapath(GeneralConfig(data_plane="native"), {"MPT_GCM": "openssl"})
    assert plane.told(True) == "the data path is native: asked for; it seals with OpenSSL"
    assert choose_datapath("python").told(True) == "the data path is python: asked for; it seals with cryptography"


def test_without_openssl_sealed_connections_take_the_python_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their tunnels alone; the operator is told why, and what to install, if there are such connections."""
    native = pytest.importorskip("mpt.accel.native", exc_type=ImportError)
    monkeypatch.setattr(native, "can_seal", lambda: False)
    plane = choose_datapath()
    assert [plane.for_tunnel(sealed).name for sealed in (False, True)] == ["native", "python"]
    assert plane.told(False) == "the data path is native: it was built"
    assert plane.told(True) == (
        "the data path is native: it was built; tunnels with sealed connections have the python one: "
        f"the native one was built without OpenSSL. {TO_HAVE_IT}"
    )
    monkeypatch.setattr(native, "can_seal", lambda: True)
    plane = choose_datapath()
    assert plane.for_tunnel(True) is plane
    assert plane.told(True).startswith("the data path is native: it was built; it seals with ")
