"""The settings that `mpt reload` changes under every service at once."""

from __future__ import annotations

from dataclasses import dataclass

from mpt.host.system import System
from mpt.model import GeneralConfig, Identity


@dataclass(slots=True)
class Settings:
    """Section [general] of interface.conf, as read last; a reload replaces it. `identity` is the key pair of this host,
    None until a connection is sealed; a new one takes a new start."""

    general: GeneralConfig
    identity: Identity | None = None

    def protect(self, system: System) -> None:
        """Let nobody read our memory if it has a private key; call it when `identity` may be new."""
        if self.identity is not None:
            system.forbid_dumps()
