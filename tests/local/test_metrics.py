"""The metrics are all documented, and `mpt metrics` writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mpt.cli.main import main
from mpt.local.metrics import exposition
from mpt.local.protocol import Reply, encode_reply
from tests.cli.daemons import unix_daemon
from tests.local.test_status import DOCUMENT

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()


def test_every_metric_is_documented() -> None:
    """By its name, a counter with _total."""
    for family in text_string_to_metric_families(exposition(DOCUMENT).decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"`{name}`" in DOCUMENTED, name


def test_mpt_metrics_prints_them_or_writes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is whole or not there; a directory that is not there is one line."""
    monkeypatch.setenv("MPT_CONTROL_SOCKET", str(tmp_path / "mpt.sock"))
    shown = encode_reply(1, Reply(0, "", DOCUMENT.as_json()))
    with unix_daemon(tmp_path / "mpt.sock", shown):
        assert main(["metrics"]) == 0
    assert capsys.readouterr().out == exposition(DOCUMENT).decode()
    with unix_daemon(tmp_path / "mpt.sock", shown):
        assert main(["metrics", str(tmp_path / "mpt.prom")]) == 0
    assert (tmp_path / "mpt.prom").read_bytes() == exposition(DOCUMENT)
    with unix_daemon(tmp_path / "mpt.sock", shown):
        assert main(["metrics", str(tmp_path / "nothing" / "mpt.prom")]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mpt.prom"]
