"""``key_log``: the keys of sessions in a file, for those who debug. Who has the file reads everything.

A line for each direction of a session: MPT_SESSION, the session index in its datagrams, the cipher, the key and the iv.
``scripts/open-capture`` reads it.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.logger import Logger

from mpt.errors import HostError
from mpt.wire.seal import SessionKeys

log = Logger()


class KeyLog:
    """The file at `path`, opened at the start: later the daemon may have lost the right. Raises HostError."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, 0o600)
            os.fchmod(self._file, 0o600)
        except OSError as error:
            raise HostError(f"key_log = {path}: it cannot be written: {error.strerror}") from error
        log.warn(
            "KEYS ARE WRITTEN TO {path}: who reads this file can read everything that the sealed connections carry;"
            " remove key_log from [general] when you have what you need",
            path=path,
        )

    def session(self, keys: SessionKeys) -> None:
        """Write the keys of a new session, before the data path takes them."""
        length = keys.cipher.key_length
        lines = "".join(
            f"MPT_SESSION {index:08x} {keys.cipher.value} {key[:length].hex()} {iv.hex()}\n"
            for index, key, iv in (
                (keys.index, keys.receive_key, keys.receive_iv),
                (keys.peer_index, keys.send_key, keys.send_iv),
            )
        )
        try:
            os.write(self._file, lines.encode())
        except OSError as error:
            log.error("the key log cannot be written: {why}", why=error.strerror)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
