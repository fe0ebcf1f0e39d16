"""What `mpt reload` can change under every service at once."""

from __future__ import annotations

from dataclasses import dataclass

from mpt.model import GeneralConfig


@dataclass(slots=True)
class Settings:
    """Section [general] of interface.conf as it was read last; a reload puts another value here."""

    general: GeneralConfig
