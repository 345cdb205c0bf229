"""Seals: what a segment of the audit trail was, each chained to the one before it."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_ENTRIES: Final = 500
_LABEL: Final = b"baton audit seal 1\n"
_MARK_BYTES: Final = 4

_Number = Annotated[int, Field(ge=1)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Seal(BaseModel):
    """One sealed segment: entries `first_seq` to `last_seq`, at most 500.

    Attributes:
        session: the session's id.
        chain: drawn by the first seal of a chain; a trail that expired, and began anew under the
            same session id, is another chain.
        segment: 1 for the first of the chain, then one more each.
        entries: SHA-256 in hex over the SHA-256 digests of the raw entries in order.
        marks: Base64 of the first 4 bytes of each of those digests. They prove nothing; they tell
            which entry of a segment that does not add up was changed.
        previous: `hash` of the seal before; empty for the first.
        at: milliseconds by Redis' clock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    session: str
    chain: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    segment: _Number
    first_seq: _Number
    last_seq: _Number
    entries: _Sha256
    marks: str
    previous: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    at: _Number

    @property
    def count(self) -> int:
        """How many entries it seals."""
        return self.last_seq - self.first_seq + 1

    @property
    def hash(self) -> str:
        """SHA-256 in hex of all that the seal says: who knows it, knows the chain up to here."""
        return hashlib.sha256(_LABEL + _canonical(self._body())).hexdigest()

    def encode(self) -> bytes:
        """One line of JSON: the fields, `count` and `hash`."""
        return _canonical({**self._body(), "hash": self.hash})

    def first_changed(self, digests: Sequence[bytes]) -> int | None:
        """The sequence number of the first entry that is not what was sealed; None: all are.

        `digests` are the SHA-256 digests of the raw entries that stand in the segment's place.
        """
        if self.entries == _digest(digests):
            return None
        marks = base64.b64decode(self.marks)
        for index, digest in enumerate(digests):
            if digest[:_MARK_BYTES] != marks[index * _MARK_BYTES : (index + 1) * _MARK_BYTES]:
                return self.first_seq + index
        # Some are missing at the end; or, once in 4 billion, a changed entry bears the old mark.
        return self.first_seq + (len(digests) if len(digests) < self.count else 0)

    def _body(self) -> dict[str, Any]:
        return {**self.model_dump(), "count": self.count}


def entry_digest(raw: bytes) -> bytes:
    """SHA-256 of one raw entry."""
    return hashlib.sha256(raw).digest()


def make_seal(
    raw_entries: Sequence[bytes], *, session: str, chain: str, after: Seal | None, at: int
) -> Seal:
    """The seal of `raw_entries` (1 to 500), which follow those that `after` sealed."""
    digests = [entry_digest(raw) for raw in raw_entries]
    first_seq = 1 if after is None else after.last_seq + 1
    return Seal(
        session=session,
        chain=chain,
        segment=1 if after is None else after.segment + 1,
        first_seq=first_seq,
        last_seq=first_seq + len(digests) - 1,
        entries=_digest(digests),
        marks=base64.b64encode(b"".join(each[:_MARK_BYTES] for each in digests)).decode(),
        previous="" if after is None else after.hash,
        at=at,
    )


def decode_seal(raw: bytes) -> Seal:
    """The seal that `raw` holds.

    Raises:
        ValueError: it is not, to the byte, what `encode` gives for a seal.
    """
    try:
        found = json.loads(raw)
    except RecursionError as error:
        raise ValueError("not JSON of a seal") from error
    body = found if isinstance(found, dict) else {}
    seal = Seal(**{name: body[name] for name in Seal.model_fields if name in body})
    if seal.encode() != raw:
        raise ValueError("its fields do not match its hash")
    if not 1 <= seal.count <= MAX_ENTRIES:
        raise ValueError(f"it says it seals {seal.count} entries")
    if len(base64.b64decode(seal.marks)) != seal.count * _MARK_BYTES:
        raise ValueError("it has not one mark for each entry")
    return seal


def chain_of(raw_seals: Iterable[bytes]) -> str:
    """The chain of the first of these that is a seal; empty if none is."""
    for raw in raw_seals:
        try:
            return decode_seal(raw).chain
        except ValueError:
            continue
    return ""


def _digest(digests: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
