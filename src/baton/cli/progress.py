"""Shows a handoff while it runs: a live tree on a terminal, lines of text elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Final, Protocol

from rich.console import Console
from rich.live import Live

from baton.cli.escaping import escape, escape_line
from baton.cli.output import say
from baton.cli.tree import WORDS, NodeTree
from baton.errors import BatonError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.tree import Tree

    from baton.handoff.handle import Handoff
    from baton.handoff.view import Event

_DRAWS_PER_SECOND: Final = 5
_LOAD_SECONDS: Final = 0.2
_SHOWN_CHARACTERS: Final = 200


class Progress(Protocol):
    """Where the course of a handoff is shown."""

    def note(self, text: str) -> None:
        """Tell the user something, at any time."""

    def showing(self, handoff: Handoff) -> contextlib.AbstractContextManager[None]:
        """Show this handoff for as long as the block runs."""

    def take(self, event: Event) -> None:
        """Show one event."""

    def refresh(self) -> None:
        """Show what events do not tell; called about once a second."""


def progress_view() -> Progress:
    """On standard error: a live tree if both streams are a terminal that can draw, else lines."""
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    drawable = console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty()
    return LiveTree(console) if drawable else Lines()


class Lines:
    """One line for each event, for logs and pipes."""

    def __init__(self) -> None:
        self._handoff: Handoff | None = None
        self._tree = NodeTree("")

    def note(self, text: str) -> None:
        """See `Progress`."""
        say(text)

    @contextlib.contextmanager
    def showing(self, handoff: Handoff) -> Iterator[None]:
        """See `Progress`."""
        self._handoff, self._tree = handoff, NodeTree(handoff.handoff_id)
        yield

    def take(self, event: Event) -> None:
        """See `Progress`."""
        self._tree.take(event)
        unknown = event.node_id and not self._tree.instruction(event.node_id)
        if unknown and self._handoff is not None:
            self._tree.load(self._handoff.nodes())
        say(event_line(event, self._tree.instruction(event.node_id)))

    def refresh(self) -> None:
        """See `Progress`: lines stay as they are."""


class LiveTree:
    """The tree of nodes, drawn in place several times a second; of a large one, what fits."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._handoff: Handoff | None = None
        self._tree = NodeTree("")
        self._began_at = 0.0
        self._load_due_at = 0.0

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._console.print(escape(text), soft_wrap=True)

    @contextlib.contextmanager
    def showing(self, handoff: Handoff) -> Iterator[None]:
        """See `Progress`."""
        self._handoff, self._tree = handoff, NodeTree(handoff.handoff_id)
        self._began_at = time.monotonic()
        with Live(
            console=self._console, get_renderable=self._draw, refresh_per_second=_DRAWS_PER_SECOND
        ):
            try:
                yield
            finally:
                self._tree.stale = True  # once more, for the durations
                with contextlib.suppress(BatonError):  # the tree is not worth a second error
                    self.refresh()

    def take(self, event: Event) -> None:
        """See `Progress`."""
        self._tree.take(event)
        if time.monotonic() >= self._load_due_at:
            self.refresh()

    def refresh(self) -> None:
        """See `Progress`: nodes that events told of are loaded, not for each event anew."""
        if self._tree.stale and self._handoff is not None:
            self._tree.load(self._handoff.nodes())
            self._load_due_at = time.monotonic() + _LOAD_SECONDS

    def _draw(self) -> Tree:
        """Runs in the thread that draws."""
        return self._tree.draw(
            elapsed_seconds=time.monotonic() - self._began_at,
            most_nodes=max(5, self._console.height - 5),
        )


def event_line(event: Event, instruction: str = "") -> str:
    """One event as a line of text."""
    if event.type == "handoff":
        return f"handoff {event.state}"
    if event.type == "acknowledgement":
        return f"package {event.state} by {escape_line(event.text or event.error)}"
    if event.type == "cost":
        return f"node {event.node_id}: a call of {event.tokens:,} tokens, ${event.cost_usd:,.4f}"
    if event.type == "progress":
        return f"node {event.node_id}: {escape_line(event.text)}"
    state = WORDS.get(event.state, event.state)
    said = escape_line(event.error or instruction, _SHOWN_CHARACTERS)
    return f"node {event.node_id} {state}{f': {said}' if said else ''}"
