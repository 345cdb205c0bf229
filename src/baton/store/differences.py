"""What changed between two versions, as text and as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baton.merge.json_patch import diff_json

if TYPE_CHECKING:
    from baton.merge.text_difference import TextDifference


@dataclass(frozen=True, slots=True)
class VersionDifference:
    """The difference of two versions of a session.

    `patch` is the way from one document to the other as JSON Patch (RFC 6902), where both are
    JSON; None for text.
    """

    session_id: str
    old_version: str
    new_version: str
    text: TextDifference
    patch: list[dict[str, Any]] | None

    def unified(self, context_lines: int = 3) -> str:
        """As `diff -u` writes it; `patch` and `git apply` take it. Empty where nothing differs."""
        return self.text.unified(
            f"{self.session_id}@{self.old_version}",
            f"{self.session_id}@{self.new_version}",
            context_lines,
        )


def find_patch(old: str, new: str, *, is_json: bool) -> list[dict[str, Any]] | None:
    """The JSON Patch from `old` to `new`, or None where they are no documents."""
    return diff_json(old, new) if is_json else None
