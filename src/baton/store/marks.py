"""Marks of a session: tags, checkpoints, pins and flags. They say what must not be collected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

from baton.clock import utc_from_ms
from baton.errors import (
    CheckpointExistsError,
    CheckpointNotFoundError,
    ContextCorruptError,
    InvalidInputError,
    TagExistsError,
    TagNotFoundError,
    VersionNotFoundError,
)
from baton.ids import new_operation_id
from baton.scripts import Script
from baton.store.records import Checkpoint
from baton.store.refusals import archived_error, not_found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.binary_redis import BinaryRedis
    from baton.store.audit_entries import Caller
    from baton.store.keys import SessionKeys

_MARK: Final = Script("baton.store", "mark")
_IMPORT_MARKS: Final = Script("baton.store", "import_marks")

MAX_MARKS: Final = 1_000
# One for each open handoff.
MAX_PINS: Final = 100_000
MAX_LABEL_CHARACTERS: Final = 200
# What the server does for so many, at once, takes it about a millisecond.
IMPORTED_AT_ONCE: Final = 250

Flag = Literal["immutable", "sensitive"]


class Marks:
    """Puts, removes and lists marks. Each change is one script with its own audit entry."""

    def __init__(self, client: BinaryRedis, caller: Caller) -> None:
        self._redis = client
        self._caller = caller

    def tag(self, keys: SessionKeys, name: str, version: str, agent_id: str, *, move: bool) -> None:
        """Put a tag on a version; raises as `ContextStore.tag` does."""
        self._mark(keys, agent_id, kind="tag", name=name, version=version, move=move)

    def untag(self, keys: SessionKeys, name: str, agent_id: str) -> None:
        """Remove a tag."""
        self._mark(keys, agent_id, kind="untag", name=name)

    def pin(
        self, keys: SessionKeys, name: str, version: str, agent_id: str, expires_ms: int
    ) -> None:
        """Keep a version from collection until then."""
        self._mark(keys, agent_id, kind="pin", name=name, version=version, expires_ms=expires_ms)

    def unpin(self, keys: SessionKeys, name: str, agent_id: str) -> None:
        """Let go of a pin; one that is gone already is no error."""
        self._mark(keys, agent_id, kind="unpin", name=name)

    def flag(self, keys: SessionKeys, flag: Flag, agent_id: str) -> None:
        """Set a flag of the session, for good."""
        self._mark(keys, agent_id, kind="flag", name=flag)

    def checkpoint(self, keys: SessionKeys, draft: Checkpoint, agent_id: str) -> Checkpoint:
        """Add a checkpoint; as it was stored, which tells its time."""
        stored = self._mark(
            keys,
            agent_id,
            kind="checkpoint",
            name=draft.checkpoint_id,
            version=draft.version,
            fields=_fields_of(draft),
        )
        return decode_checkpoint(stored, keys)

    def put_imported(
        self,
        keys: SessionKeys,
        version: str,
        checkpoints: Sequence[Checkpoint],
        flags: Sequence[Flag],
        agent_id: str,
    ) -> None:
        """Put an envelope's checkpoints, which are in `version`, and its flags.

        A batch a round trip, the flags with the last; again, nothing changes.

        Raises:
            CheckpointExistsError: one of them is elsewhere already.
            InvalidInputError: they are too many beside those of the session.
        """
        last = max(len(checkpoints) - 1, 0) // IMPORTED_AT_ONCE * IMPORTED_AT_ONCE
        for begin in range(0, last + 1, IMPORTED_AT_ONCE):
            batch = checkpoints[begin : begin + IMPORTED_AT_ONCE]
            self._put_batch(keys, version, batch, flags if begin == last else (), agent_id)

    def _put_batch(
        self,
        keys: SessionKeys,
        version: str,
        checkpoints: Sequence[Checkpoint],
        flags: Sequence[Flag],
        agent_id: str,
    ) -> None:
        request = {
            "agent": agent_id,
            "caller": self._caller.as_dict(),
            "limit": MAX_MARKS,
            "version": version,
            "flags": flags,
        }
        entries = [json.dumps(_fields_of(each), separators=(",", ":")) for each in checkpoints]
        answer, found = _IMPORT_MARKS(self._redis, [keys.base], [json.dumps(request), *entries])
        match answer.decode():
            case "too_many":
                raise too_many_checkpoints("checkpoints", len(checkpoints))
            case "exists":
                raise checkpoint_exists(keys.session_id, found.decode())
            case refused:
                _check_markable(keys, refused, version)

    def checkpoints(self, keys: SessionKeys) -> list[Checkpoint]:
        """All checkpoints, the oldest first.

        Raises:
            ContextCorruptError: an entry is none.
        """
        return decode_checkpoints(self._redis.lrange(keys.checkpoints, 0, -1), keys)

    def _mark(
        self, keys: SessionKeys, agent_id: str, *, kind: str, name: str, **fields: Any
    ) -> bytes:
        """Run the script: what it found or wrote."""
        request = {
            "id": new_operation_id(),
            "kind": kind,
            "name": name,
            "agent": agent_id,
            "caller": self._caller.as_dict(),
            "limit": MAX_PINS if kind == "pin" else MAX_MARKS,
            "version": "",
            **fields,
        }
        answer, _, found = _MARK(self._redis, [keys.base], [json.dumps(request)])
        match answer.decode():
            case "too_many":
                raise InvalidInputError(kind, f"at most {request['limit']} in a session", name)
            case "exists":
                raise TagExistsError(
                    f"session {keys.session_id}: tag {name} is on version {found.decode()}; move "
                    "it, or choose another name"
                )
            case "no_mark" if kind == "untag":
                raise TagNotFoundError(f"session {keys.session_id} has no tag {name}")
            case refused:
                _check_markable(keys, refused, request["version"])
        return bytes(found)


def check_label(label: object, field: str) -> str:
    """Return `label` if it is a line of 1 to 200 printable characters.

    Raises:
        InvalidInputError: it is not.
    """
    if isinstance(label, str) and 0 < len(label) <= MAX_LABEL_CHARACTERS and label.isprintable():
        return label
    raise InvalidInputError(field, f"1 to {MAX_LABEL_CHARACTERS} printable characters", label)


def checkpoint_exists(session_id: str, where: str) -> CheckpointExistsError:
    """The error for a checkpoint whose id is that of another place; `where` names both."""
    return CheckpointExistsError(
        f"session {session_id}: checkpoint {where} is at another place already; choose another id"
    )


def too_many_checkpoints(field: str, count: int) -> InvalidInputError:
    """The error for so many checkpoints that they have no room beside those of their session."""
    return InvalidInputError(field, f"at most {MAX_MARKS} in a session", f"<{count} more>")


def _check_markable(keys: SessionKeys, answer: str, version: str) -> None:
    match answer:
        case "absent":
            raise not_found(keys.session_id)
        case "archived":
            raise archived_error(keys.session_id)
        case "no_version":
            raise VersionNotFoundError(f"session {keys.session_id} has no version {version}")


def _fields_of(checkpoint: Checkpoint) -> dict[str, str | int]:
    """What is stored of it, but for the time."""
    return {
        "checkpoint_id": checkpoint.checkpoint_id,
        "label": checkpoint.label,
        "version": checkpoint.version,
        "byte_position": checkpoint.byte_position,
        "token_position": checkpoint.token_position,
        "agent_id": checkpoint.agent_id,
    }


def get_checkpoint(
    keys: SessionKeys, checkpoint_id: str, checkpoints: Sequence[Checkpoint]
) -> Checkpoint:
    """One of a session's checkpoints.

    Raises:
        CheckpointNotFoundError: there is none of that id.
    """
    for found in checkpoints:
        if found.checkpoint_id == checkpoint_id:
            return found
    raise CheckpointNotFoundError(
        f"session {keys.session_id} has no checkpoint {checkpoint_id}; `baton context "
        f"checkpoints {keys.session_id}` lists them"
    )


def decode_checkpoints(stored: Sequence[bytes], keys: SessionKeys) -> list[Checkpoint]:
    """A session's checkpoints as they are stored.

    Raises:
        ContextCorruptError: one of them is none.
    """
    return [decode_checkpoint(raw, keys) for raw in stored]


def decode_checkpoint(raw: bytes, keys: SessionKeys) -> Checkpoint:
    """One stored checkpoint.

    Raises:
        ContextCorruptError: it is not what was stored.
    """
    try:
        fields = json.loads(raw)
        return Checkpoint(
            checkpoint_id=str(fields["checkpoint_id"]),
            label=str(fields["label"]),
            version=str(fields["version"]),
            byte_position=int(fields["byte_position"]),
            token_position=int(fields["token_position"]),
            agent_id=str(fields["agent_id"]),
            created_at=utc_from_ms(int(fields["created_at"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ContextCorruptError(
            f"session {keys.session_id}: a checkpoint is not what was stored ({error!r})"
        ) from error
