"""Before a run's first call: the shared prompt, how long it is, and having it cached."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from baton.agents.anthropic.calling import Extent
from baton.agents.anthropic.prefix_sizes import PrefixSize, PrefixSizes
from baton.agents.anthropic.token_bound import most_tokens
from baton.agents.warming import Prefix
from baton.errors import ModelUnavailableError, RunnerError

if TYPE_CHECKING:
    from baton.agents.anthropic.answers import Answer
    from baton.agents.anthropic.calling import Caller, Errand
    from baton.agents.anthropic.options import AnthropicOptions
    from baton.agents.anthropic.shared_prompt import SharedPrompt, SharedPrompts
    from baton.agents.runner import Usage
    from baton.agents.warming import Warming, WarmState

# The API calls its count an estimate.
COUNT_MARGIN: Final = 0.02
# The least message there can be; of a call that only counts or warms.
_PLACEHOLDER: Final = ({"role": "user", "content": "."},)
_PLACEHOLDER_TOKENS: Final = 64


@dataclass(frozen=True, slots=True)
class Launch:
    """A shared prompt that is ready to be called with.

    Attributes:
        prompt: the shared prompt.
        prefix: its entry in the cache; None: it has none.
        size: how long it is.
        warm: whether the calls are to read it from the cache.
    """

    prompt: SharedPrompt
    prefix: Prefix | None
    size: PrefixSize
    warm: bool

    @property
    def cached_tokens(self) -> int:
        """What a call reads from the cache, at least."""
        return self.size.least if self.warm else 0

    @property
    def details(self) -> dict[str, int | None]:
        """What of the context is only pointed to, and the price cliff it was left out for."""
        return {
            "left_out_bytes": self.prompt.left_out_bytes,
            "packed_under_tokens": self.prompt.cliff_tokens,
        }


class Launcher:
    """Has each shared prompt counted once for a process, and warmed once for all."""

    def __init__(
        self,
        options: AnthropicOptions,
        caller: Caller,
        shared_prompts: SharedPrompts,
        warming: Warming | None,
    ) -> None:
        self._options = options
        self._caller = caller
        self._shared_prompts = shared_prompts
        self._warming = warming
        self._sizes = PrefixSizes()

    def launch(self, errand: Errand) -> Launch:
        """Have the node's shared prompt counted, packed and cached, where nobody has.

        Raises:
            ViewBudgetError, …: as `SharedPrompts.get`.
            BatonError: as `Caller.ask`.
        """
        prompt = self._shared_prompts.get(errand.assignment)
        if not prompt.caches:
            return Launch(prompt, None, PrefixSize(0, prompt.most_tokens), warm=False)
        size = self._size(errand, prompt)
        if size.least:  # it was counted; by the bound alone nothing would be left out
            packed = self._shared_prompts.packed(errand.assignment, prompt, size.middle)
            if packed is not prompt:
                prompt, size = packed, self._size(errand, packed)
        options = self._options
        prefix = Prefix(options.model, prompt.digest, size.most, options.cache_ttl)
        ledger = errand.ledger
        ledger.prefix = prefix
        ledger.warm = self._warmed(errand, prompt, prefix, size)
        known = self._sizes.find(prompt.digest) or size
        return Launch(prompt, prefix, known, warm=ledger.warm != "unavailable")

    def note(self, launch: Launch, answer: Answer, began_at: float) -> None:
        """Learn from what a call found; `began_at` by the monotonic clock.

        Raises:
            AccessDeniedError, UnexpectedAnswerError: as `Warming.touch`.
        """
        if launch.prefix is None:
            return
        self._learn(launch.prompt, answer.usage)
        if self._warming is not None:
            ago = max(0.0, time.monotonic() - began_at)
            if _cached(answer.usage):
                self._warming.touch(launch.prefix, seconds_ago=ago)
            elif launch.warm:
                self._warming.forget(launch.prefix, seconds_ago=ago)

    def _warmed(
        self, errand: Errand, prompt: SharedPrompt, prefix: Prefix, size: PrefixSize
    ) -> WarmState:
        if self._warming is None:
            return "unavailable"
        body = {**_bare(self._options, prompt), "max_tokens": 0}
        extent = Extent(size.most + _PLACEHOLDER_TOKENS, 0, 0)

        def warm() -> None:
            answer = self._caller.warm(errand, body, extent)
            self._learn(prompt, answer.usage)

        try:
            return self._warming.ensure(
                prefix,
                warm,
                seconds=errand.assignment.seconds_left,
                cancelled=errand.assignment.raise_if_cancelled,
            )
        except (RunnerError, ModelUnavailableError) as error:
            # An endpoint may take no warming calls. What it refuses of all calls it refuses again.
            errand.assignment.progress(f"the cache was not warmed: {error}")
            return "unavailable"

    def _size(self, errand: Errand, prompt: SharedPrompt) -> PrefixSize:
        known = self._sizes.find(prompt.digest)
        if known is not None:
            return known
        with self._sizes.measuring(prompt.digest, errand.assignment):
            known = self._sizes.find(prompt.digest)
            if known is None:
                known = self._measured(errand, prompt)
                self._sizes.put(prompt.digest, known)
            return known

    def _measured(self, errand: Errand, prompt: SharedPrompt) -> PrefixSize:
        counted = self._caller.count(errand, _bare(self._options, prompt))
        if counted is None:
            return PrefixSize(0, prompt.most_tokens)
        margin = int(counted * COUNT_MARGIN) + _PLACEHOLDER_TOKENS
        return PrefixSize(max(0, counted - margin), counted + margin)

    def _learn(self, prompt: SharedPrompt, usage: Usage) -> None:
        """What is read or written is what comes before the breakpoint, exactly."""
        if tokens := _cached(usage):
            self._sizes.put(prompt.digest, PrefixSize(tokens, tokens))


def extent_of(launch: Launch, messages: str, reply_tokens: int) -> Extent:
    """How large a call with these messages, as JSON, can be."""
    prompt = launch.size.most + most_tokens(messages) + _PLACEHOLDER_TOKENS
    return Extent(prompt, launch.cached_tokens, reply_tokens)


def _cached(usage: Usage) -> int:
    return usage.cache_read_tokens + usage.cache_write_tokens


def _bare(options: AnthropicOptions, prompt: SharedPrompt) -> dict[str, Any]:
    return {
        "model": options.model,
        "tools": prompt.tools,
        "system": prompt.system,
        "messages": list(_PLACEHOLDER),
    }
