"""What a session's history says of its versions, as records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from baton.clock import utc_from_seconds
from baton.store.records import VersionRecord
from baton.store.refusals import corrupt
from baton.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Collection

    from baton.store.manifest import StampedManifest


def make_record(
    session_id: str, member: str, score: float, stamped: StampedManifest
) -> VersionRecord:
    """The record of a version by its entry in the history and by its manifest.

    Raises:
        ContextCorruptError: the two name different contents.
    """
    version, _, hash_ = member.partition(":")
    manifest = stamped.manifest
    if manifest.content_hash != hash_:
        raise corrupt(session_id, version, "history and manifest name different contents")
    return VersionRecord(
        version=version,
        content_hash=hash_,
        committed_at=utc_from_seconds(score),
        author=manifest.author,
        action=manifest.action,
        operation=manifest.operation,
        parent=manifest.parent,
        base=manifest.base,
        source=manifest.source,
        size_bytes=manifest.size_bytes,
        etag=stamped.etag,
    )


def with_past(
    session_id: str, found: list[VersionRecord], past: Collection[bytes], last: int
) -> list[VersionRecord]:
    """Records up to `last` with those of which an archive kept no more, the newest first.

    Raises:
        ContextCorruptError: one of these is damaged.
    """
    if not past:
        return found
    found += [_past_record(session_id, raw) for raw in past]
    found.sort(key=lambda each: parse_version(each.version), reverse=True)
    return found if last < 0 else found[: last + 1]


def _past_record(session_id: str, raw: bytes) -> VersionRecord:
    try:
        fields = json.loads(raw)
        fields["committed_at"] = utc_from_seconds(float(fields["committed_at"]))
        return VersionRecord(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise corrupt(session_id, "?", f"a record of its history is damaged ({error!r})") from error
