"""The settings that `mpt reload` changes under every service at once."""

from __future__ import annotations

from dataclasses import dataclass

from mpt.model import GeneralConfig


@dataclass(slots=True)
class Settings:
    """Section [general] of interface.conf, as read last; a reload replaces it."""

    general: GeneralConfig
