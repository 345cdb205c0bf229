"""How a session leaves Redis for the archive, comes back, is held, and is forgotten."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from baton.clock import utc_from_ms
from baton.errors import (
    ContextNotFoundError,
    InvalidInputError,
    SessionBusyError,
    SessionExistsError,
    SessionHeldError,
    StoreRefusedError,
)
from baton.failpoints import reach
from baton.scripts import Script
from baton.settings import DAY_SECONDS
from baton.store.dumps import DumpReader
from baton.store.refusals import archived_error, not_found
from baton.versions import next_version, parse_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from baton.binary_redis import BinaryRedis
    from baton.content.sealing import Sealer
    from baton.store.audit_entries import Caller
    from baton.store.dumps import SessionDump, Which
    from baton.store.keys import SessionKeys
    from baton.store.manifest import StampedManifest
    from baton.store.reading import ContextReader

_ARCHIVE: Final = Script("baton.store", "archive")
_RESTORE: Final = Script("baton.store", "restore")
_HOLD: Final = Script("baton.store", "hold")
_PURGE: Final = Script("baton.store", "purge")
_SET_DURATIONS: Final = Script("baton.store", "set_durations")

# A tombstone outlives its purge by this, so that a sweep which is late still finds it.
TOMBSTONE_MARGIN_MS: Final = 30 * DAY_SECONDS * 1000
STAGING_MS: Final = 600_000
STAGED_BYTES: Final = 4 * 1024 * 1024
MAX_TRIES: Final = 3
MAX_REASON_CHARACTERS: Final = 200
# Not a container's own: what happened here since it was dumped, or belongs to its tombstone.
_NOT_RESTORED: Final = frozenset({"state", "shelf", "hold"})


@dataclass(frozen=True, slots=True)
class Copy:
    """Which copy of a session the archive has: its shelf, and the copy's name there."""

    shelf: str
    name: str


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore made: the head's new version. `was_here`: it had been done before."""

    session_id: str
    version: str
    etag: str
    committed_at: datetime
    was_here: bool


