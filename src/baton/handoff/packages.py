"""Handoff packages in Redis: what was handed over, and how its receiver acknowledged it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from baton.agents.handoff_package import package_json, read_package
from baton.clock import utc_from_ms
from baton.content.blob import pack_blob, unpack_blob
from baton.content.text import decode_text, encode_text
from baton.errors import (
    ContextCorruptError,
    HandoffNotFoundError,
    InvalidInputError,
    StaleHandoffError,
)
from baton.handoff.checks import Check, failures
from baton.handoff.keys import HandoffKeys
from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.store.durations import milliseconds

if TYPE_CHECKING:
    from datetime import datetime

    import redis

    from baton.agents.handoff_package import HandoffPackage

_PUT: Final = Script("baton.handoff", "put_package")
_ACKNOWLEDGE: Final = Script("baton.handoff", "acknowledge")
_BLOB_LIMIT_BYTES: Final = 64 * 1_048_576


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a receiver found when it took a handoff over; `by` is an agent, or a worker."""

    handoff_id: str
    by: str
    at: datetime
    checks: tuple[Check, ...]

    @property
    def accepted(self) -> bool:
        """Whether everything held; else the handoff ended there."""
        return all(check.holds for check in self.checks)

    def require_accepted(self) -> None:
        """Return if it was accepted.

        Raises:
            StaleHandoffError: it was not; carries what did not hold.
        """
        if not self.accepted:
            raise StaleHandoffError(self.handoff_id, failures(self.checks))


class HandoffPackages:
    """Stores packages and acknowledgements, each beside its handoff. Safe for threads.

    Every method raises InvalidIdError for an id that is none, and StoreUnavailableError where Redis
    does not answer.
    """

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = require_binary(redis_client)

    def put(
        self, package: HandoffPackage, *, source_digest: str, retention_seconds: float
    ) -> HandoffPackage:
        """Keep a package under its id; the one that is kept, which is the first from this source.

        Args:
            package: as it is handed over.
            source_digest: of the package as its sender gave it; tells a repeat from another.
            retention_seconds: how long it is kept, unless its handoff lives longer.

        Raises:
            InvalidInputError: another package has that id.
        """
        keys = HandoffKeys.of(package.handoff_id)
        blob = pack_blob(encode_text(package_json(package)))
        expiry_ms = milliseconds(retention_seconds, "retention_seconds")
        args: list[str | bytes | float] = [source_digest, blob, expiry_ms]
        with redis_errors(self._redis):
            kind, stored = _PUT(self._redis, [keys.base], args)
        if kind == b"other":
            expected = "an id of its own for each package"
            raise InvalidInputError("handoff_id", expected, package.handoff_id)
        return package if kind == b"put" else _unpacked(package.handoff_id, stored)

    def find(self, handoff_id: str) -> HandoffPackage | None:
        """The package that was handed over; None where there is none, or it has expired.

        Raises:
            ContextCorruptError: what is stored is not what was stored.
        """
        with redis_errors(self._redis):
            stored = self._redis.hget(HandoffKeys.of(handoff_id).package, "package")
        return None if stored is None else _unpacked(handoff_id, stored)

    def find_acknowledgement(self, handoff_id: str) -> Acknowledgement | None:
        """How the package was acknowledged; None while it was not."""
        with redis_errors(self._redis):
            text, at_ms = self._redis.hmget(
                HandoffKeys.of(handoff_id).package, ["acknowledgement", "acknowledged_at"]
            )
        if text is None or at_ms is None:
            return None
        return _acknowledgement(handoff_id, text, int(at_ms))

    def exists(self, handoff_id: str) -> bool:
        """Whether the handoff has a package."""
        with redis_errors(self._redis):
            return bool(self._redis.hexists(HandoffKeys.of(handoff_id).package, "package"))

    def acknowledge(
        self, handoff_id: str, by: str, checks: tuple[Check, ...], *, again: bool = False
    ) -> Acknowledgement:
        """Record what a receiver found; the first that does so counts, and is answered to all.

        Where something does not hold, a handoff that is running can start nothing from then on.

        Args:
            handoff_id: the handoff.
            by: an agent, or a worker.
            checks: at least one.
            again: an acceptance takes the place of a refusal; for a handoff that is retried.

        Raises:
            HandoffNotFoundError: there is no such package.
        """
        failed = failures(checks)
        said = json.dumps({"by": by, "checks": [asdict(check) for check in checks]})
        reason = str(StaleHandoffError(handoff_id, failed)) if failed else ""
        args: list[str | bytes | float] = [said, by, reason, "1" if again else ""]
        with redis_errors(self._redis):
            answer = _ACKNOWLEDGE(self._redis, [HandoffKeys.of(handoff_id).base], args)
        if answer is None:
            raise HandoffNotFoundError(f"handoff {handoff_id} has no package, or it has expired")
        text, at_ms = answer
        return _acknowledgement(handoff_id, text, int(at_ms))


def _unpacked(handoff_id: str, stored: bytes) -> HandoffPackage:
    try:
        return read_package(decode_text(unpack_blob(stored, limit_bytes=_BLOB_LIMIT_BYTES)))
    except (ContextCorruptError, InvalidInputError) as error:
        raise ContextCorruptError(f"handoff {handoff_id}: its package: {error}") from error


def _acknowledgement(handoff_id: str, text: bytes, at_ms: int) -> Acknowledgement:
    said = json.loads(text)
    checks = tuple(Check(**check) for check in said["checks"])
    return Acknowledgement(handoff_id, said["by"], utc_from_ms(at_ms), checks)
