"""The texts of `mpt doctor --bundle`, without secrets: what somebody who helps wants to see.

Of the configuration only keys that we know have their values, and no comment is kept: an old key may stand there.
Then everything that looks like a key, a join text or a secret of this host is replaced in every text, whoever wrote it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from mpt.config.parser import IniFile
from mpt.config.schema import SPELLINGS

HIDDEN: Final = "(hidden)"
SHORTEST: Final = 4  # characters of a secret; replacing shorter ones would spoil the text

_PUBLIC_KEY = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=")
_LONG_HEX = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{64}(?![0-9A-Fa-f])")
_JOIN_TEXT = re.compile(r"mpt[0-9]{1,4}:[A-Za-z0-9_-]{16,}")
_PEM = re.compile(r"-----BEGIN [^-]+-----.*?-----END [^-]+-----", re.DOTALL)
_KNOWN = {spelling: key for keys in SPELLINGS.values() for spelling, key in keys.items()}


def configuration_text(ini: IniFile) -> str:
    """Return a file as it is read: sections and keys, without comments, secrets and the values of unknown keys."""
    lines: list[str] = []
    for section in ini.sections.values():
        lines += ["", f"[{section.title}]"]
        for spelling, entry in section.entries.items():
            key = _KNOWN.get(spelling)
            is_shown = key is not None and not key.secret
            lines.append(f"{spelling} = {entry.value if is_shown or not entry.value else HIDDEN}")
    return "\n".join(lines).lstrip() + "\n"


def secrets_in(files: Iterable[IniFile], private_key: str) -> set[str]:
    """Return the secrets of this host: the values of secret keys, and the lines of its private key."""
    found = {line.strip() for line in private_key.splitlines() if not line.startswith("-----")}
    for ini in files:
        for section in ini.sections.values():
            found |= {entry.value for name, entry in section.entries.items() if (k := _KNOWN.get(name)) and k.secret}
    return {each for each in found if len(each) >= SHORTEST}


def without_secrets(texts: Mapping[str, str], secrets: Collection[str]) -> dict[str, str]:
    """Return the texts without `secrets` and without whatever looks like one. A public key becomes a fingerprint, so
    that two ends can be compared."""
    return {name: _clean(text, secrets) for name, text in texts.items()}


def _clean(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern in (_PEM, _JOIN_TEXT, _LONG_HEX):
        text = pattern.sub(HIDDEN, text)
    return _PUBLIC_KEY.sub(lambda match: fingerprint(match[0]), text)


def fingerprint(key: str) -> str:
    """Return what stands for a public key."""
    return f"(key {hashlib.sha256(key.encode()).hexdigest()[:8]})"
