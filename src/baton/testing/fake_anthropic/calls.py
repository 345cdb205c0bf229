"""The log of calls: what was asked, what came of it, what it cost."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from baton.testing.fake_anthropic.billing import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.testing.fake_anthropic.cache import CacheUse

Endpoint = Literal["messages", "count_tokens", "unknown"]
Ending = Literal["complete", "cut", "abandoned"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it stood when the log was read.

    Attributes:
        number: 1 for the first.
        endpoint: what was called.
        headers: by lower-case name, without the key.
        received_at: by the server's clock, as the other two.
        body: the request's JSON; empty until it has been read, and where it is none.
        workspace: whose key it came with; empty for a wrong one.
        status: of HTTP; None before the response begins.
        error: an error's code, or else its type; empty where there was none.
        began_at: when the response began, from when on its cache entries are readable.
        ended_at: when its last byte was about to go out, or it broke off.
        ending: `complete`; `cut` by us; `abandoned` by the client.
        usage: what is paid for; an answer that broke off counts as far as it came.
        cost_usd: of that usage.
        cache: what the prompt cache was to this call, see `CachePlan.use`.
        stop_reason: as sent, or as it would have been.
    """

    number: int
    endpoint: Endpoint
    headers: Mapping[str, str]
    received_at: float
    body: Mapping[str, Any] = field(default_factory=dict)
    workspace: str = ""
    status: int | None = None
    error: str = ""
    began_at: float | None = None
    ended_at: float | None = None
    ending: Ending | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal = Decimal(0)
    cache: CacheUse = "none"
    stop_reason: str = ""


class CallLog:
    """All calls in the order in which they came. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._spent_usd = Decimal(0)

    def open(self, endpoint: Endpoint, headers: Mapping[str, str], received_at: float) -> Call:
        """Note a call that has come."""
        with self._lock:
            call = Call(len(self._calls) + 1, endpoint, headers, received_at)
            self._calls.append(call)
            return call

    def note(self, number: int, **known: Any) -> None:
        """Note what has become known of a call, by the names of its fields."""
        with self._lock:
            before = self._calls[number - 1]
            after = replace(before, **known)
            self._calls[number - 1] = after
            self._spent_usd += after.cost_usd - before.cost_usd

    @property
    def calls(self) -> tuple[Call, ...]:
        """As they stand now."""
        with self._lock:
            return tuple(self._calls)

    @property
    def spent_usd(self) -> Decimal:
        """What all calls cost so far."""
        with self._lock:
            return self._spent_usd
