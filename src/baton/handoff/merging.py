"""How the results of a handoff's first level become one text, and one new version. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from baton.agents.runner import ChildResult
    from baton.handoff.outcome import NodeRecord

_TITLE_CHARACTERS: Final = 200


def work_log(
    handoff_id: str, agent_id: str, nodes: Sequence[NodeRecord], results: Mapping[str, str]
) -> str:
    """The work log of first-level `nodes` in slot order, as Markdown.

    A task that gave no result has its section too, with the reason: a reader of the context can
    tell what is missing.
    """
    ended_well = sum(node.state == "ok" for node in nodes)
    lines = [f"## Work log: {handoff_id} ({ended_well} of {len(nodes)} tasks done, for {agent_id})"]
    for node in nodes:
        lines += ["", f"### {int(node.node_id) + 1}. {_title(node.instruction)}", ""]
        lines.append(_section(node.state, node.error_type, node.error, results.get(node.node_id)))
    return "\n".join(lines) + "\n"


def combine(draft: str, children: Sequence[ChildResult]) -> str:
    """A node's result where no continuation was asked for: its own text, then its children's."""
    parts = [draft.strip()] if draft.strip() else []
    for child in children:
        title = f"#### {child.node_id}: {_title(child.instruction)}"
        parts.append(f"{title}\n\n{_section(child.state, '', child.error, child.content)}")
    return "\n\n".join(parts)


def _section(state: str, error_type: str, error: str, content: str | None) -> str:
    if state == "ok" and content is not None:
        return content.rstrip("\n")
    reason = ": ".join(part for part in (error_type, error) if part)
    was = state.replace("_", " ")
    return f"_No result: this task was {was}{f' ({reason})' if reason else ''}._"


def _title(instruction: str) -> str:
    first_line = instruction.strip().partition("\n")[0]
    if len(first_line) <= _TITLE_CHARACTERS:
        return first_line
    return f"{first_line[: _TITLE_CHARACTERS - 1]}…"
