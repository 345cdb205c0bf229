"""Calls of the Messages API through the SDK: one request, one answer or failure, no retries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anthropic
import httpx2

from baton.agents.anthropic.answers import (
    Answer,
    AnswerBuilder,
    read_count,
    read_detail,
    read_usage,
)
from baton.agents.anthropic.failures import Failure, Redactor, failure_of
from baton.agents.anthropic.watch import Watch, hooks, watched
from baton.agents.runner import Usage
from baton.errors import NodeCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from baton.agents.anthropic.options import AnthropicOptions

# Below what a permit gives to send a call: a connection that comes later is of no use to it.
CONNECT_SECONDS: Final = 4.0

# A server, or a proxy before it, may send anything: what the SDK and we make of that.
_MALFORMED: Final = (AttributeError, KeyError, TypeError, ValueError)
_FAILURES: Final = (
    anthropic.AnthropicError, httpx2.HTTPError, httpx2.StreamError, NodeCancelledError,
    TimeoutError, *_MALFORMED,
)  # fmt: skip


class Wire:
    """One client of the SDK, shared by all threads. Nothing connects before the first call."""

    def __init__(self, options: AnthropicOptions) -> None:
        self._redact = Redactor(options.api_key)
        self._client = anthropic.Anthropic(
            api_key=options.api_key.get_secret_value(),
            base_url=options.base_url,
            max_retries=0,
            timeout=options.timeout_seconds,
            http_client=anthropic.DefaultHttpxClient(event_hooks=hooks()),
        )

    def stream(
        self, body: Mapping[str, Any], watch: Watch, *, begun: Callable[[], None]
    ) -> Answer | Failure:
        """Send `body`, and read its answer event by event.

        Args:
            body: the request, as the API has it.
            watch: looks before it is sent, and at each piece of the answer.
            begun: called once, when the answer begins.
        """
        builder = AnswerBuilder()
        try:
            with (
                watched(watch),
                self._client.messages.create(
                    **body, stream=True, timeout=_timeout(watch.seconds)
                ) as events,
            ):
                begun()
                failure = _read(events, builder, watch)
        except _FAILURES as error:
            failure = failure_of(error, self._redact)
        if failure is None:
            return builder.answer()
        if failure.kind == "stopped":
            return replace(failure, usage=builder.usage_so_far)
        return replace(failure, usage=builder.usage) if failure.kind == "lost" else failure

    def send(self, body: Mapping[str, Any], watch: Watch) -> Answer | Failure:
        """Send `body`, to which nothing is answered: that of a call that warms the cache."""
        try:
            with watched(watch):
                message = self._client.messages.create(**body, timeout=_timeout(watch.seconds))
            return Answer(
                stop_reason=message.stop_reason,
                detail=read_detail(message),
                usage=read_usage(message.usage, Usage()),
            )
        except _FAILURES as error:
            return failure_of(error, self._redact)

    def count(self, body: Mapping[str, Any], watch: Watch) -> int | Failure:
        """The API's own estimate of a prompt's tokens; it costs nothing."""
        try:
            with watched(watch):
                counted = self._client.messages.count_tokens(
                    **body, timeout=_timeout(watch.seconds)
                )
            return read_count(counted.input_tokens, "input_tokens")
        except _FAILURES as error:
            return failure_of(error, self._redact)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _read(events: Iterable[Any], builder: AnswerBuilder, watch: Watch) -> Failure | None:
    for event in events:
        builder.add(event)
        watch.look()  # a piece of an answer may hold many events
    return None if builder.whole else Failure("lost", "the answer ended early")


def _timeout(seconds: float) -> httpx2.Timeout:
    to_send = min(seconds, CONNECT_SECONDS)
    return httpx2.Timeout(seconds, connect=to_send, pool=to_send)
