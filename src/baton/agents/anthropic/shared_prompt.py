"""The part of a prompt that all workers over one context share, made once for a process."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from baton.agents.anthropic.delimiting import delimited
from baton.agents.anthropic.role import ROLE
from baton.agents.anthropic.token_bound import most_tokens
from baton.agents.anthropic.tools import tool_definitions
from baton.agents.memo import Memo
from baton.agents.packing import Packer, PackingPolicy, PromptParts
from baton.agents.views import build_view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from baton.agents.anthropic.options import AnthropicOptions
    from baton.agents.prices import PriceTable
    from baton.agents.runner import Assignment
    from baton.agents.view import View

MEMO_BYTES: Final = 64 * 1024 * 1024
# What the API adds to a prompt that has tools.
OVERHEAD_TOKENS: Final = 1_000
# Room under a price cliff for what follows the shared prompt: a task, and some reading. The same
# for all workers, as they must share one block.
OWN_TOKENS: Final = 4_000
_CONTEXT_SHARE: Final = 0.7  # of the window; the rest is for the conversation


@dataclass(frozen=True, slots=True)
class SharedPrompt:
    """What comes before the breakpoint.

    Attributes:
        tools: the request's.
        system: the role, then the context or its view, with the breakpoint at its end.
        digest: `sha256` of it, of the model, and of where and for whom it is cached.
        most_tokens: how long it can be.
        caches: whether it may be long enough for the API's cache; if not, it has no breakpoint.
        left_out_bytes: of the context, which the view that stands for it only points to.
        cliff_tokens: the price cliff that it was packed under; None: it was not.
    """

    tools: Sequence[Mapping[str, Any]]
    system: Sequence[Mapping[str, Any]]
    digest: str
    most_tokens: int
    caches: bool
    left_out_bytes: int = 0
    cliff_tokens: int | None = None


class SharedPrompts:
    """Shared prompts by context. Thread-safe: of several that need the same, one makes it."""

    def __init__(self, options: AnthropicOptions, prices: PriceTable) -> None:
        card = prices.get(options.model)
        self._options = options
        self._prices = prices
        self._minimum_tokens = card.cache_minimum_tokens or 0
        self._reply_tokens = min(options.max_output_tokens, card.max_output_tokens)
        self._context_tokens = options.max_context_tokens or max(
            1, int(_CONTEXT_SHARE * card.context_window_tokens) - self._reply_tokens
        )
        self._made: Memo[SharedPrompt] = Memo(MEMO_BYTES)
        self._packed: Memo[SharedPrompt] = Memo(MEMO_BYTES)

    def get(self, assignment: Assignment) -> SharedPrompt:
        """That of the assignment's context, or of the view that its package carries instead.

        Raises:
            ViewBudgetError: the context is too long, and no view of it fits.
            ContextCorruptError, NotFoundError, StoreUnavailableError: as `Assignment.context`.
        """
        text = assignment.context
        if (carried := _carried(assignment)) and most_tokens(carried.text) <= self._context_tokens:
            return self._make(carried)
        session_id, version = assignment.session_id, assignment.context_version
        return self._made.get(
            assignment.context_hash,
            sys.getsizeof(text),
            lambda: self._make(self._fitting(text, session_id, version)),
        )

    def packed(
        self, assignment: Assignment, prompt: SharedPrompt, prompt_tokens: int
    ) -> SharedPrompt:
        """`prompt`, or one packed under a price cliff, where that leaves out little and saves.

        Args:
            assignment: whose context it is.
            prompt: from `get`, for the same assignment.
            prompt_tokens: how long it is, by the model's own count; the first answer of a process
                holds.
        """
        if prompt.left_out_bytes:
            return prompt
        text = assignment.context
        session_id, version = assignment.session_id, assignment.context_version
        return self._packed.get(
            prompt.digest,
            sys.getsizeof(text),
            lambda: self._pack(text, session_id, version, prompt, prompt_tokens),
        )

    def _pack(
        self, text: str, session_id: str, version: str, prompt: SharedPrompt, prompt_tokens: int
    ) -> SharedPrompt:
        options = self._options
        policy = PackingPolicy(most_left_out_share=options.most_left_out_share)
        packer = Packer(self._prices, options.model, datetime.now(UTC), policy)

        def count(piece: str) -> int:
            return -(-most_tokens(piece) * prompt_tokens // prompt.most_tokens)

        shared = count(text)
        parts = PromptParts(max(0, prompt_tokens - shared), shared, OWN_TOKENS, self._reply_tokens)
        block = packer.pack(text, parts, session_id=session_id, version=version, count_tokens=count)
        if block.view is None or block.view.whole:
            return prompt
        return self._make(block.view, cliff_tokens=block.plan.cliff_tokens)

    def _fitting(self, text: str, session_id: str, version: str) -> View:
        return build_view(
            text,
            self._context_tokens,
            session_id=session_id,
            version=version,
            count_tokens=most_tokens,
        )

    def _make(self, view: View, *, cliff_tokens: int | None = None) -> SharedPrompt:
        source, text = view.source, view.text
        if not view.whole:
            # Before the breakpoint there are no ids: equal contexts share an entry of the cache.
            named = f"View of {source.session_id}@{source.version}"
            text = text.replace(named, "View of the context", 1)
        tools = tool_definitions()
        system: list[dict[str, Any]] = [{"type": "text", "text": ROLE}]
        if text:
            system.append({"type": "text", "text": delimited("context", text)})
        most = OVERHEAD_TOKENS + most_tokens(_canonical([tools, system]))
        caches = most >= self._minimum_tokens
        if caches:
            control = {"type": "ephemeral", "ttl": self._options.cache_ttl}
            system[-1] = {**system[-1], "cache_control": control}
        digest = self._digest(tools, system)
        return SharedPrompt(tools, system, digest, most, caches, view.left_out_bytes, cliff_tokens)

    def _digest(self, *parts: object) -> str:
        # Caches are per workspace: what another key has written need not be there for this one.
        options = self._options
        whose = [options.base_url, options.api_key.get_secret_value(), options.model]
        return hashlib.sha256(_canonical([whose, parts]).encode()).hexdigest()


def _carried(assignment: Assignment) -> View | None:
    """The view that the sender condensed the context to, if it is of just this context."""
    view = assignment.package and assignment.package.session_context.view
    return view if view and view.source.content_hash == assignment.context_hash else None


def _canonical(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
