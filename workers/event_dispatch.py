"""Celery's events by reference: what a task was given, gave or raised never leaves its worker.

Flower shows events, and whoever may subscribe to the broker reads them.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any, Final

from celery.app.events import Events
from celery.events import EventDispatcher

from baton import routes
from baton.handoff.outcome import NODE_STATES, TERMINAL_HANDOFF_STATES

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN: Final = "…"

# Of any event. What is not named here is dropped, the fields of events to come included.
_PLAIN: Final = frozenset(
    {
        *("uuid", "name", "root_id", "parent_id", "retries", "eta", "expires", "runtime"),
        *("queue", "exchange", "routing_key", "requeue", "terminated", "signum", "expired"),
        *("freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys"),
        # Not of the event: how the dispatcher is to send it.
        *("blind", "utcoffset", "retry", "retry_policy", "Event"),
    }
)
_REFERENCES: Final = frozenset(
    {
        *("session_id", "source_session_id", "handoff_id", "node_id", "agent_id"),
        *("version", "base_version", "source_version"),
    }
)
# Their arguments are ids, and nothing else ever.
_ARGS_ARE_IDS: Final = frozenset({routes.START, routes.RUN, routes.JOIN})
_LONGEST_CHARACTERS: Final = 1_024
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_ERROR_TYPE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")
# Of our tasks: counts, states, and what was left to whom.
_PLAIN_RESULT: Final = re.compile(r"None|True|False|-?\d{1,18}|'\d{1,9} nodes'")
_STATES: Final = frozenset(
    map(repr, (*NODE_STATES, *TERMINAL_HANDOFF_STATES, "running", "joining"))
)


class ReferenceDispatcher(EventDispatcher):
    """Celery's dispatcher, of which no event holds content.

    `args` and `kwargs` keep ids and versions, `result` a count or a state, `exception` its type;
    there is no `traceback`.
    """

    def send(self, type: str, *args: Any, **fields: Any) -> Any:  # noqa: A002 - Celery's name
        """Send an event of `fields`, by reference."""
        return super().send(type, *args, **by_reference(fields))

    def publish(self, type: str, fields: dict[str, Any], *args: Any, **options: Any) -> Any:  # noqa: A002 - Celery's name
        """Send an event through a producer of the caller's, by reference."""
        return super().publish(type, by_reference(fields), *args, **options)


class ReferenceEvents(Events):
    """`app.events` that dispatches by reference."""

    dispatcher_cls = f"{__name__}:{ReferenceDispatcher.__name__}"


def by_reference(fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` of an event without anything that may be content. Done twice, it changes nothing."""
    kept = {name: value for name, value in fields.items() if name in _PLAIN}
    for name, rewrite in _REWRITTEN.items():
        if fields.get(name) is not None:
            kept[name] = rewrite(fields)
    return kept


def _args(fields: dict[str, Any]) -> str:
    values = _literal(fields["args"])
    if values in ((), []):
        return "()"
    known = fields.get("name") in _ARGS_ARE_IDS
    if known and isinstance(values, tuple | list) and all(_is_id(value) for value in values):
        return repr(tuple(values))
    return HIDDEN


def _kwargs(fields: dict[str, Any]) -> str:
    values = _literal(fields["kwargs"])
    if not isinstance(values, dict):
        return HIDDEN
    kept = {name: value for name, value in values.items() if name in _REFERENCES and _is_id(value)}
    return repr(kept if len(kept) == len(values) else kept | {HIDDEN: HIDDEN})


def _result(fields: dict[str, Any]) -> str:
    result = fields["result"]
    plain = isinstance(result, str) and (_PLAIN_RESULT.fullmatch(result) or result in _STATES)
    return result if plain else HIDDEN


def _exception(fields: dict[str, Any]) -> str:
    """The type, which is what stands before the message."""
    name, bracket, _ = str(fields["exception"]).partition("(")
    return f"{name}({HIDDEN})" if bracket and _ERROR_TYPE.fullmatch(name) else HIDDEN


def _literal(shown: Any) -> Any:
    """What was shown; None where that is no literal, or a cut one."""
    if not isinstance(shown, str) or len(shown) > _LONGEST_CHARACTERS:
        return None
    try:
        return ast.literal_eval(shown)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _is_id(value: Any) -> bool:
    return value is None or (isinstance(value, str) and _ID.fullmatch(value) is not None)


_REWRITTEN: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "args": _args,
    "kwargs": _kwargs,
    "result": _result,
    "exception": _exception,
}
