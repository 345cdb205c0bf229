"""Calls of the Messages API through the SDK: one request, one answer or failure, no retries."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anthropic
import httpx2

from baton.agents.anthropic.answers import Answer, AnswerBuilder, read_detail, read_usage
from baton.agents.anthropic.failures import Failure, Redactor, failure_of
from baton.agents.runner import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from baton.agents.anthropic.options import AnthropicOptions

CONNECT_SECONDS: Final = 10.0

# A server, or a proxy before it, may send anything: what the SDK and we make of that.
_MALFORMED: Final = (AttributeError, KeyError, TypeError, ValueError)
_FAILURES: Final = (anthropic.AnthropicError, httpx2.HTTPError, httpx2.StreamError, *_MALFORMED)


class Wire:
    """One client of the SDK, shared by all threads. Nothing connects before the first call."""

    def __init__(self, options: AnthropicOptions) -> None:
        self._redact = Redactor(options.api_key)
        self._client = anthropic.Anthropic(
            api_key=options.api_key.get_secret_value(),
            base_url=options.base_url,
            max_retries=0,
            timeout=options.timeout_seconds,
        )

    def stream(
        self,
        body: Mapping[str, Any],
        *,
        seconds: float,
        begun: Callable[[], None],
        stopped: Callable[[], bool],
    ) -> Answer | Failure:
        """Send `body`, and read its answer event by event.

        Args:
            body: the request, as the API has it.
            seconds: how long all of it may take.
            begun: called once, when the answer begins.
            stopped: asked after each event; True: the rest is not read.
        """
        builder, ends_at = AnswerBuilder(), time.monotonic() + seconds
        try:
            with self._client.messages.create(
                **body, stream=True, timeout=_timeout(seconds)
            ) as events:
                begun()
                failure = _read(events, builder, ends_at, stopped)
        except _FAILURES as error:
            failure = failure_of(error, self._redact)
        if failure is None:
            return builder.answer()
        if failure.kind == "stopped":
            return replace(failure, usage=builder.usage_so_far)
        return replace(failure, usage=builder.usage) if failure.kind == "lost" else failure

    def send(self, body: Mapping[str, Any], *, seconds: float) -> Answer | Failure:
        """Send `body`, to which nothing is answered: that of a call that warms the cache."""
        try:
            message = self._client.messages.create(**body, timeout=_timeout(seconds))
            return Answer(
                stop_reason=message.stop_reason,
                detail=read_detail(message),
                usage=read_usage(message.usage, Usage()),
            )
        except _FAILURES as error:
            return failure_of(error, self._redact)

    def count(self, body: Mapping[str, Any], *, seconds: float) -> int | Failure:
        """The API's own estimate of a prompt's tokens; it costs nothing."""
        try:
            return int(
                self._client.messages.count_tokens(**body, timeout=_timeout(seconds)).input_tokens
            )
        except _FAILURES as error:
            return failure_of(error, self._redact)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _read(
    events: Iterable[Any], builder: AnswerBuilder, ends_at: float, stopped: Callable[[], bool]
) -> Failure | None:
    for event in events:
        builder.add(event)
        if stopped():
            return Failure("stopped", "the node was cancelled")
        if time.monotonic() > ends_at:
            return Failure("lost", "the answer took longer than the call may take")
    return None if builder.whole else Failure("lost", "the answer ended early")


def _timeout(seconds: float) -> httpx2.Timeout:
    return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
