"""Whose fault it is, as a type. The text of an error is the message that the operator reads."""

from typing import ClassVar


class MptError(Exception):
    """Base of everything that mpt raises on purpose; its text is one screen at most and needs no traceback."""

    exit_status: ClassVar[int] = 1
    """How mptsrv ends when its start fails so."""


class ConfigError(MptError):
    """The configuration is wrong: the text names file, line, section, key, the bad value and what to write instead."""

    exit_status = 78  # EX_CONFIG of sysexits.h: another start does not help, so conf/mpt.service does not restart


class HostError(MptError):
    """This machine refuses something: no /dev/net/tun, no privilege, a name or port in use, no such interface."""


class PeerError(MptError):
    """The other end of a connection answered wrongly, refused, or did not answer."""


class DecodeError(MptError):
    """Bytes from the network break a rule; ``reason`` is the name of the counter that counts them."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
