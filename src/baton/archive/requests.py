"""Requests to the process that has the archive, and its answers, by way of Redis.

A message names a request and holds nothing of it: `archive:{ID}:request` holds what is asked, a
string, and `archive:{ID}:answers` what came of it, a list of events as JSON, of which the last is
`done` or `error`. Both expire: an answer may hold snippets of contexts.

The pool takes one message at a time, and to embed a large session takes minutes. So what may be
done meanwhile is in `archive:waiting` too, a sorted set of ids by the time they were left, and is
done between two batches of passages; its message then finds nothing to do.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from baton import errors
from baton.clock import iso_utc
from baton.errors import (
    ArchiveAnswerError,
    BatonError,
    InvalidInputError,
    PermanentError,
)
from baton.redis_client import redis_errors, require_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import redis

    from baton.archive.service import ArchiveService

Kind = Literal[
    "archive", "restore", "search", "purge", "hold", "release", "verify", "reindex", "list",
    "settle", "purge_due", "rewrap", "examine", "index", "without_copy",
]  # fmt: skip

logger = logging.getLogger(__name__)

WAITING: Final = "archive:waiting"
# They change nothing that archiving another session depends on.
_MEANWHILE: Final[frozenset[Kind]] = frozenset({"search", "list", "restore"})
KEEP_MS: Final = 600_000
PURGED_AT_ONCE: Final = 1_000
MISSING_AT_ONCE: Final = 1_000
PROGRESS_EVERY_SECONDS: Final = 0.5
POLL_SECONDS: Final = 1
_INPUT_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the archive; `fields` are the arguments of the method of that kind."""

    kind: Kind
    agent_id: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> str:
        """As it is stored."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, stored: bytes) -> Request:
        """What `encode` gave.

        Raises:
            InvalidInputError: it is none.
        """
        try:
            found = json.loads(stored)
            request = cls(found["kind"], found["agent_id"], dict(found["fields"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInputError("request", "one of the archive", "<something else>") from error
        if request.kind not in get_args(Kind):
            raise InvalidInputError("request.kind", " or ".join(get_args(Kind)), request.kind)
        return request


class RequestDesk:
    """Where requests are left, taken, and answered.

    Every method raises StoreUnavailableError where Redis does not answer.
    """

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = require_binary(redis_client)

    def leave(self, request: Request) -> str:
        """Leave a request; its id, which a message may carry."""
        request_id = secrets.token_hex(16)
        with redis_errors(self._redis):
            self._redis.set(_request_key(request_id), request.encode(), px=KEEP_MS)
            if request.kind in _MEANWHILE:
                self._redis.zadd(WAITING, {request_id: time.time()})
                self._redis.pexpire(WAITING, KEEP_MS)
        return request_id

    def next_waiting(self) -> str | None:
        """The request left first of those that may be done meanwhile; it waits no more."""
        with redis_errors(self._redis):
            found = self._redis.zpopmin(WAITING)
        return found[0][0].decode() if found else None

    def take(self, request_id: str) -> Request | None:
        """The request, or None: it expired, or it was answered."""
        with redis_errors(self._redis):
            stored = self._redis.get(_request_key(request_id))
        return None if stored is None else Request.decode(stored)

    def tell(self, request_id: str, event: Mapping[str, Any], *, last: bool = False) -> None:
        """Add an event; the last one ends the request."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.rpush(_answers_key(request_id), json.dumps(event, default=_known))
        pipeline.pexpire(_answers_key(request_id), KEEP_MS)
        if last:
            pipeline.delete(_request_key(request_id))
        else:
            pipeline.pexpire(_request_key(request_id), KEEP_MS)
        with redis_errors(self._redis):
            pipeline.execute()
            if last:
                self._redis.zrem(WAITING, request_id)

    def wait(
        self,
        request_id: str,
        timeout_seconds: float,
        progress: Callable[[str, int, int], None] | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> Any:
        """What came of a request.

        Args:
            request_id: of `leave`.
            timeout_seconds: how long nothing may be heard of it.
            progress: told how far it is.
            gone: whether there is nobody to wait for any more; asked while nothing is heard.

        Raises:
            ArchiveAnswerError: nothing was heard for so long, or there is nobody.
            BatonError: what the archive raised, by its type.
        """
        ends_at = time.monotonic() + timeout_seconds
        while time.monotonic() < ends_at:
            event = self._next(request_id)
            if event is None and gone():
                raise ArchiveAnswerError(
                    "the archive's pool has stopped before it answered; start it (`baton up`), or "
                    "ask again without one"
                )
            if event is None:
                continue
            ends_at = time.monotonic() + timeout_seconds
            if event["event"] == "done":
                return event["result"]
            if event["event"] == "error":
                raise _error(event)
            if progress is not None:
                progress(event["what"], event["done"], event["total"])
        raise ArchiveAnswerError(
            f"the archive's pool gave no answer for {timeout_seconds:g} s; it may be busy with "
            "other sessions (`baton lifecycle status` tells), or not run (`baton status`)"
        )

    def _next(self, request_id: str) -> dict[str, Any] | None:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.blpop([_answers_key(request_id)], timeout=POLL_SECONDS)
        with redis_errors(self._redis):
            (found,) = pipeline.execute()
        event: dict[str, Any] | None = None if found is None else json.loads(found[1])
        return event


def perform(service: ArchiveService, desk: RequestDesk, request_id: str) -> bool:
    """Do what a request asks, and answer it; False if it was answered, or expired.

    An error is an answer; it is not raised, unless trying again may help.

    Raises:
        TransientError: nothing was answered; the request stays.
    """
    request = desk.take(request_id)
    if request is None:
        return False
    try:
        result = do(service, request, _telling(desk, request_id))
    except PermanentError as error:
        refuse(desk, request_id, error)
    else:
        desk.tell(request_id, {"event": "done", "result": result}, last=True)
    return True


def perform_waiting(service: ArchiveService, desk: RequestDesk) -> None:
    """Do the requests that may be done while a session is embedded; to be called amid that.

    What cannot be done now, and a restore of the very session, is left to its message.
    """
    try:
        while (request_id := desk.next_waiting()) is not None:
            request = desk.take(request_id)
            if request is not None and not _is_of(request, service.busy_with):
                perform(service, desk, request_id)
    except Exception as error:  # noqa: BLE001  # another's request must not end the work amid it
        logger.warning("a request to the archive waits for its message: %r", error)


def _is_of(request: Request, session_id: str | None) -> bool:
    return request.kind == "restore" and request.fields.get("session_id") == session_id


def refuse(desk: RequestDesk, request_id: str, error: BatonError) -> None:
    """Answer a request with an error."""
    event = {"event": "error", "type": type(error).__name__, "message": str(error)}
    desk.tell(request_id, event | _input(error), last=True)


def do(
    service: ArchiveService,
    request: Request,
    progress: Callable[[str, int, int], None] | None = None,
) -> Any:
    """Do what is asked; the result as JSON takes it."""
    fields, agent = dict(request.fields), request.agent_id
    session_id = fields.get("session_id", "")
    doing: dict[Kind, Callable[[], Any]] = {
        "archive": lambda: _plain(service.archive(session_id, agent_id=agent, progress=progress)),
        "restore": lambda: _plain(service.restore(session_id, agent_id=agent)),
        "search": lambda: _search(service, fields),
        "purge": lambda: [_plain(each) for each in service.purge(session_id, agent_id=agent)],
        "hold": lambda: service.hold(session_id, fields["reason"], agent_id=agent),
        "release": lambda: service.release(session_id, agent_id=agent),
        "verify": lambda: service.verify(session_id or None, progress),
        "reindex": lambda: service.rebuild_index(progress),
        "list": service.listing,
        "settle": lambda: service.settle(agent_id=agent),
        "purge_due": lambda: service.purge_due(PURGED_AT_ONCE, agent_id=agent),
        "rewrap": lambda: _plain(service.rewrap_keys()),
        "examine": lambda: _examine(service, progress),
        "index": lambda: service.index_session(session_id, progress),
        "without_copy": lambda: service.without_copy(fields["tombstones"]),
    }
    return doing[request.kind]()


def _examine(
    service: ArchiveService, progress: Callable[[str, int, int], None] | None
) -> dict[str, Any]:
    """Whether the index is fit to search; if it is, of which sessions it lacks rows."""
    report = service.report()
    missing = service.missing_rows(MISSING_AT_ONCE, progress) if report.healthy else {}
    return {
        "healthy": report.healthy,
        "reason": report.reason,
        "rebuild": report.rebuild,
        "missing": missing,
        "more": len(missing) >= MISSING_AT_ONCE,
    }


def _search(service: ArchiveService, fields: dict[str, Any]) -> list[dict[str, Any]]:
    from baton.archive.searching import Filters  # noqa: PLC0415  # with the archive's packages only

    filters = Filters(
        session_id=fields.get("session_id"),
        agent=fields.get("agent"),
        since=_instant(fields.get("since")),
        until=_instant(fields.get("until")),
        metadata=fields.get("metadata") or {},
    )
    hits = service.search(fields["question"], limit=fields.get("limit", 10), filters=filters)
    return [_plain(each) for each in hits]


def _telling(desk: RequestDesk, request_id: str) -> Callable[[str, int, int], None]:
    """Tells the asker how far it is, now and then."""
    told_at = 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= PROGRESS_EVERY_SECONDS:
            told_at = now
            desk.tell(request_id, {"event": "progress", "what": what, "done": done, "total": total})

    return tell


def _input(error: BatonError) -> dict[str, Any]:
    """What an error of input is made of, for `_error`: its message alone does not tell."""
    if not isinstance(error, InvalidInputError):
        return {}
    name, expected, got = error.__reduce__()[1]
    known = got is None or isinstance(got, str | int | float)
    shown = got if known else f"<{type(got).__name__}>"
    return {
        "input": [name, expected, shown[:_INPUT_CHARACTERS] if isinstance(shown, str) else shown]
    }


def _error(event: Mapping[str, Any]) -> BatonError:
    """The error of an answer as the archive raised it."""
    name, message = event["type"], event["message"]
    kind: Any = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BatonError)):
        return ArchiveAnswerError(f"{name}: {message}")
    made: BatonError
    made = kind(*event["input"]) if issubclass(kind, InvalidInputError) else kind(message)
    return made


def _plain(record: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(record), default=_known))
    return found


def _known(value: object) -> str:
    if isinstance(value, datetime):
        return iso_utc(value)
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _request_key(request_id: str) -> str:
    return f"archive:{{{request_id}}}:request"


def _answers_key(request_id: str) -> str:
    return f"archive:{{{request_id}}}:answers"
