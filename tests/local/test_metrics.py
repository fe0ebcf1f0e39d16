"""The metrics are all documented, and `mpt metrics` writes them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mpt.cli.main import main
from mpt.local.metrics import exposition
from mpt.local.protocol import Reply, encode_reply
from tests.cli.daemons import unix_daemon
from tests.local.test_status import DOCUMENT

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()


def test_every_alert_is_documented() -> None:
    """By its name."""
    rules = (Path(__file__).parents[2] / "conf" / "monitoring" / "mpt-alerts.yml").read_text()
    names = re.findall(r"alert: (\w+)", rules)
    assert names and all(f"`{name}`" in DOCUMENTED for name in names)


def test_every_metric_is_documented() -> None:
    """By its name, a counter with _total."""
    for family in text_string_to_metric_families(exposition(DOCUMENT).decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"`{name}`" in DOCUMENTED, name


def test_the_reasons_to_drop_are_a_closed_list() -> None:
    """Failed system calls are one reason, whatever the kernel said, so that no time series comes up years later."""
    (tunnel,) = DOCUMENT.tunnels
    failed = replace(
        tunnel, egress_dropped={"loop": 1, "send_enobufs": 2, "send_eperm": 3}, ingress_dropped={"tun_full": 4}
    )
    text = exposition(replace(DOCUMENT, tunnels=[failed])).decode()
    (drops,) = (each for each in text_string_to_metric_families(text) if each.name == "mpt_tunnel_drops")
    found = {(sample.labels["direction"], sample.labels["reason"]): sample.value for sample in drops.samples}
    assert found == {("out", "send_error"): 5, ("out", "loop"): 1, ("in", "tun_error"): 0, ("in", "tun_full"): 4}


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