class SessionMoves:
    """Moves sessions. Every step is one script, or can be asked again.

    Args:
        client: a binary client.
        reader: opens manifests.
        caller: for the audit.
        backstop_ms: expiry of what comes back.
    """

    def __init__(
        self, client: BinaryRedis, reader: ContextReader, caller: Caller, backstop_ms: int
    ) -> None:
        self._redis = client
        self._reader = reader
        self._caller = caller
        self._backstop_ms = backstop_ms
        self._dumps = DumpReader(client, reader)

    def dump(self, keys: SessionKeys, which: Which) -> SessionDump:
        """See `DumpReader.read`."""
        return self._dumps.read(keys, which)

    def chunks(self, keys: SessionKeys, sizes: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
        """See `DumpReader.chunks`."""
        return self._dumps.chunks(keys, sizes)

    def sealer(self, keys: SessionKeys, dump: SessionDump) -> Sealer | None:
        """What opens a dump's manifests and chunks, of a session that is here; None: unsealed.

        Raises: what `ContextReader.sealer` does.
        """
        return self._reader.sealer(keys, keys.session_id, dump.container.get("data_key", ""))

    def let_go(
        self, keys: SessionKeys, dump: SessionDump, copy: Copy, agent_id: str, archived_ms: int
    ) -> datetime | None:
        """Leave a tombstone where the session is as it was dumped; when the copy is to be purged.

        None where something happened since: the session stays whole, and its copy is stale.
        Asked again, it finishes what it began.
        """
        request = {
            **self._asked(agent_id, copy),
            "etag": dump.container["head_etag"],
            "epoch": dump.container.get("epoch", "0"),
            "accessed_at": dump.accessed_at_ms,
            "archived_ms": archived_ms,
        }
        return self._clear(keys, request)

    def finish_letting_go(self, keys: SessionKeys, copy: Copy, agent_id: str) -> datetime | None:
        """Finish what a `let_go` began that died; None where there is no tombstone of that copy."""
        request = {
            **self._asked(agent_id, copy),
            "etag": "",
            "epoch": "",
            "accessed_at": "",
            "archived_ms": 0,
        }
        return self._clear(keys, request)

    def _clear(self, keys: SessionKeys, request: Mapping[str, Any]) -> datetime | None:
        arguments: list[str | bytes | float] = [json.dumps(request), TOMBSTONE_MARGIN_MS]
        while True:
            answer, _, purge_at_ms = _ARCHIVE(self._redis, [keys.base], arguments)
            reach("archive.clearing")
            if answer == b"done":
                return utc_from_ms(int(purge_at_ms))
            if answer != b"more":
                return None

    def bring_back(
        self,
        dump: SessionDump,
        keys: SessionKeys,
        copy: Copy,
        agent_id: str,
        operation_id: str,
        fetch: Callable[[], Iterable[tuple[int, bytes]]],
        sealer: Sealer | None,
        hold: str = "",
    ) -> Restored:
        """Put a dump and its chunks back; the head is a new version with the same content.

        Args:
            dump: as the archive kept it.
            keys: the session's.
            copy: which one it is.
            agent_id: who restores.
            operation_id: names the restore: asked again under it, nothing is done twice.
            fetch: the chunks as they were stored; called again where what was staged went missing.
            sealer: of a sealed session.
            hold: why it is held, as the archive knows; its tombstone goes before.

        Raises:
            SessionExistsError: the session is here, and not by this restore.
            SessionBusyError: it is being deleted, or not all of it has left Redis yet.
            StoreRefusedError: what was staged went missing each time.
        """
        head = _new_head(dump, agent_id, operation_id, sealer)
        for _ in range(MAX_TRIES):
            prefix = keys.staging_prefix(operation_id)
            staged = self._stage(prefix, fetch())
            reach("restore.staged")
            request = self._restore_request(dump, copy, agent_id, operation_id, head)
            request |= {"staging": prefix, "staged": staged, "hold": hold}
            answer = _RESTORE(self._redis, [keys.base], [json.dumps(request), *_pairs(dump, head)])
            kind, version, etag, at_us = (part.decode() for part in answer)
            if kind != "missing_staging":
                _check_restorable(keys.session_id, kind)
                at = utc_from_ms(float(at_us) / 1000)
                return Restored(keys.session_id, version, etag, at, kind == "repeated")
        raise StoreRefusedError(
            f"session {keys.session_id}: what was staged went missing at each of {MAX_TRIES} "
            "tries; does the server evict keys?"
        )

    def _stage(self, prefix: str, chunks: Iterable[tuple[int, bytes]]) -> list[tuple[int, int]]:
        staged: list[tuple[int, int]] = []
        pipeline, waiting_bytes = self._redis.pipeline(transaction=False), 0
        for chunk_id, stored in chunks:
            pipeline.set(f"{prefix}{len(staged)}", stored, px=STAGING_MS)
            staged.append((chunk_id, len(stored)))
            waiting_bytes += len(stored)
            if waiting_bytes >= STAGED_BYTES:
                pipeline.execute()
                waiting_bytes = 0
        pipeline.execute()
        return staged

    def _restore_request(
        self,
        dump: SessionDump,
        copy: Copy,
        agent_id: str,
        operation_id: str,
        head: StampedManifest,
    ) -> dict[str, Any]:
        return {
            **self._asked(agent_id, copy),
            "operation": operation_id,
            "backstop_ms": self._backstop_ms,
            "container": {
                name: text for name, text in dump.container.items() if name not in _NOT_RESTORED
            },
            "metadata": dict(dump.metadata),
            "history": [
                (f"{each.version}:{each.stamped.manifest.content_hash}", each.committed_at)
                for each in dump.versions
            ],
            "past": dict(dump.past),
            "authors": dict(dump.authors),
            "tags": dict(dump.tags),
            "checkpoints": dump.checkpoints,
            "wrapped_key": dump.wrapped_key,
            "head": {
                "version": head.manifest.version,
                "etag": head.etag,
                "hash": head.manifest.content_hash,
            },
        }

    def hold(self, keys: SessionKeys, reason: str, agent_id: str) -> bool:
        """Put the session under hold; False if it was, for that reason.

        Raises:
            InvalidInputError: the reason is no line of 1 to 200 printable characters.
            ContextNotFoundError: there is no such session.
        """
        check_reason(reason)
        return self._set_hold(keys, reason, agent_id)

    def release(self, keys: SessionKeys, agent_id: str) -> bool:
        """Let go of a hold, and give everything its expiry again; False if there was none.

        Raises:
            ContextNotFoundError: there is no such session.
        """
        return self._set_hold(keys, "", agent_id)

    def _set_hold(self, keys: SessionKeys, reason: str, agent_id: str) -> bool:
        request = {
            "reason": reason,
            "agent": agent_id,
            "caller": self._caller.as_dict(),
            "backstop_ms": self._backstop_ms,
            "tombstone_ms": TOMBSTONE_MARGIN_MS,
        }
        first, is_new = 0, False
        while first >= 0:
            answer, first = _HOLD(self._redis, [keys.base], [json.dumps(request), first])
            if answer == b"absent":
                raise not_found(keys.session_id)
            is_new = is_new or answer == b"ok"
        return is_new

    def set_durations(
        self, keys: SessionKeys, fields: Mapping[str, int | Literal[""]], agent_id: str
    ) -> None:
        """Give the session durations of its own, in ms; an empty one is taken away.

        Raises:
            ContextNotFoundError, ContextArchivedError: it is not here.
        """
        request = {"agent": agent_id, "caller": self._caller.as_dict(), "fields": dict(fields)}
        match _SET_DURATIONS(self._redis, [keys.base], [json.dumps(request)]):
            case b"absent":
                raise not_found(keys.session_id)
            case b"archived":
                raise archived_error(keys.session_id)

    def bury(
        self, keys: SessionKeys, shelf: str, agent_id: str, receipt: Mapping[str, Any]
    ) -> bool:
        """Take the tombstone of an erased copy away, and audit the receipt; False if that was done.

        Raises:
            SessionHeldError: it is under hold.
        """
        request = {
            "shelf": shelf,
            "agent": agent_id,
            "caller": self._caller.as_dict(),
            "details": dict(receipt),
        }
        answer = _PURGE(self._redis, [keys.base], [json.dumps(request)])
        if answer == b"held":
            raise held_error(keys.session_id, "see `baton lifecycle status`")
        return bool(answer == b"purged")

    def _asked(self, agent_id: str, copy: Copy) -> dict[str, Any]:
        return {
            "agent": agent_id,
            "caller": self._caller.as_dict(),
            "shelf": copy.shelf,
            "copy": copy.name,
        }


def check_reason(reason: object) -> None:
    """Raise InvalidInputError unless it is a line of 1 to 200 printable characters."""
    is_line = isinstance(reason, str) and reason.isprintable() and bool(reason.strip())
    if not is_line or len(str(reason)) > MAX_REASON_CHARACTERS:
        raise InvalidInputError(
            "reason", f"1 to {MAX_REASON_CHARACTERS} printable characters", reason
        )


def held_error(session_id: str, reason: str) -> SessionHeldError:
    """The error for what a hold forbids."""
    return SessionHeldError(
        f"session {session_id} is under hold ({reason}); `baton lifecycle release {session_id}` "
        "first"
    )


def _new_head(
    dump: SessionDump, agent_id: str, operation_id: str, sealer: Sealer | None
) -> StampedManifest:
    """The old head's content as a version of its own. Versions only go up."""
    old = dump.head.stamped.manifest
    version = str(next_version(parse_version(old.version), None, "patch"))
    return old.model_copy(
        update={
            "version": version,
            "parent": old.version,
            "base": old.version,
            "author": agent_id,
            "action": "accepted",
            "operation": "restore",
            "operation_id": operation_id,
            "source": f"{old.session_id}@{old.version}",
        }
    ).encode(sealer)


def _pairs(dump: SessionDump, head: StampedManifest) -> list[str | bytes]:
    stamped = [*(each.stamped for each in dump.versions), head]
    return [part for each in stamped for part in (each.manifest.version, each.stored)]


def _check_restorable(session_id: str, answer: str) -> None:
    match answer:
        case "live":
            raise SessionExistsError(
                f"session {session_id} is not archived: it is in Redis; delete it first, or "
                "restore nothing"
            )
        case "elsewhere":
            raise ContextNotFoundError(
                f"session {session_id} is archived elsewhere: its tombstone names another copy"
            )
        case "clearing" | "deleting":
            raise SessionBusyError(
                f"session {session_id} is {'leaving Redis' if answer == 'clearing' else answer}; "
                "try again"
            )
