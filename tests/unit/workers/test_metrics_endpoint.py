"""Where pools serve their metrics, and what a page makes of the sums it is given."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from baton import routes
from baton.errors import StoreUnavailableError
from baton.metrics import catalog
from config.settings import AppSettings
from workers import launcher, metrics_endpoint
from workers.metrics_endpoint import metrics_places, metrics_port, pool_scope, with_metrics
from workers.metrics_page import PoolPage


def _values(page):
    registry = CollectorRegistry()
    registry.register(page)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_each_pool_has_the_next_port():
    """From the one that is set; beat, and a deployment without one, have none."""
    settings = AppSettings(metrics_port=9464)
    ports = [metrics_port(settings, pool) for pool in routes.QUEUES]
    assert ports == [9464, 9465, 9466, 9467]
    assert metrics_port(settings, "beat") is None
    assert metrics_port(AppSettings(), "agents") is None
    assert metrics_places(settings) == "http://127.0.0.1:9464/metrics to :9467"
    assert metrics_places(AppSettings()) is None


def test_the_setting_goes_before_the_launchers_default(monkeypatch):
    """`baton up` brings a port along; 0, or no library to serve with, is none."""
    options = launcher._parse(["--metrics-port", "9464"])
    assert with_metrics(AppSettings(), options.metrics_port).metrics_port == 9464
    assert with_metrics(AppSettings(metrics_port=2000), 9464).metrics_port == 2000
    assert with_metrics(AppSettings(), launcher._parse([]).metrics_port).metrics_port is None
    monkeypatch.setattr(metrics_endpoint, "_can_serve", lambda: False)
    assert with_metrics(AppSettings(), 9464).metrics_port is None


def test_page_shows_listed_series_from_the_start():
    """So that the first event is a rise; what settings name comes as it is counted."""
    values = _values(PoolPage(dict))
    assert values["baton_nodes_total", "lost"] == 0
    assert values["baton_handoff_duration_seconds_bucket", "+Inf", "done"] == 0
    assert not [name for name in values if name[0] == "baton_node_runs_total"]


def test_page_makes_series_of_sums():
    """Scaled, buckets cumulative, and `other` where a label was none of the listed."""
    sums = {
        "baton_nodes_total|ok": 7, "baton_nodes_total|other": 2,
        "baton_cost_usd_total": 1_500_000_000, "baton_prompt_cache_saved_usd": -1_000_000,
        "context_store_duration_ms|0": 3,
        "context_store_duration_ms|2": 1, "context_store_duration_ms|5": 1,
        "context_store_duration_ms|sum": 1_234_500_000, "baton_node_runs_total|mine|ok": 4,
        "baton_node_run_duration_seconds|mine|0": 4, "baton_node_run_duration_seconds|mine|sum": 9,
    }  # fmt: skip
    values = _values(PoolPage(lambda: sums))
    assert (values["baton_nodes_total", "ok"], values["baton_nodes_total", "other"]) == (7, 2)
    assert values["baton_cost_usd_total",] == 1.5
    assert values["baton_prompt_cache_saved_usd",] == -0.001
    buckets = [values["context_store_duration_ms_bucket", str(le)] for le in (10.0, 50.0, 100.0)]
    assert buckets == [3, 3, 4]
    assert values["context_store_duration_ms_bucket", "1000.0"] == 4
    assert values["context_store_duration_ms_bucket", "+Inf"] == 5
    assert values["context_store_duration_ms_count",] == 5
    assert values["context_store_duration_ms_sum",] == pytest.approx(1_234.5)
    assert values["baton_node_runs_total", "ok", "mine"] == 4
    assert values["baton_node_run_duration_seconds_count", "mine"] == 4


def test_page_without_redis_still_answers():
    """It leaves out what it could not read, and shows what the deployment says."""

    def gone():
        raise StoreUnavailableError("gone")

    values = _values(PoolPage(gone, lambda: [(catalog.REDIS_UP, {}, 0)]))
    assert values == {("baton_redis_up",): 0}


def test_scope_is_a_key_whatever_the_host_is_called(monkeypatch):
    """A host's name is somebody else's: only what an id may hold comes through."""
    monkeypatch.setattr("socket.gethostname", lambda: "a:b{c}*d")
    assert pool_scope("agents") == "agents:a_b_c__d"
    monkeypatch.setattr("socket.gethostname", lambda: "")
    assert pool_scope("agents") == "agents:localhost"
