"""The passage map: which passages of an archived session the index has, and where they stand."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from baton.errors import ColdStoreCorruptError
from baton.redaction.finding import replacement_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FORMAT: Final = 2
_SEPARATOR: Final = "."


class Redaction(NamedTuple):
    """Bytes of a version that may not be shown, and what kind of thing they are."""

    start_byte: int
    end_byte: int
    kind: str


class PassagePlace(NamedTuple):
    """One passage of a version: its byte range, and its name on the shelf."""

    start_byte: int
    end_byte: int
    name: str


class VersionMap(NamedTuple):
    """The passages of one version in order, and what of it may not be shown."""

    places: Sequence[PassagePlace]
    redactions: Sequence[Redaction]


@dataclass(frozen=True)
class PassageMap:
    """The passages of a copy.

    Attributes:
        versions: version -> its map, the head's version last.
        origins: for each version in that order a digest of all that its map was made from: where
            it is the same, so is the map.
        words: the segment of the passages' words, which has them in the order of `names`.
    """

    versions: Mapping[str, VersionMap]
    origins: Sequence[str]
    words: bytes

    @cached_property
    def names(self) -> Sequence[str]:
        """The names of all passages, ascending; equal texts have one."""
        return sorted({place.name for each in self.versions.values() for place in each.places})

    @property
    def redaction_counts(self) -> dict[str, int]:
        """How much of the head was redacted, by kind."""
        if not self.versions:
            return {}
        head = list(self.versions.values())[-1]
        return dict(sorted(Counter(each.kind for each in head.redactions).items()))

    def renamed(self, versions: Iterable[str]) -> PassageMap:
        """The map of other versions of the same content, given in the same order."""
        return replace(self, versions=dict(zip(versions, self.versions.values(), strict=True)))

    def find(self, name: str) -> tuple[str, PassagePlace] | None:
        """The newest version that has the passage, and its first place there."""
        return self._places.get(name)

    @cached_property
    def _places(self) -> dict[str, tuple[str, PassagePlace]]:
        # The last to be set stays: of the newest version, and there the first.
        return {
            place.name: (version, place)
            for version, found in self.versions.items()
            for place in reversed(found.places)
        }

    def shown(self, version: str, start_byte: int, plain: bytes) -> str:
        """Bytes of a version from `start_byte` on as they may be shown."""
        pieces, at, end = [], start_byte, start_byte + len(plain)
        redactions = self.versions[version].redactions
        first = bisect_right(redactions, at, key=lambda each: each.end_byte)
        for redaction in itertools.islice(redactions, first, None):
            if redaction.start_byte >= end:
                break
            pieces.append(plain[at - start_byte : max(at, redaction.start_byte) - start_byte])
            pieces.append(replacement_of(redaction.kind).encode())
            at = redaction.end_byte
        pieces.append(plain[max(at, start_byte) - start_byte :])
        return b"".join(pieces).decode(errors="replace")

    def as_document(self) -> dict[str, Any]:
        """What is stored of it."""
        return {
            "format": FORMAT,
            "origins": list(self.origins),
            "words": self.words.hex(),
            "versions": [
                [
                    version,
                    [list(each) for each in found.places],
                    [list(r) for r in found.redactions],
                ]
                for version, found in self.versions.items()
            ],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PassageMap:
        """What `as_document` gave.

        Raises:
            ColdStoreCorruptError: it is none.
        """
        try:
            return cls(
                {
                    str(version): VersionMap(
                        [PassagePlace(int(a), int(b), str(name)) for a, b, name in places],
                        [Redaction(int(a), int(b), str(kind)) for a, b, kind in redactions],
                    )
                    for version, places, redactions in document["versions"]
                },
                [str(each) for each in document["origins"]],
                bytes.fromhex(document["words"]),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ColdStoreCorruptError(f"a passage map is damaged ({error!r})") from error


def row_id(shelf: str, passage_name: str) -> str:
    """The id of a passage's row in the vector index."""
    return f"{shelf}{_SEPARATOR}{passage_name}"


def passage_name_in(row: str) -> str:
    """The passage's name in a row's id."""
    return row.partition(_SEPARATOR)[2]
