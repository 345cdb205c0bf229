"""The importing part of the context store: an envelope becomes a version, with its marks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from baton.envelope.free_metadata import metadata_of
from baton.envelope.reading import read_envelope
from baton.errors import VersionNotFoundError
from baton.store.imported import (
    adds_nothing,
    check_room,
    imported_checkpoints,
    imported_flags,
    imported_text,
    without_checkpoints,
)
from baton.store.parts import parsed
from baton.store.version_facts import checked_metadata
from baton.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from baton.envelope.model import EnvelopeHeader
    from baton.store.marks import Flag
    from baton.store.parts import StoreParts
    from baton.store.records import Checkpoint, Commit
    from baton.store.writing import Draft


class EnvelopeImports:
    """What imports envelopes. See `ContextStore` for what every method raises."""

    _parts: StoreParts

    def import_envelope(
        self,
        source: bytes | str | BinaryIO | Mapping[str, Any],
        *,
        agent_id: str,
        session_id: str | None = None,
        base_version: str | None = None,
        sealed: bool = False,
        fernet_key: str | None = None,
        operation_id: str | None = None,
    ) -> Commit:
        """Store the context in a CMCSP envelope: all of it is verified first, or nothing written.

        Its metadata, dependencies and checkpoints come along, and the flags `immutable` and
        `sensitive`. Checkpoints and flags are put right behind the commit. Should the process die
        there, repeat the call under its `operation_id`: what is missing of these is added. Only
        what others put there in that moment can still be in their way, and is raised.

        Checkpoints are places of the envelope's text. Where the version that now holds it is
        another text, they are not put, but named in the commit's `unplaced_checkpoints` and logged:
        if it was merged, and always of a Fernet token, whose places are none in what it encrypts.
        After `merge_required` neither they nor the flags are put.

        Args:
            source: the JSON text, a binary file of it, or the parsed document.
            agent_id: who imports it.
            session_id: None: the one that the envelope names.
            base_version: the version of an existing session that it goes on top of, as in `put`;
                None: the session must be new, and begins with the envelope's version.
            sealed: a session that begins with it is sealed. What comes encrypted always is.
            fernet_key: opens a text that is encrypted the protocol's way, as a Fernet token.
            operation_id: as in `put`.

        Raises:
            InvalidInputError, ContextTooLargeError, ContextCorruptError, UnsupportedFormatError:
                what is wrong with the envelope, by the field's path; also a label that
                `checkpoint` refuses, and more checkpoints than the session has room for.
            CheckpointExistsError: the session has another checkpoint of the same id.
            SessionExistsError: there is such a session, and no `base_version` was given.
            SealedError: it is encrypted, and no `fernet_key` was given.
            what `put` raises.
        """
        content = read_envelope(source, limit_bytes=self._parts.max_context_bytes)
        header, ours = content.header, content.header.metadata.baton
        target = header.session_id if session_id is None else session_id
        text = imported_text(content, fernet_key)
        draft = self._parts.draft(target, text, agent_id, operation_id, operation="import")
        version = ours.context_version if ours is not None and base_version is None else None
        draft = replace(
            draft,
            base=parsed(base_version) or "",
            explicit=None if version is None else parse_version(version),
            content_type=ours.content_type if ours is not None else None,
            metadata=checked_metadata(metadata_of(header)),
            sealed=sealed or header.flags.encrypted,
            create=base_version is None,
        )
        return self._commit_import(draft, header)

    def _commit_import(self, draft: Draft, header: EnvelopeHeader) -> Commit:
        checkpoints = imported_checkpoints(header, draft.agent_id)
        places = [] if header.flags.encrypted else checkpoints
        self._check_room(draft, places)
        commit = self._parts.commit(draft)
        if commit.action == "merge_required":
            return without_checkpoints(commit, checkpoints)
        fits = bool(places) and self._holds(commit, draft)
        flags = imported_flags(header)
        self._put_marks(commit, places if fits else [], flags, draft.agent_id)
        return commit if fits else without_checkpoints(commit, checkpoints)

    def _check_room(self, draft: Draft, checkpoints: Sequence[Checkpoint]) -> None:
        """Refuse, before the commit, checkpoints that could not be put behind it."""
        there: list[Checkpoint] = []
        version = ""
        if checkpoints and not draft.create:
            with self._parts.session(draft.session_id, draft.agent_id) as keys:
                if draft.once and self._parts.find_done(keys, draft.operation_id) is not None:
                    return
                head = self._parts.reader.with_version(
                    keys, draft.session_id, None, lambda opened: opened
                )
                if adds_nothing(head, draft, self._parts.writer):
                    version = head.manifest.version
                there = self._parts.marks.checkpoints(keys)
        check_room(draft.session_id, checkpoints, there, version)

    def _holds(self, commit: Commit, draft: Draft) -> bool:
        """Whether the committed version is there and has the draft's content, and no other."""
        with self._parts.session(draft.session_id, draft.agent_id) as keys:
            try:
                return self._parts.reader.with_version(
                    keys,
                    draft.session_id,
                    commit.version,
                    lambda opened: self._parts.writer.has_content(opened, draft),
                )
            except VersionNotFoundError:  # a repeat, long after
                return False

    def _put_marks(
        self, commit: Commit, checkpoints: Sequence[Checkpoint], flags: Sequence[Flag], agent: str
    ) -> None:
        placed = [replace(each, version=commit.version) for each in checkpoints]
        if placed or flags:
            with self._parts.session(commit.session_id, agent) as keys:
                self._parts.marks.put_imported(keys, commit.version, placed, flags, agent)
