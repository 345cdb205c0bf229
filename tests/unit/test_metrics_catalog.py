"""The table of metrics is what the manual shows and what alerts may name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from baton.metrics.catalog import BY_NAME, CATALOG

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "config/prometheus/alerts.yml"
# Functions, keywords and labels of PromQL that the rules use.
WORDS = {
    "absent", "by", "delta", "histogram_quantile", "increase", "max", "min", "rate", "sum",
}  # fmt: skip


def test_manual_shows_every_metric_as_it_is():
    """Name, type, labels and help of each, in the table's order."""
    manual = (ROOT / "docs/operations.md").read_text()
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{name}`' for name in metric.labels)} "
        f"| {metric.help} |"
        for metric in CATALOG
    ]
    assert "\n".join(rows) in manual


def test_names_follow_prometheus():
    """Counters end in `_total`; names are unique and well formed; buckets rise."""
    assert len(BY_NAME) == len(CATALOG)
    for metric in CATALOG:
        assert re.fullmatch(r"[a-z][a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") or metric.kind != "counter"
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert bool(metric.buckets) == (metric.kind == "histogram")


def test_alerts_name_only_metrics_and_labels_that_exist():
    """Each word of an expression is a metric of the table, a label or value of it, or PromQL."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            unknown, labels = set(), {"le"}
            text = re.sub(r"\[\w+\]", "", rule["expr"])
            for name in re.findall(r"[a-z_]\w+", re.sub(r'"[^"]*"', "", text)):
                metric = BY_NAME.get(name) or BY_NAME.get(re.sub(r"_(bucket|sum|count)$", "", name))
                if metric is not None:
                    labels |= metric.labels.keys()
                elif name not in WORDS:
                    unknown.add(name)
            assert unknown <= labels, rule["alert"]
            for label, value in re.findall(r'(\w+)="(\w+)"', text):
                listed = {each for metric in CATALOG for each in metric.labels.get(label, ())}
                assert value in listed, rule["alert"]
            for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
                assert label in labels, rule["alert"]


def test_alerts_fire_when_they_should_and_not_else():
    """`alerts_test.yml`, by Prometheus' own tool."""
    promtool = shutil.which("promtool")
    if promtool is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "promtool is not installed (Debian: prometheus)"
        )
    cases = ALERTS.with_name("alerts_test.yml")
    for arguments in (["check", "rules", ALERTS], ["test", "rules", cases]):
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
