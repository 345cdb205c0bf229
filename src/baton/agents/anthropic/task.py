"""A worker's first message: its task, behind what others say and found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.agents.anthropic.delimiting import delimited

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from baton.agents.runner import Assignment, ChildResult

MAX_RESULTS_CHARACTERS: Final = 200_000
_MAX_TASK_CHARACTERS: Final = 500


def first_message(assignment: Assignment) -> str:
    """What others say and found, as data, then the task: it comes last, where it counts."""
    return "\n\n".join([*_data(assignment), f"Your task:\n\n{assignment.instruction}"])


def _data(assignment: Assignment) -> Iterator[str]:
    if assignment.package is not None:
        said = assignment.package.task_context.model_dump_json(exclude_defaults=True)
        yield f"What the sender of this handoff says of it:\n{delimited('package', said)}"
    if assignment.previous:
        yield "The worker before you found:\n" + _cut(assignment.previous, MAX_RESULTS_CHARACTERS)
    if assignment.draft:
        yield "Your own draft, from before you waited for your workers:\n" + _cut(
            assignment.draft, MAX_RESULTS_CHARACTERS
        )
    if assignment.children:
        yield "The workers that you spawned have ended. In order:"
        yield from _children(assignment.children)


def _children(children: Sequence[ChildResult]) -> Iterator[str]:
    room = fair_share([len(child.content) for child in children], MAX_RESULTS_CHARACTERS)
    for child in children:
        task = _cut(child.instruction, _MAX_TASK_CHARACTERS)
        found = _cut(child.content, room) if child.state == "ok" else _cut(child.error, room)
        yield f"Worker {child.node_id} ended {child.state}. Its task:\n{task}\nIts result:\n{found}"


def fair_share(lengths: Sequence[int], room: int) -> int:
    """The length to cut all to so that they fit into `room`: what short ones leave goes to others.

    No more is cut than must be; where nothing must, the longest.
    """
    left, share = room, 0
    for place, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - place)
        if length > share:
            return share
        left -= length
    return max(lengths, default=0)


def _cut(text: str, limit: int) -> str:
    left_out = len(text) - limit
    note = f"\n(The last {left_out} characters are left out.)" if left_out > 0 else ""
    return delimited("result", text[:limit]) + note
