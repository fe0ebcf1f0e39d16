"""What ships for monitoring, by Prometheus's own tools; and a real Prometheus that scrapes a real daemon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any, Final

from mpt.lab.hosts import Host
from mpt.lab.lab import Lab
from mpt.lab.process import python
from mpt.lab.tunnel import Description, Tunnel
from mpt.local.metrics import exposition
from tests.local.test_status import DOCUMENT
from tests.netns.support import figure_3, wait_until, wait_until_heard
from tests.netns.support import no_traceback as no_traceback

MONITORING: Final = Path(__file__).parents[2] / "conf" / "monitoring"
RULES: Final = MONITORING / "mpt-alerts.yml"
CASES: Final = Path(__file__).parent / "alerts.yml"


def test_the_rules_and_the_configuration_are_good(tmp_path: Path) -> None:
    """promtool finds no fault; an idle tunnel, a path down by hand and a client that never came make no alert."""
    promtool("check", "config", str(MONITORING / "prometheus.yml"))
    shutil.copy(RULES, tmp_path)
    shutil.copy(CASES, tmp_path)
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / CASES.name))
    named = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert named == set(re.findall(r"alertname: (\w+)", CASES.read_text())), "each alert has a case"


def test_the_dashboard_asks_for_what_there_is(tmp_path: Path) -> None:
    """Each of its questions is PromQL, and each metric in them, and in the rules, is one of the daemon's."""
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    questions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    questions += [each["expr"] for each in dashboard["annotations"]["list"]]
    assert len(questions) > 10
    rules = [
        {"record": f"q:{number}", "expr": question.replace("$__rate_interval", "5m")}
        for number, question in enumerate(questions)
    ]
    file = tmp_path / "questions.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    promtool("check", "rules", str(file))
    there = set(re.findall(r"^# TYPE (\w+)", exposition(DOCUMENT).decode(), re.MULTILINE))
    asked = set(re.findall(r"\bmpt_\w+", " ".join(questions) + RULES.read_text()))
    assert asked <= there, asked - there


def test_a_prometheus_scrapes_a_daemon(lab: Lab, tmp_path: Path) -> None:
    """With the configuration that ships, but for its interval; it answers queries; promtool likes the metrics."""
    a, b, links = figure_3(lab)
    extra = {"general": ["status_listen = 127.0.0.1:9400"]}
    tunnel = Tunnel(Description(links, extra=extra), lab.directory)
    wait_until_heard(*tunnel.daemons)
    promtool("check", "metrics", stdin=a.run(["curl", "-fsS", "http://127.0.0.1:9400/metrics"]))
    promtool("check", "metrics", stdin=b.run(python("mpt.cli.main", "metrics")))
    configuration = (MONITORING / "prometheus.yml").read_text().replace("scrape_interval: 15s", "scrape_interval: 1s")
    (tmp_path / "prometheus.yml").write_text(configuration)
    shutil.copy(RULES, tmp_path)
    a.start(
        [
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            "--web.listen-address=127.0.0.1:9090",
        ]
    )
    a.start(["ping", "-i", "0.05", "10.0.0.2"])
    wait_until(lambda: values(a, 'mpt_path_up{job="mpt"}') == {"path_0": 1, "path_1": 1}, "both paths up", 20)
    wait_until(lambda: sum(values(a, "rate(mpt_path_sent_packets_total[5s])").values()) > 5, "the rate of the ping", 20)
    links[1].pull()
    wait_until(lambda: values(a, "mpt_path_up") == {"path_0": 1, "path_1": 0}, "path_1 down", 10)
    assert [each["health"] for each in ask(a, "targets")["activeTargets"]] == ["up"]
    rules = [rule for group in ask(a, "rules")["groups"] for rule in group["rules"]]
    assert rules and all(rule["health"] in ("ok", "unknown") and not rule.get("lastError") for rule in rules)


def values(host: Host, query: str) -> dict[str, float]:
    """Return the answer of the Prometheus on `host`, by path."""
    found = ask(host, f"query?query={urllib.parse.quote(query)}").get("result", [])
    return {each["metric"].get("path", ""): float(each["value"][1]) for each in found}


def ask(host: Host, what: str) -> Any:
    """Return the data of an answer; nothing while it starts."""
    answer = host.run(["curl", "-sS", "--max-time", "5", f"http://127.0.0.1:9090/api/v1/{what}"], check=False)
    return json.loads(answer).get("data", {}) if answer.startswith("{") else {}


def promtool(*words: str, stdin: str = "") -> str:
    """Return what promtool prints; it must find no fault."""
    done = subprocess.run(["promtool", *words], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    return done.stdout
