"""Censuses and records."""

from __future__ import annotations

from baton.handoff.outcome import NODE_STATES, Census, NodeRecord


def test_census_shows_every_state():
    """Zeros included, so that a reader need not know them."""
    census = Census(3, {"ok": 2, "failed": 1})
    assert census.as_dict() == {"total": 3, **dict.fromkeys(NODE_STATES, 0), "ok": 2, "failed": 1}
    assert (census["ok"], census["lost"]) == (2, 0)


def test_parents_are_read_off_the_node_id():
    """The first level has none."""
    parents = [NodeRecord(id_, "do", "work", "ok").parent_id for id_ in ("3", "3.0", "3.0.12")]
    assert parents == [None, "3", "3.0"]
