"""The private key of this host (session 1): a PEM file (PKCS #8, RFC 8410) that only its owner can read.

The key itself is in no error text. ``cryptography`` is imported when a key is read or made, so that programs without
keys start fast.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mpt.config.disk import give_to_owner_of_folder
from mpt.errors import ConfigError
from mpt.model import Identity

MAX_KEY_FILE = 4096  # octets; a key has 119
_OTHERS = 0o077  # the rights of group and world
_MODE = 0o600


def load_identity(path: Path) -> Identity:
    """Return the key pair in the file `path`. Raises ConfigError, whose text says what is wrong and what to do."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # asked before open(), which waits for ever at a FIFO
            raise ConfigError(f"{path} is not a regular file: a private key is one, made by `mpt genkey`")
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            data = stream.read(MAX_KEY_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"there is no private key {path}: make it with `mpt genkey {path}`") from None
    except PermissionError:
        text = f"the private key {path} cannot be read: give it to the user of mptsrv, `chown USER {path}`"
        raise ConfigError(text) from None
    except OSError as error:
        advice = ": it must belong to the user of the daemon" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"the private key {path} cannot be read: {error.strerror}{advice}") from error
    if mode & _OTHERS:
        raise ConfigError(
            f"the private key {path} is open to others (mode {mode:04o}): take it from them with `chmod 600 {path}`, "
            "and make a new one if they may have read it"
        )
    identity = _parsed(data) if len(data) <= MAX_KEY_FILE else None
    if identity is None:
        raise ConfigError(f"{path} is not an Ed25519 private key in PEM without a password, as `mpt genkey` makes it")
    return identity


def make_identity(path: Path) -> Identity:
    """Make a key pair and the file `path` for it, which must not be there yet. Raises ConfigError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    except FileExistsError:
        raise ConfigError(f"{path} exists and is not overwritten: name another file, or remove it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, _MODE)
            give_to_owner_of_folder(path, descriptor)
            stream.write(pem)
            stream.flush()
            os.fsync(descriptor)
    except OSError as error:
        os.unlink(path)
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    return Identity(key.private_bytes_raw(), key.public_key().public_bytes_raw())


def _parsed(data: bytes) -> Identity | None:
    """Return the key pair in a PEM text, None if it has none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        return None
    if not isinstance(key, Ed25519PrivateKey):
        return None
    return Identity(key.private_bytes_raw(), key.public_key().public_bytes_raw())
