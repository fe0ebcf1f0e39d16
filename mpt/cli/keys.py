"""``mpt genkey`` and ``mpt pubkey``: the key pair of this host."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mpt.cli.places import configuration_directory, locked, private_key_path
from mpt.config.identity import load_identity, make_identity
from mpt.local.protocol import DONE


def genkey(arguments: Sequence[str]) -> int:
    """Make the private key, print the public one; return the exit status. Raises ConfigError."""
    file = _file("genkey", "Make the private key of this host, and print its public key for the peers.", arguments)
    if file is not None:
        print(make_identity(file).public_text)
        return DONE
    directory = _directory()
    with locked(directory):
        print(make_identity(private_key_path(directory)).public_text)
    return DONE


def pubkey(arguments: Sequence[str]) -> int:
    """Print the public key; return the exit status. Raises ConfigError."""
    file = _file("pubkey", "Print the public key of this host, which its peers need.", arguments)
    print(load_identity(private_key_path(_directory()) if file is None else file).public_text)
    return DONE


def _directory() -> Path:
    return configuration_directory(None, os.environ, Path.cwd())


def _file(name: str, about: str, arguments: Sequence[str]) -> Path | None:
    parser = argparse.ArgumentParser(f"mpt {name}", description=about)
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="the private key (default: private_key_file of interface.conf)",
    )
    found: Path | None = parser.parse_args(arguments).file
    return found
