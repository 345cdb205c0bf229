"""Cache-aware launch: of all who share a prefix, one pays for writing it to the API's cache.

An entry of the API's prompt cache can be read only once the response of the call that wrote it has
begun, so workers that start together would each write the prefix, at 1.25 or 2 times the price of
fresh tokens instead of a tenth of it or less. `Warming.ensure` has one of them, across all threads
and processes, make a warming call; the others wait for its end, then all read.

What is known of an entry lies in Redis, by its clock: who writes it, and when it was last known to
be there. The API renews an entry's life at each read, and may evict it at any time. A warmer holds
a lease, which a thread of its own renews while the call lasts; where its process dies the lease
lapses, and another warms.

Warming only saves money: where it fails, or Redis is away, callers go on without it in time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from baton.agents.keys import warm_key
from baton.agents.prices import CacheTtl, PriceTable
from baton.agents.shared_looks import SharedLooks
from baton.errors import (
    BatonError,
    FencedError,
    InvalidInputError,
    NodeCancelledError,
    OverBudgetError,
    TransientError,
)
from baton.ids import new_operation_id
from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import redis

WarmState = Literal["written", "ready", "unavailable"]

TTL_SECONDS: Final[Mapping[CacheTtl, float]] = {"5m": 300.0, "1h": 3600.0}
LOOK_SECONDS: Final = 0.1
RENEWALS_PER_LEASE: Final = 3

# They end the caller's own work, and say nothing of whether the next one's call would succeed.
_CALLERS_OWN: Final = (FencedError, NodeCancelledError, OverBudgetError)

_ASK: Final = Script("baton.agents", "ask_warm")
_RENEW: Final = Script("baton.agents", "renew_warm")
_END: Final = Script("baton.agents", "end_warm")
_TOUCH: Final = Script("baton.agents", "touch_warm")
_FORGET: Final = Script("baton.agents", "forget_warm")


@dataclass(frozen=True, slots=True)
class Prefix:
    """What calls have in common up to a cache breakpoint, and how long the API is to keep it.

    Equal prefixes are one cache entry. The API's caches are per workspace: where several share a
    Redis, `prefix_hash` must tell them apart as well.

    Attributes:
        model: the model's id; each has a cache of its own.
        prefix_hash: hex digest of all that comes before the breakpoint.
        tokens: how long that is.
        ttl: the life that the calls ask for.

    Raises:
        InvalidIdError: a model id or a digest that is none.
        InvalidInputError: `tokens` or `ttl` is not as said.
    """

    model: str
    prefix_hash: str
    tokens: int
    ttl: CacheTtl = "5m"

    def __post_init__(self) -> None:
        if self.ttl not in get_args(CacheTtl):
            raise InvalidInputError("ttl", f"one of {', '.join(get_args(CacheTtl))}", self.ttl)
        check_whole_number(self.tokens, "tokens")
        warm_key(self.model, self.ttl, self.prefix_hash)

    @property
    def key(self) -> str:
        """Where Redis keeps what is known of its entry."""
        return warm_key(self.model, self.ttl, self.prefix_hash)


@dataclass(frozen=True, slots=True)
class WarmingPolicy:
    """How entries are counted on, and how often it is tried to write them.

    Args:
        ttl_seconds: the lives that the API gives entries.
        margin_seconds: an entry counts as gone so long before its end: it must still be there
            when the call that relies on it arrives, after its waiting for rate limits. Writing
            too early costs one read; too late, a write for each worker.
        tries: calls to write an entry, in a row, that failed or led to nothing that was read;
            then all go on without it.
        rest_seconds: for so long.

    Raises:
        InvalidInputError: a life is not above the margin, or another figure is out of range.
    """

    ttl_seconds: Mapping[CacheTtl, float] = field(default_factory=lambda: TTL_SECONDS)
    margin_seconds: float = 60.0
    tries: int = 3
    rest_seconds: float = 30.0

    def __post_init__(self) -> None:
        check_whole_number(self.tries, "tries", least=1)
        if not 0 <= self.rest_seconds <= 86_400:
            raise InvalidInputError("rest_seconds", "0 to 86400", self.rest_seconds)
        for ttl in get_args(CacheTtl):
            if not 0 <= self.margin_seconds < self.ttl_seconds.get(ttl, 0):
                raise InvalidInputError("margin_seconds", f"0 to below {ttl}", self.margin_seconds)


class Warming:
    """Has prefixes written to the API's cache once. Thread-safe, as its client is.

    After `ensure`, tell what the calls found, as soon as their responses begin: `touch` where one
    read the prefix or wrote it, `forget` where it did neither, or where the entry is to be written
    anew. All processes that share a server must be given the same `policy`.

    Args:
        redis_client: of the server that all workers share.
        lease_seconds: where a warmer's process dies, another goes on after so long; 0.1 to 600.
        prices: says from how many tokens on a model's API keeps a prefix; None: Baton's own table.
        policy: see there.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        *,
        lease_seconds: float = 10.0,
        prices: PriceTable | None = None,
        policy: WarmingPolicy | None = None,
    ) -> None:
        if not 0.1 <= lease_seconds <= 600:
            raise InvalidInputError("lease_seconds", "0.1 to 600", lease_seconds)
        self._redis = require_binary(redis_client)
        self._lease_seconds = lease_seconds
        self._prices = prices or PriceTable.load()
        self._policy = policy or WarmingPolicy()
        self._looks = SharedLooks[str](LOOK_SECONDS)

    def ensure(
        self,
        prefix: Prefix,
        warm: Callable[[], None],
        *,
        seconds: float,
        cancelled: Callable[[], None],
    ) -> WarmState:
        """Have the entry of `prefix` written, by `warm` if nobody else writes it.

        An outage of Redis is waited out like another's call. What may not be cached because it is
        too short is not written: the answer is `unavailable` at once.

        Args:
            prefix: what is to be read from the cache.
            warm: makes the call that writes it, and returns once its response has begun. It has
                timeouts of its own.
            seconds: how long to wait for others at most, and how long a call of `warm` is
                protected from a second one beside it.
            cancelled: called between looks, a few times a second; raises to stop waiting.

        Returns:
            `written`: `warm` was called and succeeded. `ready`: somebody wrote it, and it should
            still be there. `unavailable`: too short, the tries failed, or the time is up.

        Raises:
            PriceNotFoundError: the table does not know the model.
            AccessDeniedError, UnexpectedAnswerError: Redis refuses, so it always will.
            Exception: what `warm` or `cancelled` raised. Another caller tries then.
        """
        if self._is_too_short(prefix):
            return "unavailable"
        cancelled()
        token = new_operation_id()
        answer = self._ask(prefix, token)
        if answer is None:
            answer = self._wait(prefix, token, time.monotonic() + seconds, cancelled)
        if answer == "warm":
            self._warm(prefix, token, warm, seconds)
            return "written"
        return "ready" if answer == "ready" else "unavailable"

    def touch(self, prefix: Prefix, *, seconds_ago: float = 0.0) -> None:
        """A response that began `seconds_ago` read the prefix, or wrote it: it lives on from then.

        Best effort: an outage of Redis is no error.
        """
        self._note(_TOUCH, prefix, seconds_ago)

    def forget(self, prefix: Prefix, *, seconds_ago: float = 0.0) -> None:
        """A call sent `seconds_ago` should have read the prefix and did not: it is written anew.

        If somebody wrote or read it since, nothing changes: of many calls that found it gone, all
        but the first say what is known. Best effort, as `touch`.
        """
        self._note(_FORGET, prefix, seconds_ago)

    def _is_too_short(self, prefix: Prefix) -> bool:
        minimum = self._prices.get(prefix.model).cache_minimum_tokens
        return minimum is not None and prefix.tokens < minimum

    def _wait(
        self, prefix: Prefix, token: str, deadline: float, cancelled: Callable[[], None]
    ) -> str | None:
        """The answer of another's look, or of our own; None when the time is up."""
        with self._looks.room(prefix.key) as room:
            while time.monotonic() < deadline:
                cancelled()
                answer = room.wait(lambda: self._ask(prefix, token), deadline)
                if answer is not None:
                    break
            else:
                return None
        if answer != "warm":
            self._looks.tell(prefix.key, answer)
        return answer

    def _warm(self, prefix: Prefix, token: str, warm: Callable[[], None], seconds: float) -> None:
        ended = "left"
        try:
            with self._renewed(prefix, token, time.monotonic() + seconds):
                warm()
            ended = "warmed"
        except Exception as error:
            ended = "left" if isinstance(error, _CALLERS_OWN) else "failed"
            raise
        finally:
            self._end(prefix, token, ended)

    @contextlib.contextmanager
    def _renewed(self, prefix: Prefix, token: str, until: float) -> Iterator[None]:
        """Renew the lease from a thread, until the block ends or its time is up."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(self._lease_seconds / RENEWALS_PER_LEASE):
                if time.monotonic() >= until:
                    return
                with contextlib.suppress(BatonError):  # the call's end meets it as well
                    self._run(_RENEW, prefix, token, self._lease_seconds)

        threading.Thread(target=renew, name="baton-warming", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _ask(self, prefix: Prefix, token: str) -> str | None:
        """`ready`, `warm` or `unavailable`; None: to be asked again."""
        policy = self._policy
        life_seconds = policy.ttl_seconds[prefix.ttl] - policy.margin_seconds
        answer = self._run(
            _ASK, prefix, token, life_seconds, self._lease_seconds, policy.tries,
            policy.rest_seconds,
        )  # fmt: skip
        return None if answer in (None, b"wait") else answer.decode()

    def _end(self, prefix: Prefix, token: str, ended: str) -> None:
        self._run(_END, prefix, token, ended)
        if ended == "warmed":
            self._looks.tell(prefix.key, "ready")
        else:
            self._looks.hurry(prefix.key)

    def _note(self, script: Script, prefix: Prefix, seconds_ago: float) -> None:
        if not 0 <= seconds_ago <= 86_400:
            raise InvalidInputError("seconds_ago", "0 to 86400", seconds_ago)
        self._run(script, prefix, seconds_ago)

    def _run(self, script: Script, prefix: Prefix, *args: str | float) -> Any:
        """The script's answer; None where Redis does not serve now."""
        policy = self._policy
        keep_seconds = policy.ttl_seconds[prefix.ttl] + policy.rest_seconds + self._lease_seconds
        try:
            with redis_errors(self._redis):
                return script(self._redis, [prefix.key], [keep_seconds, *args])
        except TransientError:
            return None
