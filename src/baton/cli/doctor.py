"""`baton doctor`: finds what is not as it should be in Redis and the archive, and mends it."""

from __future__ import annotations

import contextlib
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from baton.cli.archiving import open_archives
from baton.cli.connection import configured_url
from baton.cli.exits import DEGRADED, DONE, FAILED, INTERRUPTED, USAGE, epilog
from baton.cli.options import AGENT, Agent, Json
from baton.cli.output import show_json, show_text
from baton.dispatch import client_dispatcher
from baton.errors import BatonError, StoreUnavailableError
from baton.handoff.metered import MeteredTree
from baton.handoff.neglect import NeglectedHandoffs
from baton.ids import check_id
from baton.lifecycle.checks.agents import AgentCheck
from baton.lifecycle.checks.archive import ArchiveCheck
from baton.lifecycle.checks.due_index import DueIndexCheck
from baton.lifecycle.checks.handoffs import HandoffCheck
from baton.lifecycle.checks.keys import KeyCheck
from baton.lifecycle.checks.remains import RemainsCheck
from baton.lifecycle.configured import configured_durations
from baton.lifecycle.deletions import UnfinishedDeletions
from baton.lifecycle.doctor import Doctor
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.sweep_board import SweepBoard
from baton.store.mending import KeyMending

if TYPE_CHECKING:
    from baton.cli.archiving import Archives
    from baton.cli.bars import Bars
    from baton.dispatch import CeleryDispatcher
    from baton.handoff.dispatcher import Dispatcher
    from baton.lifecycle.findings import Finding

# Of each kind, so many are told of one by one; the others are counted, and mended all the same.
MOST_TOLD: Final = 100

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog=epilog(
        "baton doctor",
        "baton doctor --fix",
        codes=(DONE, USAGE, DEGRADED, FAILED, INTERRUPTED),
        meanings={
            DONE: "nothing was found, or all of it was mended",
            DEGRADED: "something was found and is left",
        },
    )
)
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended safely.")] = False,
    agent: Agent = AGENT,
    as_json: Json = False,
) -> None:
    """Find orphan keys, lost handoffs, drifted indexes, archived sessions that cannot be found.

    Looks at every key, in slices; needs the rights of an administrator. Changes nothing without
    --fix, and with it nothing by which something might be lost: that is told, and left.
    """
    with open_archives() as archives, _dispatcher_of(archives) as dispatcher:
        found_by = _doctor(archives, dispatcher, check_id(agent, "--agent"))
        rounds = _Rounds(archives.bars, fix=fix, quiet=as_json)
        for finding in found_by.examine():
            rounds.see(finding)
    if as_json:
        show_json(rounds.as_json(found_by.kinds()))
    else:
        show_text(rounds.summary())
    raise typer.Exit(DEGRADED if rounds.left else DONE)


class _Rounds:
    """Shows findings as they come, mends them if that is wanted, and counts.

    Args:
        bars: are taken away where a line is to be shown.
        fix: whether to mend.
        quiet: show nothing yet.
    """

    def __init__(self, bars: Bars, *, fix: bool, quiet: bool) -> None:
        self._bars = bars
        self._fix = fix
        self._quiet = quiet
        self._found = Counter[str]()
        self._mended = Counter[str]()
        self._told: list[dict[str, Any]] = []

    @property
    def left(self) -> int:
        """How many are as they were."""
        return self._found.total() - self._mended.total()

    def see(self, finding: Finding) -> None:
        """Tell of a finding; what is done to it is told before it is done."""
        self._found[finding.kind] += 1
        is_told = self._found[finding.kind] <= MOST_TOLD
        if is_told:
            self._say(f"{finding.kind}: {finding.subject} {finding.problem}")
        outcome, why = self._treat(finding, is_told=is_told)
        self._mended[finding.kind] += outcome in ("mended", "gone")
        if is_told:
            self._told.append({
                "kind": finding.kind, "subject": finding.subject, "problem": finding.problem,
                "mending": finding.mending, "outcome": outcome, "reason": why,
            })  # fmt: skip

    def _treat(self, finding: Finding, *, is_told: bool) -> tuple[str, str | None]:
        """`found`, `mended`, `gone` (there was nothing to mend any more) or `left`, and why."""
        if finding.mend is None:
            if is_told:
                self._say(f"  {finding.mending}")
            return "left", finding.mending
        if is_told:
            self._say(f"  {'' if self._fix else '--fix '}{finding.mending}")
        if not self._fix:
            return "found", None
        try:
            return ("mended" if finding.mend() else "gone"), None
        except StoreUnavailableError:
            raise
        except BatonError as error:
            if is_told:
                self._say(f"  it is left: {error}")
            return "left", str(error)

    def summary(self) -> str:
        """What there was, in a line."""
        if not self._found:
            return "Nothing was found."
        counts = ", ".join(f"{count} {kind}" for kind, count in self._found.items())
        mended = f"; {self._mended.total()} mended, {self.left} left" if self._fix else ""
        return f"Found {counts}{mended}."

    def as_json(self, kinds: dict[str, str]) -> dict[str, Any]:
        """All of it: counts of each kind, and the first hundred of each."""
        return {
            "ok": not self.left,
            "found": self._found.total(),
            "mended": self._mended.total(),
            "left": self.left,
            "kinds": [
                {
                    "kind": kind,
                    "meaning": meaning,
                    "found": self._found[kind],
                    "mended": self._mended[kind],
                }
                for kind, meaning in kinds.items()
            ],
            "findings": self._told,
        }

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._bars.clear()
            show_text(text)


def _dispatcher_of(archives: Archives) -> contextlib.closing[CeleryDispatcher]:
    """Takes messages of the deployment; connects at the first."""
    url = configured_url(archives.settings) or ""
    return contextlib.closing(client_dispatcher(url, archives.settings))


def _doctor(archives: Archives, dispatcher: Dispatcher, agent_id: str) -> Doctor:
    client, store = archives.client, archives.store
    facts = SessionFactsReader(client, configured_durations(archives.settings))
    tree = MeteredTree(client, store.meter)
    ask = partial(_ask, archives, agent_id)
    mending = KeyMending(client, store.backstop_ms)
    deletions = UnfinishedDeletions(client, mending)
    return Doctor(
        [
            KeyCheck(client, mending),
            RemainsCheck(client, mending, deletions, ask, lambda: archives.anywhere),
            DueIndexCheck(client, facts, DueIndex(client), SweepBoard(client)),
            HandoffCheck(NeglectedHandoffs(client, tree, dispatcher)),
            AgentCheck(client),
            ArchiveCheck(client, ask, lambda: archives.anywhere),
        ]
    )


def _ask(archives: Archives, agent_id: str, kind: Any, **fields: Any) -> Any:
    return archives.ask(kind, agent_id, **fields)
