"""The fake as a test holds it: started and stopped, told what to answer, read for what came."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Self

from baton.errors import InvalidInputError
from baton.testing.fake_anthropic.billing import PriceList
from baton.testing.fake_anthropic.endpoint import MessagesApi
from baton.testing.fake_anthropic.models import MODELS
from baton.testing.fake_anthropic.pacing import AT_ONCE
from baton.testing.fake_anthropic.scripts import Prompter
from baton.testing.fake_anthropic.server import HttpServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from baton.testing.fake_anthropic.billing import PriceBand
    from baton.testing.fake_anthropic.calls import Call, Endpoint
    from baton.testing.fake_anthropic.failures import Failure
    from baton.testing.fake_anthropic.models import ModelLimits
    from baton.testing.fake_anthropic.pacing import Pace
    from baton.testing.fake_anthropic.scripts import Script

_POLL_SECONDS: Final = 0.02


class FakeAnthropic:
    """An HTTP server that the real SDK takes for the Messages API. Thread-safe.

    It listens from `with` (or `start`) on, until the block ends (or `close`).

    Args:
        script: what is answered: a list, used up from its start; a function of the
            `MessagesRequest`, called in several threads at once; or a mapping, of which the first
            text that occurs in the last turn counts. An answer is a text, a `Reply` or a
            `Failure`. None: a short echo of the last turn.
        models: limits by model; another model is not found.
        prices: bands by model, the shortest prompts first; empty: all is free.
        spend_limit_usd: once that much is spent, calls are refused; None: never.
        workspaces: by API key; each workspace has a prompt cache of its own.
        pace: of the answers that have none of their own.
        clock: seconds; the log's, and by which cache entries expire.
        port: 0: a free one.

    Raises:
        InvalidInputError: `workspaces` is empty, or a model has no price though others have.
    """

    def __init__(
        self,
        *,
        script: Script | None = None,
        models: Mapping[str, ModelLimits] = MODELS,
        prices: Mapping[str, Sequence[PriceBand]] | None = None,
        spend_limit_usd: Decimal | str | None = None,
        workspaces: Mapping[str, str] | None = None,
        pace: Pace = AT_ONCE,
        clock: Callable[[], float] = time.time,
        port: int = 0,
    ) -> None:
        self._workspaces = {"fake-key": "default"} if workspaces is None else dict(workspaces)
        if not self._workspaces:
            raise InvalidInputError("workspaces", "at least one API key", workspaces)
        self._api = MessagesApi(
            workspaces=self._workspaces,
            models=models,
            prices=PriceList(prices or {}, models),
            prompter=Prompter(script),
            pace=pace,
            spend_limit_usd=_usd(spend_limit_usd),
            clock=clock,
        )
        self._port = port
        self._server: HttpServer | None = None

    def start(self) -> Self:
        """Listen; after `close`, at the same address, with the log and the cache as they were."""
        if self._server is None:
            self._server = HttpServer(self._port, self._api)
            self._port = self._server.port
            threading.Thread(
                target=self._server.serve_forever,
                args=(_POLL_SECONDS,),
                name="fake-anthropic",
                daemon=True,
            ).start()
        return self

    def close(self) -> None:
        """Stop listening and drop all connections. Again, or never started: nothing happens."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """For the SDK's `base_url`, or `ANTHROPIC_BASE_URL`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def api_key(self) -> str:
        """The first of the keys it takes."""
        return next(iter(self._workspaces))

    @property
    def calls(self) -> tuple[Call, ...]:
        """The log: every call that came, in order, as it stands now."""
        return self._api.log.calls

    @property
    def spent_usd(self) -> Decimal:
        """What all calls cost so far."""
        return self._api.log.spent_usd

    def reply_with(self, script: Script | None) -> None:
        """Answer by another script from the next call on."""
        self._api.prompter = Prompter(script)

    def fail(
        self, failure: Failure, *, times: int | None = 1, endpoint: Endpoint = "messages"
    ) -> None:
        """Have the next calls fail, those that only warm the cache with them.

        Args:
            failure: what they get.
            times: how many, behind those ordered before; None: all until `recover`.
            endpoint: of which calls.
        """
        self._api.failures.order(endpoint, failure, times)

    def recover(self) -> None:
        """Take back what `fail` ordered."""
        self._api.failures.take_back()

    def set_pace(self, pace: Pace) -> None:
        """Answer at another pace, from the next answer on that has none of its own."""
        self._api.pace = pace

    def limit_spend(self, limit_usd: Decimal | str | None) -> None:
        """Set another spend limit, or none."""
        self._api.spend_limit_usd = _usd(limit_usd)

    def forget_cache(self) -> None:
        """Drop every entry of the prompt cache, as the real one may at any time."""
        self._api.cache.clear()


def _usd(amount: Decimal | str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)
