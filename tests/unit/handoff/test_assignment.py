"""A node's work as its runner sees it."""

from __future__ import annotations

import pytest

from baton.agents.runner import Assignment, ChildTask
from baton.errors import (
    InvalidInputError,
    NodeCancelledError,
    SpawnLimitError,
    StoreUnavailableError,
)
from baton.handoff.assignment import NodeAssignment
from baton.handoff.claims import Claim


def claim(**changed):
    fields = {
        "handoff_id": "h", "node_id": "2.0", "fence": 1, "attempt": 1, "step": 0, "child_count": 1,
        "instruction": "do it", "runner": "work", "then": "", "session_id": "s",
        "context_version": "1.0.0", "agent_id": "a", "max_depth": 3, "max_children": 4,
        "nodes_left": 10, "timeout_seconds": 60.0, "lease_seconds": 30.0,
    }  # fmt: skip
    return Claim(**{**fields, **changed})


def assignment(report=lambda text: None, load=None, **changed):
    return NodeAssignment(
        claim(**changed),
        load=load,
        report=report,
        paying=None,
        mark=lambda label, byte_position: f"{label} at {byte_position}",
        before=lambda: "what came before",
    )


def spawn(given, *tasks, then=None):
    given.spawn(list(tasks), then=then)
    return given


def test_assignment_satisfies_the_runners_contract():
    """Everything a runner may use is there."""
    given = assignment()
    for name in (name for name in vars(Assignment) if not name.startswith("_")):
        if name not in ("context", "context_hash"):
            getattr(given, name)
    assert (given.children, given.draft, given.cancelled) == ((), "", False)
    assert 59 < given.seconds_left <= 60
    assert assignment(timeout_seconds=0.0).seconds_left == 0


def test_context_is_loaded_at_first_use_and_once():
    """A runner that never looks costs nothing."""
    loads = []

    class Loaded:
        content = "text"
        content_hash = "sha256:1"

    given = assignment(load=lambda: loads.append(1) or Loaded)
    assert loads == []
    assert (given.context, given.context_hash, given.context) == ("text", "sha256:1", "text")
    assert loads == [1]


def test_stopped_assignment_raises_when_asked():
    """Cooperative: the runner looks between steps."""
    given = assignment()
    given.raise_if_cancelled()
    given.stop()
    assert given.cancelled
    with pytest.raises(NodeCancelledError, match=r"2\.0"):
        given.raise_if_cancelled()


def test_spawn_adds_up_to_the_limit_and_not_beyond():
    """Children of earlier spawns count; a refused call leaves the others as they were."""
    given = spawn(assignment(), "a", ChildTask("b", "other"), then="on")
    with pytest.raises(SpawnLimitError, match="handoff_max_children leaves 4"):
        spawn(given, "c", "d")
    assert given.spawned == [(ChildTask("a"),), (ChildTask("b", "other"),)]
    assert given.then == "on"
    assert spawn(given, " c ").spawned[-1] == (ChildTask("c"),)
    with pytest.raises(SpawnLimitError, match="handoff_max_depth"):
        spawn(assignment(max_depth=2), "a")
    with pytest.raises(SpawnLimitError, match="handoff_max_nodes"):
        spawn(assignment(nodes_left=1), "a", "b")


def test_spawn_refuses_text_for_a_list():
    """A string is a sequence too: of children nobody meant."""
    with pytest.raises(InvalidInputError, match="a list of tasks"):
        assignment().spawn("count the words")


def test_progress_is_best_effort():
    """Redis being away does not fail the work."""

    def unavailable(_text):
        raise StoreUnavailableError("gone")

    assignment(unavailable).progress("half way")
