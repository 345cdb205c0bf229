"""`baton context conflicts` and `resolve`: writes that wait to be merged by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Final

import typer

from baton.cli.connection import client_settings, open_store
from baton.cli.exits import STORE_CODES, epilog, write_epilog
from baton.cli.files import read_text
from baton.cli.options import AGENT, Agent, Json, Session
from baton.cli.output import instant, plain, show_fields, show_json, show_table, show_text, size
from baton.cli.writing import count_places, end_with_commit
from baton.errors import ConflictNotFoundError, InvalidInputError
from baton.ids import check_id
from baton.merge.conflicts import ABSENT, TextConflict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.merge.conflicts import Favour, Value
    from baton.store.records import Conflict, PendingConflict

_LINES_SHOWN: Final = 20
_LINE_CHARACTERS: Final = 300

ConflictId = Annotated[
    str | None, typer.Argument(metavar="ID", help="The conflict's id, as `conflicts` lists it.")
]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog=epilog(
        "baton context conflicts notes",
        "baton context conflicts notes 49ef36e10b8029bc952a122fbf596eb9",
        codes=STORE_CODES,
    )
)
def conflicts(
    session: Session,
    conflict_id: ConflictId = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """List the writes that wait to be merged, or show one.

    `ours` is the head as it is now, `theirs` the write that waits, `base` what both began with.
    """
    with open_store() as store:
        if conflict_id is None:
            _show_list(session, store.conflicts(session), as_json=as_json)
            return
        found = _chosen(store.conflicts(session), session, conflict_id)
        places = store.explain_conflict(session, found.conflict_id, agent_id=agent)
        head = store.resolve_version(session)
    if as_json:
        shown = {"session": session, "head": head, **plain(found)}
        show_json({**shown, "conflicts": [place.as_dict() for place in places]})
    else:
        _show_one(session, head, found, places)


@app.command(
    epilog=write_epilog(
        "baton context resolve notes --take theirs",
        "baton context resolve notes 49ef36e10b8029bc952a122fbf596eb9 --take merged.md",
    )
)
def resolve(
    session: Session,
    take: Annotated[
        str,
        typer.Option(
            "--take",
            metavar="ours|theirs|FILE",
            help="The side that places in conflict are taken from, ours being the head; or a file "
            "with the whole merged text, - for standard input.",
        ),
    ],
    conflict_id: ConflictId = None,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Resolve a write that waits to be merged.

    Its changes and the head's become the newest version. With ours or theirs, all that does not
    conflict is merged from both. ID may be left out where only one waits. A file that is called
    ours or theirs is ./ours or ./theirs.
    """
    side = _side(take)
    limit_bytes = client_settings().max_context_bytes
    content = read_text(take, "--take", limit_bytes) if side is None else None
    with open_store() as store:
        found = _chosen(store.conflicts(session), session, conflict_id)
        commit = store.resolve_conflict(
            session, found.conflict_id, agent_id=agent, take=side, content=content
        )
    end_with_commit(commit, session, as_json=as_json)


def _side(take: str) -> Favour | None:
    if take == "ours":
        return "ours"
    return "theirs" if take == "theirs" else None


def _chosen(
    pending: Sequence[PendingConflict], session: str, conflict_id: str | None
) -> PendingConflict:
    """The one of that id; without an id, the only one."""
    wanted = None if conflict_id is None else check_id(conflict_id, "ID")
    found = [each for each in pending if wanted in (None, each.conflict_id)]
    if len(found) > 1:
        ids = ", ".join(each.conflict_id for each in found)
        raise InvalidInputError("ID", f"one of {ids}", "<nothing>")
    if not found:
        which = "pending conflict" if wanted is None else f"pending conflict {wanted}"
        raise ConflictNotFoundError(
            f"session {session} has no {which}; it was resolved, or it expired. `baton context "
            f"conflicts {session}` lists those that wait"
        )
    return found[0]


def _show_list(session: str, pending: Sequence[PendingConflict], *, as_json: bool) -> None:
    if as_json:
        show_json({"session": session, "pending": [plain(each) for each in pending]})
        return
    show_table(
        ("CONFLICT", "WRITTEN", "AGENT", "BASE", "HEAD", "SIZE", "EXPIRES"),
        [
            (
                each.conflict_id,
                instant(each.created_at),
                each.agent_id,
                each.base_version,
                each.head_version,
                size(each.size_bytes),
                instant(each.expires_at),
            )
            for each in pending
        ],
    )


def _show_one(session: str, head: str, found: PendingConflict, places: Sequence[Conflict]) -> None:
    show_fields(
        {
            "conflict": found.conflict_id,
            "written": f"{instant(found.created_at)} by {found.agent_id}",
            "expires": instant(found.expires_at),
            "places": str(len(places)) if places else "none any more: it merges with the head",
            "to end it": f"baton context resolve {session} {found.conflict_id} "
            "--take ours|theirs|FILE",
        }
    )
    titles = (
        f"base, {found.base_version}",
        f"ours, the head {head}",
        f"theirs, written by {found.agent_id}",
    )
    for number, place in enumerate(places, start=1):
        show_text(f"\n{number} of {count_places(len(places))}: {_where(place)}")
        for title, side in zip(titles, (place.base, place.ours, place.theirs), strict=True):
            show_text(f"  {title}:\n{_block(side, is_text=isinstance(place, TextConflict))}")


def _where(place: Conflict) -> str:
    if not isinstance(place, TextConflict):
        return f"at {place.pointer or 'the whole document'}"
    first, last = place.ours_range.start_line + 1, place.ours_range.end_line
    if last < first:
        return f"before line {first} of the head"
    return f"line {first} of the head" if last == first else f"lines {first} to {last} of the head"


def _block(side: Value, *, is_text: bool) -> str:
    """The lines of one side, behind bars; what is no line of it, without."""
    if side is ABSENT or (is_text and side == ""):
        return "    (nothing)"
    text = side if is_text else json.dumps(side, indent=2, ensure_ascii=False)
    lines = str(text).removesuffix("\n").split("\n")
    shown = [f"    | {_cut(line)}" for line in lines[:_LINES_SHOWN]]
    if len(lines) > _LINES_SHOWN:
        shown.append(f"    ({len(lines) - _LINES_SHOWN} more lines; --json has them)")
    if is_text and not str(text).endswith("\n"):
        shown.append("    (no line end)")
    return "\n".join(shown)


def _cut(line: str) -> str:
    return line if len(line) <= _LINE_CHARACTERS else f"{line[: _LINE_CHARACTERS - 3]}..."
