"""The audit trail as a file that can be verified without Redis: its chains, the newest last."""

from __future__ import annotations

import json
from itertools import chain as chained
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from baton.errors import InvalidInputError
from baton.store.audit_seals import chain_of
from baton.store.audit_verification import (
    Problem,
    Trail,
    verified_together,
    verify_trail,
    with_problem,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from baton.store.audit_anchors import AuditAnchor, Head
    from baton.store.audit_verification import AuditVerification

# A head that the anchor took about when the file was made may be of a seal that came just after.
_HEAD_AGE_MS: Final = 60_000


class _Header(BaseModel):
    """The first line of a chain: what was there at one instant, and how many chains follow."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    audit: Literal[1] = 1
    session: str
    at: Annotated[int, Field(ge=1)]
    next: int
    trimmed: Annotated[int, Field(ge=0)]
    seals: Annotated[int, Field(ge=0)]
    entries: Annotated[int, Field(ge=0)]
    more: Annotated[int, Field(ge=0)] = 0
    first: Annotated[int, Field(ge=1)] = 1


def export_chain(trail: Trail, entry_count: int, more: int = 0) -> Iterator[bytes]:
    """Lines: a header, all seals, all entries, these two as they are stored.

    Args:
        trail: its entries are read as the lines are.
        entry_count: how many there are.
        more: how many newer chains of the session follow.
    """
    header = _Header(
        session=trail.session_id,
        at=trail.at_ms,
        next=trail.next_seq,
        trimmed=trail.trimmed,
        seals=len(trail.seals),
        entries=entry_count,
        more=more,
        first=trail.first_segment,
    )
    yield json.dumps(header.model_dump(), separators=(",", ":")).encode() + b"\n"
    for raw in chained(trail.seals, trail.entries):
        yield raw + b"\n"


def verify_export(lines: Iterable[bytes], anchor: AuditAnchor | None = None) -> AuditVerification:
    """Verify what `AuditView.export` gave, as of the time when it did.

    Raises:
        InvalidInputError: the first line is no header of an export.
        AnchorUnavailableError: the anchor could not be read.
    """
    return verified_together(verify_chains(lines, anchor))


def verify_chains(
    lines: Iterable[bytes], anchor: AuditAnchor | None = None
) -> list[AuditVerification]:
    """`verify_export` of each chain of a file by itself; the last is the newest."""
    export = _Export(lines)
    heads = None if anchor is None else anchor.find_heads(export.session_id)
    others: set[str] = set()
    found: list[AuditVerification] = []
    while (header := export.header) is not None:
        seals = export.seals(header)
        chain = chain_of(seals)
        trail = Trail(
            session_id=header.session,
            next_seq=header.next,
            trimmed=header.trimmed,
            at_ms=header.at,
            seals=seals,
            entries=export.entries(header),
            first_segment=header.first,
        )
        own = None if heads is None else list(_heads_of(heads, header, chain, others))
        found.append(verify_trail(trail, own))
        others.add(chain)
    if export.lacks:
        found[-1] = with_problem(found[-1], Problem("seal", 1, "of a later chain is gone"))
    return found


class _Export:
    """The lines of an export, chain by chain: `seals`, then all of `entries`, then the next.

    Attributes:
        header: of the chain that is next; None at the end.
        lacks: whether there should be another one.

    Raises:
        InvalidInputError: the first line is no header of an export.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._rest = (line.removesuffix(b"\n") for line in lines)
        self.header = _header_of(next(self._rest, b""))
        if self.header is None:
            raise InvalidInputError("file", "an export of an audit trail", "<another file>")
        self.session_id = self.header.session
        self.lacks = False

    def seals(self, header: _Header) -> list[bytes]:
        """Those of this chain."""
        return list(islice(self._rest, header.seals))

    def entries(self, header: _Header) -> Iterator[bytes]:
        """Those of this chain, and what stands behind them if it is no chain's beginning."""
        self.header = None
        if header.more == 0:
            yield from self._rest
            return
        yield from islice(self._rest, header.entries)
        raw = next(self._rest, b"")
        after = _header_of(raw)
        if after is not None and (after.session, after.more) == (header.session, header.more - 1):
            self.header = after
            return
        self.lacks = True
        yield from chained([raw] if raw else [], self._rest)


def _header_of(raw: bytes) -> _Header | None:
    try:
        return _Header.model_validate_json(raw)
    except ValidationError:
        return None


def _heads_of(
    heads: Sequence[Head], header: _Header, chain: str, others: set[str]
) -> Iterator[Head]:
    """Those of the file's time, and of this chain; for the last one, of none of the others.

    The last minute's may be of seals that came just after the file.
    """
    for head in heads:
        is_ours = head.chain not in others if header.more == 0 else head.chain == chain
        slack_ms = 0 if head.segment < header.first + header.seals else _HEAD_AGE_MS
        if is_ours and head.at <= header.at - slack_ms:
            yield head
