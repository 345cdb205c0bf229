"""How results become one text."""

from __future__ import annotations

from baton.agents.runner import ChildResult
from baton.handoff.merging import combine, work_log
from baton.handoff.outcome import NodeRecord


def node(slot, instruction="do", state="ok", **fields):
    return NodeRecord(str(slot), instruction, "work", state, **fields)


def test_work_log_has_a_section_for_every_task():
    """Those without a result say why; the head counts them."""
    nodes = [
        node(0, "first\nwith more lines"),
        node(1, "second", "failed", error_type="ValueError", error="no data"),
        node(2, "third", "cancelled"),
        node(3, "x" * 300),
    ]
    assert work_log("h1", "a1", nodes, {"0": "text\n\n", "3": ""}) == (
        "## Work log: h1 (2 of 4 tasks done, for a1)\n"
        "\n### 1. first\n\ntext\n"
        "\n### 2. second\n\n_No result: this task was failed (ValueError: no data)._\n"
        "\n### 3. third\n\n_No result: this task was cancelled._\n"
        f"\n### 4. {'x' * 199}…\n\n\n"
    )


def test_combine_puts_the_children_behind_the_draft():
    """Failed children have their reason; an empty draft leaves no gap."""
    children = [
        ChildResult("0.0", "one", "ok", "text\n"),
        ChildResult("0.1", "two", "lost", "", "LostError: gone"),
    ]
    section = (
        "#### 0.0: one\n\ntext\n\n#### 0.1: two\n\n"
        "_No result: this task was lost (LostError: gone)._"
    )
    assert combine("\n", children) == section
    assert combine(" draft\n", children) == f"draft\n\n{section}"
    assert combine("draft", []) == "draft"
