"""The reading half of the context store: versions, parts of them, differences, history."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

from baton.clock import utc_from_ms
from baton.errors import VersionNotFoundError
from baton.ids import check_id
from baton.merge.text_difference import diff_text
from baton.store.differences import VersionDifference, find_patch
from baton.store.parts import parsed, reader_id
from baton.store.records import SessionInfo
from baton.store.refusals import VersionGoneError, corrupt
from baton.versions import parse_version
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from baton.envelope.model import WireCodec
    from baton.store.heads import OpenedVersion
    from baton.store.manifest import Manifest
    from baton.store.parts import StoreParts
    from baton.store.records import Context, Extract, ReadChunk, VersionRecord

_FLAGS: Final = ("immutable", "sensitive", "encrypted", "archived")


class ContextReads:
    """What reads contexts, and writes nothing but notes of it.

    See `ContextStore` for what every method raises.
    """

    _parts: StoreParts

    def get(
        self, session_id: str, version: str | None = None, *, agent_id: str | None = None
    ) -> Context:
        """Read one version, the head by default, and verify it.

        Args:
            session_id: the session.
            version: a version; None: the head.
            agent_id: who reads, for the note of this read; None is noted as anonymous.

        Raises:
            ContextNotFoundError: no such session.
            VersionNotFoundError: the session has no such version.
        """
        reader = reader_id(agent_id)
        wanted = parsed(version)
        with self._parts.reading(session_id, agent_id) as keys:
            context = self._parts.reader.read(keys, session_id, wanted)
        self._parts.notes.add(keys, context.version, reader)
        return context

    def read_range(
        self,
        session_id: str,
        start_byte: int = 0,
        end_byte: int | None = None,
        *,
        version: str | None = None,
        agent_id: str | None = None,
    ) -> Extract:
        """The characters of a version that begin at `start_byte` up to `end_byte`.

        Both ends move back to the first byte of a character, so ranges that follow each other
        lose and repeat nothing. Past the end there is nothing. Fetches and verifies only the
        chunks that the range touches.

        Raises:
            InvalidInputError: a bound is negative, or the end is before the start.
            what `get` raises.
        """
        check_whole_number(start_byte, "start_byte")
        if end_byte is not None:
            check_whole_number(end_byte, "end_byte", least=start_byte)
        with self._parts.reading(session_id, agent_id) as keys:
            return self._parts.read_range(keys, parsed(version), start_byte, end_byte, agent_id)

    def read_chunk(
        self,
        session_id: str,
        index: int,
        *,
        overlap_tokens: int = 500,
        version: str | None = None,
        agent_id: str | None = None,
    ) -> ReadChunk:
        """Chunk `index` of a version, from 0, as the protocol cuts one for a model to read.

        A chunk has at most 1 MiB, of which the first `overlap_tokens` * 4 bytes (about so many
        tokens) are the end of the one before. The envelope's chunks are the same.

        Raises:
            InvalidInputError: there is no such chunk; names how many there are.
            what `get` raises.
        """
        with self._parts.reading(session_id, agent_id) as keys:
            chunk = self._parts.extracts.chunk(keys, parsed(version), index, overlap_tokens)
        self._parts.notes.add(keys, chunk.version, reader_id(agent_id))
        return chunk

    def diff(
        self, session_id: str, old_version: str, new_version: str, *, agent_id: str | None = None
    ) -> VersionDifference:
        """What changed from one version to another; as JSON Patch too, where both are documents.

        Noted as a read of each by `agent_id`.

        Raises:
            ContextNotFoundError, VersionNotFoundError: there is no such.
        """
        before = str(parse_version(old_version, "old_version"))
        after = str(parse_version(new_version, "new_version"))
        with self._parts.reading(session_id, agent_id) as keys:
            old, old_text = self._parts.read_whole(keys, before, agent_id)
            new, new_text = self._parts.read_whole(keys, after, agent_id)
        types = {old.manifest.content_type, new.manifest.content_type}
        return VersionDifference(
            session_id,
            old.manifest.version,
            new.manifest.version,
            diff_text(old_text, new_text),
            find_patch(old_text, new_text, is_json=types == {"application/json"}),
        )

    def export_envelope(
        self,
        session_id: str,
        version: str | None = None,
        *,
        compression: WireCodec = "gzip",
        agent_id: str | None = None,
    ) -> Iterator[bytes]:
        """A version as the protocol's JSON envelope, in parts, to be written as they come.

        A sealed session comes out in clear, for those who can read it. Streams: a few megabytes
        are held at once, whatever the context's size. Should it turn out damaged, or be deleted or
        collected meanwhile, an error is raised before the document is whole.

        Args:
            session_id: the session.
            version: None: the head.
            compression: of the chunks: `gzip`, `brotli` or `none`.
            agent_id: who exports it.

        Raises:
            InvalidInputError: there is no such compression.
            what `get` raises.
        """
        exporter = reader_id(agent_id)
        with self._parts.reading(session_id, agent_id) as keys:
            opened, parts = self._parts.reader.with_version(
                keys,
                session_id,
                parsed(version),
                lambda each: (each, self._parts.export.stream(each, compression)),
            )
        self._parts.notes.add(keys, opened.manifest.version, exporter, operation="exported")
        return parts

    def history(self, session_id: str, limit: int | None = None) -> list[VersionRecord]:
        """The session's versions, newest first, at most `limit` (1 or more).

        Raises:
            ContextNotFoundError: no such session.
            ContextCorruptError: a manifest is missing or damaged.
        """
        if limit is not None:
            check_whole_number(limit, "limit", least=1)
        with self._parts.reading(session_id) as keys:
            return self._parts.reader.history(keys, session_id, -1 if limit is None else limit - 1)

    def show(self, session_id: str) -> SessionInfo:
        """What is known of the session, without its content.

        Raises:
            ContextNotFoundError: no such session.
            ContextCorruptError: the head's manifest is missing or damaged.
        """
        with self._parts.reading(session_id) as keys:
            return self._parts.reader.with_version(keys, session_id, None, self._info)

    def _info(self, opened: OpenedVersion) -> SessionInfo:
        """What is known of the session whose head was opened; of one instant.

        Raises:
            VersionGoneError: it has another head by now.
        """
        keys = opened.keys
        head, (container, metadata, version_count, expires_in_ms) = self._parts.reader.at_once(
            keys,
            lambda pipeline: pipeline.hgetall(keys.base),
            lambda pipeline: pipeline.hgetall(keys.metadata),
            lambda pipeline: pipeline.hlen(keys.manifests),
            lambda pipeline: pipeline.pttl(keys.base),
        )
        if head.etag != opened.head.etag:
            raise VersionGoneError
        try:
            return _session_info(opened.manifest, container, metadata, version_count, expires_in_ms)
        except (KeyError, ValueError) as error:
            problem = f"its metadata is damaged ({error})"
            raise corrupt(keys.session_id, head.version, problem) from error

    def resolve_version(self, session_id: str, version: str | None = None) -> str:
        """`version` if the session has it; the head if `version` is None. Reads no content.

        Raises:
            ContextNotFoundError, VersionNotFoundError, ContextArchivedError: there is no such.
        """
        wanted = parsed(version)
        with self._parts.reading(session_id) as keys:
            head, (is_kept,) = self._parts.reader.at_once(
                keys, lambda pipeline: pipeline.hexists(keys.manifests, wanted or "")
            )
            if wanted is None or wanted == head.version:
                return head.version
            if not is_kept:
                raise VersionNotFoundError(
                    f"session {session_id} has no version {wanted}; its head is {head.version}"
                )
        return wanted

    def find_version_by(self, session_id: str, agent_id: str) -> str | None:
        """The newest version of the session that `agent_id` wrote, or None if it wrote none.

        Raises:
            ContextNotFoundError: no such session.
        """
        check_id(agent_id, "agent_id")
        with self._parts.reading(session_id) as keys:
            _, (version,) = self._parts.reader.at_once(
                keys, lambda pipeline: pipeline.hget(keys.authors, agent_id)
            )
        return None if version is None else version.decode()


def _session_info(
    manifest: Manifest,
    container: Mapping[bytes, bytes],
    metadata: Mapping[bytes, bytes],
    version_count: int,
    expires_in_ms: int,
) -> SessionInfo:
    return SessionInfo(
        session_id=manifest.session_id,
        owner=container[b"owner"].decode(),
        version=manifest.version,
        etag=container[b"head_etag"].decode(),
        content_hash=manifest.content_hash,
        content_type=manifest.content_type,
        metadata=copy.deepcopy(manifest.metadata),
        size_bytes=manifest.size_bytes,
        size_tokens=manifest.size_tokens,
        chunk_count=len(manifest.chunks),
        stored_bytes=sum(manifest.stored_sizes.values()),
        compression=manifest.compression,
        version_count=version_count,
        created_at=utc_from_ms(int(container[b"created_at"])),
        updated_at=utc_from_ms(int(metadata[b"updated_at"])),
        last_accessed_at=utc_from_ms(int(metadata[b"last_accessed_at"])),
        last_accessed_by=metadata[b"last_accessed_by"].decode(),
        expires_in_seconds=None if expires_in_ms < 0 else expires_in_ms / 1000,
        flags=tuple(flag for flag in _FLAGS if container.get(flag.encode()) == b"1"),
    )
