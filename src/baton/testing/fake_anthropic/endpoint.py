"""What a call is answered with: the API's rules, one after another, apart from any socket."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from baton.testing.fake_anthropic.cache import CachePlan, PromptCache
from baton.testing.fake_anthropic.calls import Call, CallLog, Ending, Endpoint
from baton.testing.fake_anthropic.events import message_json, stream_events
from baton.testing.fake_anthropic.failing import OrderedFailures
from baton.testing.fake_anthropic.failures import (
    Failure,
    invalid_request,
    not_found,
    spend_limit_reached,
    too_large,
    unauthenticated,
)
from baton.testing.fake_anthropic.generation import Generation, generate
from baton.testing.fake_anthropic.prompt import check_prompt
from baton.testing.fake_anthropic.replies import Reply
from baton.testing.fake_anthropic.request import MessagesRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from decimal import Decimal

    from baton.testing.fake_anthropic.billing import PriceList
    from baton.testing.fake_anthropic.events import Event
    from baton.testing.fake_anthropic.models import ModelLimits
    from baton.testing.fake_anthropic.pacing import Pace
    from baton.testing.fake_anthropic.scripts import Prompter

MAX_BODY_BYTES: Final = 32 * 1024 * 1024

_ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
}
_SECRET_HEADERS: Final = frozenset({"authorization", "x-api-key", "cookie"})


@dataclass(frozen=True, slots=True)
class Turn:
    """A message that is about to go out."""

    number: int
    request: MessagesRequest
    reply: Reply
    plan: CachePlan
    written: Generation

    @property
    def message(self) -> dict[str, Any]:
        """The whole message."""
        usage = self.plan.usage.with_output(self.written.output_tokens)
        return message_json(self._message_id, self.request.model, self.written, usage)

    @property
    def events(self) -> Iterator[Event]:
        """The same message as a stream."""
        return stream_events(self._message_id, self.request.model, self.written, self.plan.usage)

    @property
    def _message_id(self) -> str:
        return f"msg_fake_{self.number:06d}"


class MessagesApi:
    """The rules of the API. Thread-safe; `prompter`, `pace` and `spend_limit_usd` may be replaced.

    Args:
        workspaces: by API key.
        models: limits by model.
        prices: of the models.
        prompter: decides what is answered.
        pace: of answers that say nothing else.
        spend_limit_usd: once it is spent, calls are refused; None: never.
        clock: seconds; of the log and of the cache.
    """

    def __init__(
        self,
        *,
        workspaces: Mapping[str, str],
        models: Mapping[str, ModelLimits],
        prices: PriceList,
        prompter: Prompter,
        pace: Pace,
        spend_limit_usd: Decimal | None,
        clock: Callable[[], float],
    ) -> None:
        self.prompter = prompter
        self.pace = pace
        self.spend_limit_usd = spend_limit_usd
        self.failures = OrderedFailures()
        self.cache = PromptCache(clock)
        self.log = CallLog()
        self._workspaces = workspaces
        self._models = models
        self._prices = prices
        self._clock = clock

    def open(self, path: str, headers: Mapping[str, str]) -> Call:
        """Note a call whose headers, by lower-case name, have come."""
        endpoint = _ENDPOINTS.get(path.partition("?")[0], "unknown")
        shown = {name: headers[name] for name in headers if name not in _SECRET_HEADERS}
        return self.log.open(endpoint, shown, self._clock())

    def answer(
        self, call: Call, headers: Mapping[str, str], raw_body: bytes | None
    ) -> Turn | int | Failure:
        """Decide on a call: a message, a count of tokens, or an error.

        Args:
            call: as `open` gave it.
            headers: those that came, by lower-case name.
            raw_body: None: it was longer than `MAX_BODY_BYTES`.
        """
        request = self._checked(call, headers, raw_body)
        if isinstance(request, Failure):
            return request
        if call.endpoint == "count_tokens":
            return request.prompt_tokens
        return self._turn(call.number, request)

    def begin(self, turn: Turn) -> None:
        """The response begins: its prompt is paid for, and what it caches can be read."""
        self.cache.begin_response(turn.plan)
        self.log.note(
            turn.number,
            status=200,
            began_at=self._clock(),
            cache=turn.plan.use,
            stop_reason=turn.written.stop_reason,
            **self._paid(turn, 0),
        )

    def end(self, turn: Turn, output_tokens: int, ending: Ending) -> None:
        """The response ends, however it does, with that much output written."""
        paid = self._paid(turn, output_tokens)
        self.log.note(turn.number, ended_at=self._clock(), ending=ending, **paid)

    def end_plain(self, number: int, status: int, error: str = "") -> None:
        """A call ends that costs nothing: a count of tokens or an error."""
        now = self._clock()
        self.log.note(
            number, status=status, error=error, began_at=now, ended_at=now, ending="complete"
        )

    def abandon(self, number: int) -> None:
        """A call ends before its response began."""
        self.log.note(number, ended_at=self._clock(), ending="abandoned")

    def _paid(self, turn: Turn, output_tokens: int) -> dict[str, Any]:
        usage = turn.plan.usage.with_output(output_tokens)
        return {"usage": usage, "cost_usd": self._prices.cost_usd(turn.request.model, usage)}

    def _checked(
        self, call: Call, headers: Mapping[str, str], raw_body: bytes | None
    ) -> MessagesRequest | Failure:
        workspace = self._workspaces.get(_key(headers))
        if raw_body is None:
            return too_large(MAX_BODY_BYTES)
        if workspace is None:
            return unauthenticated()
        if call.endpoint == "unknown":
            return not_found("Not found")
        body = _parsed(raw_body)
        if body is None:
            return invalid_request("The request body is not a JSON object.")
        self.log.note(call.number, body=body, workspace=workspace)
        return self._refusal(call.endpoint, body) or MessagesRequest.of(body, workspace)

    def _refusal(self, endpoint: Endpoint, body: Mapping[str, Any]) -> Failure | None:
        limits = self._models.get(str(body.get("model")))
        if limits is None:
            return not_found(f"model: {body.get('model')}")
        failure = check_prompt(body)
        if failure is None and endpoint == "messages":
            failure = _check_max_tokens(body, limits)
        if failure is None:
            failure = self.failures.next(endpoint)
        if failure is None and endpoint == "messages" and self._is_spent():
            failure = spend_limit_reached()
        return failure

    def _is_spent(self) -> bool:
        limit = self.spend_limit_usd
        return limit is not None and self.log.spent_usd >= limit

    def _turn(self, number: int, request: MessagesRequest) -> Turn | Failure:
        limits = self._models[request.model]
        if request.prompt_tokens > limits.context_tokens:
            return invalid_request(
                f"prompt is too long: {request.prompt_tokens} tokens > "
                f"{limits.context_tokens} maximum"
            )
        # A call that only warms the cache generates nothing, so no answer is used up for it.
        reply = self.prompter.answer(request) if request.max_tokens else Reply()
        if isinstance(reply, Failure):
            return reply
        plan = self.cache.look_up(request, limits.cache_minimum_tokens)
        written = generate(reply, request, limits.context_tokens, number)
        return Turn(number, request, reply, plan, written)


def _key(headers: Mapping[str, str]) -> str:
    scheme, _, token = (headers.get("authorization", "")).partition(" ")
    return token if scheme == "Bearer" else headers.get("x-api-key", "")


def _parsed(raw_body: bytes) -> Mapping[str, Any] | None:
    try:
        body = json.loads(raw_body)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _check_max_tokens(body: Mapping[str, Any], limits: ModelLimits) -> Failure | None:
    max_tokens = body.get("max_tokens")
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 0:
        return invalid_request("max_tokens: a whole number, 0 or more, is expected")
    if max_tokens > limits.output_tokens:
        return invalid_request(f"max_tokens: {max_tokens} > {limits.output_tokens}, the maximum")
    return None
