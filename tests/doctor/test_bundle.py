"""The bundle of `mpt doctor` has no secret, wherever in the configuration it stands."""

from __future__ import annotations

from pathlib import Path

from mpt.config.identity import make_identity
from mpt.config.parser import read_text
from mpt.doctor.bundle import configuration_text, fingerprint, secrets_in, without_secrets
from tests.config.files import PEER_KEY

AUTH_KEY = "C0FFEE" * 10 + "ABCD"
JOIN = "mpt1:NDAoIeyJjbGllbnQiOiJsYXB0b3AiLCJrZXkiOiJLYXk2NVVH"
FILE = f"""\
; my old key was Kangaroo-1
[connection]
name = home
auth_key = "Kangaroo-2" ; Kangaroo-3
Auth_Kye = Kangaroo-4
peer_key = {PEER_KEY}
[path_0]
interface_name = eth1
remote_ipaddr = 192.0.2.10
[remarks]
password = Kangaroo-5
"""


def test_of_a_file_only_what_is_known_is_shown() -> None:
    """No comment, no secret, no unknown key."""
    shown = configuration_text(read_text(FILE, Path("home.conf")))
    assert "Kangaroo" not in shown
    assert shown.splitlines()[:6] == [
        "[connection]",
        "name = home",
        "auth_key = (hidden)",
        "auth_kye = (hidden)",
        f"peer_key = {PEER_KEY}",
        "",
    ]


def test_secrets_are_gone_wherever_they_stand(tmp_path: Path) -> None:
    """The key of authentication, the private key, what looks like one, and join texts; public keys can be compared."""
    ini = read_text(f"[connection]\nauth_key = {AUTH_KEY}\n", Path("home.conf"))
    make_identity(tmp_path / "private.key")
    pem = (tmp_path / "private.key").read_text()
    secrets = secrets_in([ini], pem)
    body = pem.splitlines()[1]
    assert secrets == {AUTH_KEY, body}
    told = f"a {AUTH_KEY} b {body} c {pem} d {'ab' * 32} e {JOIN} f {PEER_KEY} g"
    clean = without_secrets({"log": told}, secrets)["log"]
    for secret in (AUTH_KEY, body, "PRIVATE KEY", "abab", JOIN, PEER_KEY):
        assert secret not in clean
    assert clean.startswith("a (hidden) b (hidden) c ") and clean.endswith(f" f {fingerprint(PEER_KEY)} g")
    assert fingerprint(PEER_KEY) != fingerprint(PEER_KEY.replace("K", "L"))
