"""A worker's first message: its task, behind what others say and found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.agents.anthropic.delimiting import delimited

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from baton.agents.runner import Assignment, ChildResult

# What others found may have one character for each so many tokens of the model's window: about a
# tenth of it, as the context, the tools and the conversation need the rest.
FOUND_SHARE: Final = 0.2
_MAX_TASK_CHARACTERS: Final = 500


def first_message(assignment: Assignment, room: int) -> str:
    """What others say and found, as data, then the task: it comes last, where it counts.

    What was found is cut to `room` characters in all: the longest of it, and no more than must be.
    """
    return "\n\n".join([*_data(assignment, room), f"Your task:\n\n{assignment.instruction}"])


def _data(assignment: Assignment, room: int) -> Iterator[str]:
    if assignment.package is not None:
        said = assignment.package.task_context.model_dump_json(exclude_defaults=True)
        yield f"What the sender of this handoff says of it:\n{delimited('package', said)}"
    children = assignment.children
    found = [assignment.previous, assignment.draft, *map(_found_by, children)]
    limit = fair_share([len(text) for text in found], room)
    if assignment.previous:
        yield f"The worker before you found:\n{_cut(assignment.previous, limit)}"
    if assignment.draft:
        own = _cut(assignment.draft, limit)
        yield f"Your own draft, from before you waited for your workers:\n{own}"
    if children:
        yield "The workers that you spawned have ended. In order:"
        yield from (_told(child, limit) for child in children)


def _found_by(child: ChildResult) -> str:
    return child.content if child.state == "ok" else child.error


def _told(child: ChildResult, limit: int) -> str:
    task = _cut(child.instruction, _MAX_TASK_CHARACTERS)
    found = _cut(_found_by(child), limit)
    return f"Worker {child.node_id} ended {child.state}. Its task:\n{task}\nIts result:\n{found}"


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
