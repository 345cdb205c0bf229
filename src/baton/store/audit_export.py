"""The audit trail as a file that can be verified without Redis."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from baton.errors import InvalidInputError
from baton.store.audit_verification import Trail, verify_trail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from baton.store.audit_anchors import AuditAnchor, Head
    from baton.store.audit_reading import TrailReader, TrailSize
    from baton.store.audit_verification import AuditVerification

# A head that the anchor took about when the file was made may be of a seal that came just after.
_HEAD_AGE_MS: Final = 60_000


class _Header(BaseModel):
    """The first line: what was there at one instant."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    audit: Literal[1] = 1
    session: str
    at: Annotated[int, Field(ge=1)]
    next: int
    trimmed: Annotated[int, Field(ge=0)]
    seals: Annotated[int, Field(ge=0)]
    entries: Annotated[int, Field(ge=0)]


def export_trail(reader: TrailReader, size: TrailSize) -> Iterator[bytes]:
    """Lines: a header, all seals, all entries, these two as they stand in Redis."""
    header = _Header(
        session=size.session_id,
        at=size.at_ms,
        next=size.next_seq,
        trimmed=size.trimmed,
        seals=size.seals,
        entries=size.entries,
    )
    yield json.dumps(header.model_dump(), separators=(",", ":")).encode() + b"\n"
    for raw in reader.seals(size):
        yield raw + b"\n"
    for raw in reader.entries(size):
        yield raw + b"\n"


def verify_export(lines: Iterable[bytes], anchor: AuditAnchor | None = None) -> AuditVerification:
    """Verify what `export_trail` gave, as of the time when it did.

    Raises:
        InvalidInputError: the first line is no header of an export.
        AnchorUnavailableError: the anchor could not be read.
    """
    rest = (line.removesuffix(b"\n") for line in lines)
    try:
        header = _Header.model_validate_json(next(rest, b""))
    except ValidationError as error:
        raise InvalidInputError("file", "an export of an audit trail", "<another file>") from error
    trail = Trail(
        session_id=header.session,
        next_seq=header.next,
        trimmed=header.trimmed,
        at_ms=header.at,
        seals=list(islice(rest, header.seals)),
        entries=rest,
    )
    heads = None if anchor is None else anchor.find_heads(header.session)
    return verify_trail(trail, None if heads is None else _heads_then(heads, header))


def _heads_then(heads: list[Head], header: _Header) -> list[Head]:
    """Those of the file's time; the last minute's may be of seals that came just after it."""
    return [
        head
        for head in heads
        if head.at <= header.at - (0 if head.segment <= header.seals else _HEAD_AGE_MS)
    ]
