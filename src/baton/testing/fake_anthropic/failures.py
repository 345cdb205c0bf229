"""Answers that are errors, in the API's own form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Failure:
    """An HTTP error.

    Attributes:
        status: such as 429.
        type: the API's word for the kind of error, such as `rate_limit_error`.
        message: for people.
        error_code: the stable name of the cause, where there is one.
        headers: sent with it, such as `retry-after`.
    """

    status: int
    type: str
    message: str
    error_code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_json(self, request_id: str) -> dict[str, Any]:
        """The body of the answer, or the data of a stream's `error` event."""
        error: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.error_code:
            error["details"] = {"error_code": self.error_code}
        return {"type": "error", "error": error, "request_id": request_id}


def rate_limited(retry_after_seconds: int | None = None) -> Failure:
    """429; None: without a `retry-after`."""
    headers = {} if retry_after_seconds is None else {"retry-after": str(retry_after_seconds)}
    return Failure(429, "rate_limit_error", "Too many requests.", headers=headers)


def overloaded() -> Failure:
    """529, the whole service's state rather than this account's."""
    return Failure(529, "overloaded_error", "Overloaded")


def server_error(status: int = 500) -> Failure:
    """500, or another of the service's own."""
    return Failure(status, "api_error", "Internal server error")


def spend_limit_reached() -> Failure:
    """429 that no waiting helps: told from a rate limit by its code and the lack of a header."""
    return Failure(
        429,
        "rate_limit_error",
        "You have reached your monthly spend limit.",
        error_code="enforced_spend_limit_reached",
    )


def billing_refused() -> Failure:
    """402: the account cannot pay."""
    return Failure(402, "billing_error", "Your credit balance is too low.")


def invalid_request(message: str) -> Failure:
    """400: the request as it stands can never succeed."""
    return Failure(400, "invalid_request_error", message)


def not_found(what: str) -> Failure:
    """404: an unknown model or path."""
    return Failure(404, "not_found_error", what)


def unauthenticated() -> Failure:
    """401: no key, or one that is not of `api_keys`."""
    return Failure(401, "authentication_error", "invalid api key")


def too_large(limit_bytes: int) -> Failure:
    """413: the body is longer than `limit_bytes`."""
    return Failure(413, "request_too_large", f"Request exceeds {limit_bytes} bytes.")
