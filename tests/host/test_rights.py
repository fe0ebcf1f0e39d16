"""What a process may not become; what it becomes is in tests/netns/test_rights.py, on real processes."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from mpt.errors import HostError
from mpt.host import rights


def test_a_user_that_cannot_be_meant_is_refused() -> None:
    """There is no such user, or it is root under any name."""
    with pytest.raises(HostError, match="there is no user no-such-user: make one with: useradd"):
        rights.find_user("no-such-user")
    with pytest.raises(HostError, match="there is no user "):
        rights.find_user("nobody\0")
    with pytest.raises(HostError, match=f"the user {pwd.getpwuid(0).pw_name} has all rights"):
        rights.find_user(pwd.getpwuid(0).pw_name)


def test_only_root_becomes_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else is told so, and nothing has changed."""
    nobody = rights.find_user("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid + 1)
    with pytest.raises(HostError, match="only root can become the user nobody: start as root, or leave out --user"):
        rights.become(nobody, {rights.CAP_NET_ADMIN})


def test_a_directory_is_given_only_if_it_is_one(tmp_path: Path) -> None:
    """A link in its place would lead root elsewhere."""
    ourselves = pwd.getpwuid(os.geteuid())
    rights.give_directory(str(tmp_path / "new"), ourselves)
    rights.give_directory(str(tmp_path / "new"), ourselves)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755 & ~_umask()
    (tmp_path / "link").symlink_to(tmp_path / "new")
    with pytest.raises(NotADirectoryError):
        rights.give_directory(str(tmp_path / "link"), ourselves)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
