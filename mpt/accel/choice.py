"""The choice of a tunnel's data path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Final

from mpt.data.datapath import DataPath, PythonDataPath
from mpt.errors import ConfigError
from mpt.host.tun import IFF_BACKPRESSURE, IFF_NO_PI, IFF_TUN, IFF_VNET_HDR
from mpt.model import DATA_PLANES, GeneralConfig
from mpt.values import listed

# pip hides the message of setup.py about this, so the daemon gives it.
TO_HAVE_IT: Final = (
    "To have it, install a C compiler and the headers of Python and OpenSSL (Debian: gcc, python3-dev and libssl-dev), "
    "then mpt again: MPT_BUILD_NATIVE=yes pip install --force-reinstall --no-cache-dir ."
)
_FLAGS: Final = IFF_TUN | IFF_NO_PI | IFF_BACKPRESSURE


def native_is_built() -> bool:
    """Return whether the extension of the native data path is there; it may still fail to load."""
    return find_spec("mpt.accel._native") is not None


@dataclass(frozen=True, slots=True)
class DataPathChoice:
    """A chosen data path: its `name`, `why` it was chosen, the TUNSETIFF flags of its TUN, and the function that makes
    it from the TUN's file descriptor; what tunnels with sealed connections get instead, if it cannot seal; and a
    function that returns what it seals with."""

    name: str
    why: str
    tun_flags: int
    make: Callable[[int], DataPath]
    instead: DataPathChoice | None = None
    seals_with: Callable[[], str] = lambda: "cryptography"

    @property
    def sealing(self) -> str:
        """Return what it seals with; the first who asks loads libipsec-mb, which takes 4 MB."""
        return self.seals_with()

    def for_tunnel(self, sealed: bool) -> DataPathChoice:
        """Return the data path of a tunnel that has sealed connections, or none."""
        return self.instead if sealed and self.instead is not None else self

    def told(self, sealed: bool) -> str:
        """Return the line that tells the operator which data path there is; `sealed`: there are sealed connections."""
        line = f"the data path is {self.name}: {self.why}"
        if not sealed:
            return line
        if self.instead is None:
            return f"{line}; it seals with {self.sealing}"
        return f"{line}; tunnels with sealed connections have the {self.instead.name} one: {self.instead.why}"


def configured_datapath(general: GeneralConfig, environ: Mapping[str, str]) -> DataPathChoice:
    """Return the data path that a configuration names. Raises ConfigError.

    $MPT_DATA_PLANE takes precedence. With $MPT_GCM = openssl the native one seals with OpenSSL alone.
    """
    variable = environ.get("MPT_DATA_PLANE")
    return choose_datapath(
        variable or general.data_plane,
        general.gso,
        general.tun_offload,
        "MPT_DATA_PLANE" if variable else "data_plane",
        environ.get("MPT_GCM") != "openssl",
    )


def choose_datapath(
    choice: str = "auto",
    gso: bool = True,
    tun_offload: bool = True,
    setting: str = "data_plane",
    gcm: bool = True,
) -> DataPathChoice:
    """Return the data path that `choice` names; "auto" takes the native one if it was built. Raises ConfigError.

    Without `gso` every datagram is sent and received by itself, without `tun_offload` every packet is read and written
    by itself. `setting` names the key or variable of the choice. With `gcm` AES-GCM may be that of libipsec-mb.
    """
    if choice not in DATA_PLANES:
        raise ConfigError(f"{setting} = {choice}: write {listed(DATA_PLANES)}")
    if choice == "python":
        return _python("asked for", gso)
    try:
        from mpt.accel.native import TURN, NativeDataPath, allow_gcm, can_seal, sealing_libraries
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "mpt.accel._native"
        wrong = "was not built" if absent else f"was built but does not load ({error})"
        if choice == "auto":
            return _python(f"the native one {wrong}. {TO_HAVE_IT}", gso)
        raise ConfigError(
            f"{setting} = native: the native data path {wrong}. Write auto to do without. {TO_HAVE_IT}"
        ) from error

    def make(tun: int) -> DataPath:
        return NativeDataPath(tun, gso, tun_offload, turn=TURN)

    flags = _FLAGS | (IFF_VNET_HDR if tun_offload else 0)
    instead = None if can_seal() else _python(f"the native one was built without OpenSSL. {TO_HAVE_IT}", gso)
    why = "asked for" if choice == "native" else "it was built"
    allow_gcm(gcm)
    return DataPathChoice("native", why, flags, make, instead, partial(sealing_libraries, gcm))


def _python(why: str, gso: bool) -> DataPathChoice:
    return DataPathChoice("python", why, _FLAGS, lambda tun: PythonDataPath(tun, gso))
