"""Events by reference."""

from __future__ import annotations

import pytest

from workers.app import app
from workers.event_dispatch import HIDDEN, ReferenceDispatcher, by_reference

SECRET = "hunter2 and the whole context"  # noqa: S105 - what must not be seen


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        (
            {"name": "agent.run", "args": "('handoff_1', '0')"},
            {"name": "agent.run", "args": "('handoff_1', '0')"},
        ),
        ({"name": "agent.run", "args": f"('handoff_1', '{SECRET}')"}, {"args": HIDDEN}),
        ({"name": "context.store", "args": "('hunter2',)"}, {"args": HIDDEN}),
        ({"name": "lifecycle.sweep_nodes", "args": "()"}, {"args": "()"}),
        ({"args": "('cut off by Celery..."}, {"args": HIDDEN}),
        ({"args": ["a", "list"]}, {"args": HIDDEN}),
        ({"kwargs": "{}"}, {"kwargs": "{}"}),
        ({"kwargs": "{'session_id': 's', 'version': None}"},
         {"kwargs": "{'session_id': 's', 'version': None}"}),
        ({"kwargs": "{'session_id': 's', 'content': 'hunter2'}"},
         {"kwargs": "{'session_id': 's', '…': '…'}"}),
        ({"kwargs": f"{{'session_id': '{SECRET}'}}"}, {"kwargs": "{'…': '…'}"}),
        ({"kwargs": "{'content': 'cut off by..."}, {"kwargs": HIDDEN}),
        ({"result": "'ok'"}, {"result": "'ok'"}),
        ({"result": "'3 nodes'"}, {"result": "'3 nodes'"}),
        ({"result": "17"}, {"result": "17"}),
        ({"result": "'hunter2'"}, {"result": HIDDEN}),
        ({"result": {"snippet": SECRET}}, {"result": HIDDEN}),
        ({"exception": f"ValueError('{SECRET}')"}, {"exception": f"ValueError({HIDDEN})"}),
        ({"exception": SECRET}, {"exception": HIDDEN}),
        ({"traceback": SECRET, "progress": SECRET}, {}),
        ({"runtime": 1.5, "retries": 2, "active": 3}, {"runtime": 1.5, "retries": 2, "active": 3}),
    ],
)  # fmt: skip
def test_event_fields_keep_references_and_nothing_else(fields, kept):
    """Ids, versions, counts, states and types of errors stay; twice is as once."""
    got = by_reference(fields)
    assert {name: got.get(name) for name in kept} == kept
    assert "hunter2" not in repr(got)
    assert set(got) <= set(fields)
    assert by_reference(got) == got


def test_workers_dispatch_by_reference():
    """The app's dispatcher is ours, for its workers and for whatever publishes."""
    assert issubclass(app.events.Dispatcher, ReferenceDispatcher)
