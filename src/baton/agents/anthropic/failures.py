"""What became of a call that got no answer, told from the SDK's exceptions.

Nothing of an exception is kept: the SDK's hold the request, and with it the key.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import anthropic
import httpx2

from baton.errors import NodeCancelledError, PermitExpiredError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from baton.agents.runner import Usage

FailureKind = Literal[
    "unsent", "expired", "overloaded", "rate_limited", "lost", "refused", "invalid", "stopped"
]

MAX_REASON_CHARACTERS: Final = 300

_KIND_OF_TYPE: Final[Mapping[str, FailureKind]] = {
    "overloaded_error": "overloaded",
    "api_error": "overloaded",
    "conflict_error": "overloaded",
    "timeout_error": "lost",
    "rate_limit_error": "rate_limited",
    "authentication_error": "refused",
    "permission_error": "refused",
    "billing_error": "refused",
    "invalid_request_error": "invalid",
    "not_found_error": "invalid",
    "request_too_large": "invalid",
}
_KIND_OF_STATUS: Final[Mapping[int, FailureKind]] = {
    401: "refused", 402: "refused", 403: "refused", 408: "lost", 409: "overloaded",
    429: "rate_limited", 502: "lost", 504: "lost",
}  # fmt: skip
# A limit on what is spent, or an account that is held: waiting does not help.
_REFUSING_CODE: Final = re.compile(r"spend_limit|billing|on_hold|ramp_limit|credit")
# The API says this as any other invalid request.
_REFUSING_WORDS: Final = re.compile(r"credit balance is too low", re.IGNORECASE)
_SECRETS: Final = re.compile(r"sk-ant-[\w-]+|(?i:bearer)\s+\S+|(?<=//)[^/\s@]+@")
_UNSENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call has no answer.

    Attributes:
        kind: `unsent`: nobody was reached. `expired`: nor sent, as its permit ended before.
            `overloaded`: the API said so, or failed. `rate_limited`. `lost`: it was sent, and its
            answer did not come, or not whole. `refused`: key, quota or account. `invalid`: this
            request can never succeed. `stopped`: by us.
        reason: for people; without secrets.
        retry_after_seconds: as the API asked.
        usage: what is known of a `lost` or `stopped` call's; None: nothing.
    """

    kind: FailureKind
    reason: str
    retry_after_seconds: float | None = None
    usage: Usage | None = None


# What a watch raises.
_BROKEN_OFF: Final[Mapping[type[BaseException], Failure]] = {
    PermitExpiredError: Failure("expired", "it was too late to send it"),
    NodeCancelledError: Failure("stopped", "the node was cancelled"),
    TimeoutError: Failure("lost", "the answer took longer than the call may take"),
}


class Redactor:
    """Takes secrets out of texts: the key itself, and what looks like one."""

    def __init__(self, api_key: SecretStr) -> None:
        self._key = api_key.get_secret_value()

    def __call__(self, text: object) -> str:
        """One printable line of at most 300 characters."""
        hidden = str(text).replace(self._key, "***") if self._key else str(text)
        line = " ".join(_SECRETS.sub("***", hidden).split())[:MAX_REASON_CHARACTERS]
        return "".join(char if char.isprintable() else "?" for char in line)


def failure_of(error: Exception, redact: Redactor) -> Failure:
    """What an exception of the SDK, of its HTTP client, or of a watch means."""
    if isinstance(error, anthropic.APIStatusError):
        return _of_status(error, redact)
    # What happens before the answer begins, the SDK wraps.
    wrapped = error.__cause__ if isinstance(error, anthropic.APIConnectionError) else None
    cause = wrapped or error
    for kind_of_error, failure in _BROKEN_OFF.items():
        if isinstance(cause, kind_of_error):
            return failure
    name = type(cause).__name__
    if isinstance(cause, _UNSENT):
        return Failure("unsent", f"the API was not reached ({name})")
    if isinstance(error, anthropic.APIConnectionError):
        return Failure("lost", f"the API did not answer ({name})")
    if isinstance(error, httpx2.HTTPError):
        return Failure("lost", f"the answer broke off ({name})")
    return Failure("lost", f"the answer is not what the API sends ({name})")


def _of_status(error: anthropic.APIStatusError, redact: Redactor) -> Failure:
    named = [str(word) for word in (error.type, error.error_code) if word]
    known = f"HTTP {error.status_code}" if error.status_code != 200 else "an error amid the answer"
    said = f": {error.api_message}" if isinstance(error.api_message, str) else ""
    reason = redact(f"{' '.join([known, *named])}{said}")
    return Failure(_kind(error), reason, _retry_after(error.response.headers))


def _kind(error: anthropic.APIStatusError) -> FailureKind:
    if error.error_code and _REFUSING_CODE.search(error.error_code):
        return "refused"
    if error.status_code == 400 and _REFUSING_WORDS.search(str(error.api_message)):
        return "refused"
    # The type first: an error amid a stream has the status 200 of the stream.
    kind = _KIND_OF_TYPE.get(error.type or "") or _KIND_OF_STATUS.get(error.status_code)
    if kind is None:
        kind = "overloaded" if error.status_code >= 500 else "invalid"
    if error.status_code == 200 and kind in ("overloaded", "rate_limited"):
        return "lost"
    return kind


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    given = headers.get("retry-after")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = _until(given)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _until(date: str) -> float:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return math.nan
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
