"""The right to send one paid call: reserved before it, settled after."""

from __future__ import annotations

import time
from dataclasses import dataclass

from baton.errors import PermitExpiredError


@dataclass(frozen=True, slots=True)
class Permit:
    """What `Assignment.reserve` answers: send one call by `send_by`, then settle it.

    A cancelled handoff is acknowledged once every permit has been settled or may no longer be
    used, so a call must not leave after `check_usable` would raise.

    Attributes:
        permit_id: names this one attempt.
        send_by: the last moment, by `time.monotonic()`.
    """

    permit_id: str
    send_by: float

    def check_usable(self) -> None:
        """Do nothing if the call may still be sent; ask right before sending.

        Raises:
            PermitExpiredError: it may not; settle this permit with nothing, and reserve anew.
        """
        late_seconds = time.monotonic() - self.send_by
        if late_seconds >= 0:
            raise PermitExpiredError(
                f"permit {self.permit_id} ended {late_seconds:.1f} s ago; ask for another"
            )
