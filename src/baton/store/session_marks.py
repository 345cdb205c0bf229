"""Tags, checkpoints, pins and flags of the context store's sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from baton.clock import utc_from_ms
from baton.content.tokens import BYTES_PER_TOKEN, estimate_tokens
from baton.errors import InvalidInputError
from baton.ids import check_id, new_operation_id
from baton.store.durations import milliseconds
from baton.store.marks import Flag, check_label, decode_checkpoints, get_checkpoint
from baton.store.parts import parsed
from baton.store.records import Checkpoint
from baton.versions import parse_version
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from baton.store.keys import SessionKeys
    from baton.store.manifest import Manifest
    from baton.store.parts import StoreParts
    from baton.store.records import Extract


class SessionMarks:
    """Names for versions and for places in them. See `ContextStore` for what every method raises.

    What is named is kept from collection.
    """

    _parts: StoreParts

    def tag(
        self,
        session_id: str,
        name: str,
        version: str | None = None,
        *,
        agent_id: str,
        move: bool = False,
    ) -> str:
        """Name a version, the head by default, and keep it; the version.

        Raises:
            TagExistsError: the tag is on another version, and `move` is not set.
            InvalidInputError: the session has a thousand tags.
        """
        with self._parts.session(session_id, agent_id) as keys:
            found = self._find(keys, version).version
            self._parts.marks.tag(keys, check_id(name, "tag"), found, agent_id, move=move)
        return found

    def untag(self, session_id: str, name: str, *, agent_id: str) -> None:
        """Remove a tag; its version may be collected from then on.

        Raises:
            TagNotFoundError: there is no such tag.
        """
        with self._parts.session(session_id, agent_id) as keys:
            self._parts.marks.untag(keys, check_id(name, "tag"), agent_id)

    def tags(self, session_id: str) -> dict[str, str]:
        """Tag to version, by name."""
        with self._parts.reading(session_id) as keys:
            _, (found,) = self._parts.reader.at_once(
                keys, lambda pipeline: pipeline.hgetall(keys.tags)
            )
        return {name.decode(): version.decode() for name, version in sorted(found.items())}

    def checkpoint(
        self,
        session_id: str,
        label: str,
        *,
        agent_id: str,
        byte_position: int | None = None,
        token_position: int | None = None,
        version: str | None = None,
        checkpoint_id: str | None = None,
    ) -> Checkpoint:
        """Mark a place in a version to `resume` from, and keep the version.

        Args:
            session_id: the session.
            label: what the place is, 1 to 200 printable characters. Not sealed.
            agent_id: who marks it.
            byte_position: the first byte behind what is done.
            token_position: or about how many tokens are done (4 bytes each); moved back to the
                start of a character. None of the two: the end.
            version: None: the head.
            checkpoint_id: its name; repeating a call under one name adds nothing. None: a new one.

        Raises:
            InvalidInputError: the position is past the end or within a character, both positions
                are given, or the session has a thousand checkpoints.
            VersionNotFoundError: there is no such version.
        """
        if byte_position is not None and token_position is not None:
            raise InvalidInputError("byte_position", "either it or token_position", "<both>")
        name = f"cp_{new_operation_id()[:16]}" if checkpoint_id is None else checkpoint_id
        with self._parts.session(session_id, agent_id) as keys:
            found, position = self._find_position(keys, version, byte_position, token_position)
            draft = Checkpoint(
                checkpoint_id=check_id(name, "checkpoint_id"),
                label=check_label(label, "label"),
                version=found,
                byte_position=position,
                token_position=estimate_tokens(position),
                agent_id=agent_id,
                created_at=utc_from_ms(0),
            )
            return self._parts.marks.checkpoint(keys, draft, agent_id)

    def checkpoints(self, session_id: str) -> list[Checkpoint]:
        """All checkpoints of the session, the oldest first."""
        with self._parts.reading(session_id) as keys:
            return self._checkpoints(keys)

    def resume(
        self, session_id: str, checkpoint_id: str, *, agent_id: str | None = None
    ) -> Extract:
        """What stands behind a checkpoint, in the version it was made in.

        Raises:
            CheckpointNotFoundError: there is no such checkpoint.
            what `get` raises.
        """
        with self._parts.reading(session_id, agent_id) as keys:
            wanted = check_id(checkpoint_id, "checkpoint_id")
            found = get_checkpoint(keys, wanted, self._checkpoints(keys))
            return self._parts.read_range(keys, found.version, found.byte_position, None, agent_id)

    def pin(
        self, session_id: str, name: str, version: str, *, agent_id: str, seconds: float
    ) -> None:
        """Keep a version from collection for that long, or until `unpin`.

        Raises:
            VersionNotFoundError: there is no such version.
        """
        expires_ms = milliseconds(seconds, "seconds")
        with self._parts.session(session_id, agent_id) as keys:
            wanted = str(parse_version(version))
            self._parts.marks.pin(keys, check_id(name, "pin"), wanted, agent_id, expires_ms)

    def unpin(self, session_id: str, name: str, *, agent_id: str) -> None:
        """Let go of a pin; one that is gone already is no error."""
        with self._parts.session(session_id, agent_id) as keys:
            self._parts.marks.unpin(keys, check_id(name, "pin"), agent_id)

    def set_flag(self, session_id: str, flag: Flag, *, agent_id: str) -> None:
        """Set a flag for good: an `immutable` session takes no more versions, but can be deleted.

        Raises:
            InvalidInputError: there is no such flag.
        """
        if flag not in get_args(Flag):
            raise InvalidInputError("flag", " or ".join(get_args(Flag)), flag)
        with self._parts.session(session_id, agent_id) as keys:
            self._parts.marks.flag(keys, flag, agent_id)

    def _checkpoints(self, keys: SessionKeys) -> list[Checkpoint]:
        _, (found,) = self._parts.reader.at_once(
            keys, lambda pipeline: pipeline.lrange(keys.checkpoints, 0, -1)
        )
        return decode_checkpoints(found, keys)

    def _find_position(
        self,
        keys: SessionKeys,
        version: str | None,
        byte_position: int | None,
        token_position: int | None,
    ) -> tuple[str, int]:
        wanted = parsed(version)
        if byte_position is None and token_position is None:
            manifest = self._find(keys, version)
            return manifest.version, manifest.size_bytes
        field, given = (
            ("token_position", token_position)
            if byte_position is None
            else ("byte_position", byte_position)
        )
        given = check_whole_number(given, field)
        position = given if byte_position is not None else given * BYTES_PER_TOKEN
        return self._parts.extracts.position(
            keys, wanted, position, exact=byte_position is not None
        )

    def _find(self, keys: SessionKeys, version: str | None) -> Manifest:
        return self._parts.reader.with_version(
            keys, keys.session_id, parsed(version), lambda opened: opened.manifest
        )
