"""Finds what is not as it should be, and mends it on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from baton.lifecycle.findings import Check, Finding


class Doctor:
    """Looks at a deployment, part by part.

    Looking changes nothing. What is found may be mended before the next is asked for; each mending
    looks again before it writes.

    Args:
        checks: what to look for, in this order.
    """

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = tuple(checks)

    def kinds(self) -> dict[str, str]:
        """Kind -> what it means, in a sentence; of all checks, in their order."""
        return {kind: meaning for check in self._checks for kind, meaning in check.kinds.items()}

    def examine(self) -> Iterator[Finding]:
        """What is found, as it is found.

        Raises:
            StoreUnavailableError: Redis did not answer.
            BatonError: the archive could not be asked.
        """
        for check in self._checks:
            yield from check.find()
