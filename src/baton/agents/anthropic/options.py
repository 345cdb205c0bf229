"""What the Anthropic runner is set to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError
from baton.ids import check_id
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from pydantic import SecretStr

    from baton.agents.prices import CacheTtl

API_URL: Final = "https://api.anthropic.com"


@dataclass(frozen=True, slots=True)
class AnthropicOptions:
    """How to reach the API, and the bounds of one node's calls. `repr` shows no key.

    Attributes:
        api_key: of the account that pays.
        base_url: where the API is.
        model: its id.
        max_output_tokens: of one answer; the model's own limit if that is less.
        timeout_seconds: from sending a call to the end of its answer, at most.
        max_context_tokens: of a context longer than that (by `token_bound.most_tokens`) its view
            goes to the model. None: 70 % of the model's window, less one answer.
        most_left_out_share: of a context's bytes, what its view may only point to where that brings
            its prompts under a price cliff; 0: never.
        cache_ttl: how long an unread entry of the prompt cache lives.
        max_turns: calls of one run that were answered, at most.
        max_mistakes: answers of one run with a tool call that had to be refused, at most.
        backoff_seconds: before the first retry; each further one waits up to twice as long.
        longest_backoff_seconds: bound of that.

    Raises:
        InvalidInputError: a value is not as said; names the field.
    """

    api_key: SecretStr
    base_url: str = API_URL
    model: str = "claude-haiku-5-5"
    max_output_tokens: int = 8_192
    timeout_seconds: float = 300.0
    max_context_tokens: int | None = None
    most_left_out_share: float = 0.2
    cache_ttl: CacheTtl = "5m"
    max_turns: int = 30
    max_mistakes: int = 5
    backoff_seconds: float = 0.5
    longest_backoff_seconds: float = 30.0

    def __post_init__(self) -> None:
        check_id(self.model, "model")
        if not self.base_url.startswith(("http://", "https://")):
            raise InvalidInputError("base_url", "an http:// or https:// URL", "<something else>")
        if "@" in self.base_url:  # it would take the key's place, and be logged with each call
            raise InvalidInputError("base_url", "a URL without user and password", "<one with>")
        if self.cache_ttl not in ("5m", "1h"):
            raise InvalidInputError("cache_ttl", "'5m' or '1h'", self.cache_ttl)
        for field in ("max_output_tokens", "max_turns"):
            check_whole_number(getattr(self, field), field, least=1)
        check_whole_number(self.max_mistakes, "max_mistakes")
        if self.max_context_tokens is not None:
            check_whole_number(self.max_context_tokens, "max_context_tokens", least=1)
        if not 0 <= self.most_left_out_share <= 1:
            raise InvalidInputError("most_left_out_share", "0 to 1", self.most_left_out_share)
        for field in ("timeout_seconds", "backoff_seconds", "longest_backoff_seconds"):
            if not 0 < getattr(self, field) < math.inf:
                raise InvalidInputError(field, "a time above 0", getattr(self, field))
