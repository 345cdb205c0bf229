"""Packs the block that workers share under a price cliff, where little need be left out for that.

Beyond a cliff every token of a prompt costs more, five times as much with some models: a shared
block that is a tenth shorter may save four fifths of a fan-out's price. What is left out of the
block is summed up in a view, and stays reachable by the view's pointers.

All workers of a fan-out must be given the same block, or each pays for writing its own to the
cache. So the decision is made from what they have in common, and from nothing else: give all the
same figures, the largest task instead of one's own, and the time of the handoff instead of now.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

from baton.agents.runner import Usage
from baton.agents.summariser import ExtractiveSummariser
from baton.agents.token_counting import estimate_text_tokens
from baton.agents.views import SUMMARY_SHARE, build_view
from baton.errors import InvalidInputError, ViewBudgetError
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from baton.agents.pinning import Pin
    from baton.agents.prices import PriceTable
    from baton.agents.summariser import Summariser
    from baton.agents.token_counting import TokenCounter
    from baton.agents.view import View

PackingReason = Literal["packed", "below_all_cliffs", "too_much_left_out", "saves_nothing"]

# A summary of less than a view's usual 30 %, so that leaving out 15 % makes room for 10 %.
BRIEF_SUMMARY_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class PackingPolicy:
    """How much may be left out, and how far below the cliff to stay.

    Attributes:
        most_left_out_share: of the shared text's bytes, 0 (never pack) to 1.
        margin_share: of the cliff, for prompts that are longer than was counted, 0 to below 1.
            2 % suits a counter that was scaled by one count of the model's own; the estimate of 4
            bytes a token may run 40 % low on code and JSON.

    Raises:
        InvalidInputError: a share is out of range.
    """

    most_left_out_share: float = 0.15
    margin_share: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.most_left_out_share <= 1:
            raise InvalidInputError("most_left_out_share", "0 to 1", self.most_left_out_share)
        if not 0 <= self.margin_share < 1:
            raise InvalidInputError("margin_share", "0 to below 1", self.margin_share)


@dataclass(frozen=True, slots=True)
class PromptParts:
    """How long the prompts of a fan-out are, in tokens. The same for all of its workers.

    Attributes:
        fixed_tokens: tools and role text before the shared block.
        shared_tokens: the shared text, whole.
        own_tokens: what comes after it, at most: the largest task, and all that a worker's tools
            may answer.
        max_output_tokens: the longest reply.

    Raises:
        InvalidInputError: one is not a whole number of at least 0.
    """

    fixed_tokens: int
    shared_tokens: int
    own_tokens: int
    max_output_tokens: int

    def __post_init__(self) -> None:
        for field in ("fixed_tokens", "shared_tokens", "own_tokens", "max_output_tokens"):
            check_whole_number(getattr(self, field), field)

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt, with the shared text whole."""
        return self.fixed_tokens + self.shared_tokens + self.own_tokens


@dataclass(frozen=True, slots=True)
class PackingPlan:
    """What was decided, and why.

    Attributes:
        reason: `packed`, or why not.
        budget_tokens: how long the shared block may be; unless packed, the whole text's length.
        cliff_tokens: the cliff that the prompt is packed under; None unless packed.
        saves_usd: what a call saves that reads the block from the cache and needs all of
            `own_tokens`, however long its reply; exact. 0 unless packed.
    """

    reason: PackingReason
    budget_tokens: int
    cliff_tokens: int | None = None
    saves_usd: Decimal = Decimal(0)

    @property
    def packed(self) -> bool:
        """True if the block must be kept to `budget_tokens`."""
        return self.reason == "packed"


@dataclass(frozen=True, slots=True)
class SharedBlock:
    """The block that all workers share: its text, the view it is if it is not whole, the plan."""

    text: str
    view: View | None
    plan: PackingPlan


@dataclass(frozen=True, slots=True)
class Packer:
    """Packs for one model, by prices of one time: of the handoff's beginning, say.

    Every method raises `PriceNotFoundError` where the table does not have the model then.
    """

    prices: PriceTable
    model: str
    at: datetime
    policy: PackingPolicy = PackingPolicy()

    def plan(self, parts: PromptParts) -> PackingPlan:
        """The budget of the shared block that saves most; its whole length if none saves enough.

        Pure: equal arguments, equal plan. It counts tokens alone; whether a text can be cut to
        the budget without leaving out too much, `pack` finds out.
        """
        cliffs = [
            cliff
            for cliff in self.prices.cliffs(self.model, self.at)
            if cliff < parts.prompt_tokens
        ]
        if not cliffs:
            return PackingPlan("below_all_cliffs", parts.shared_tokens)
        near = [cliff for cliff in cliffs if self._is_near(parts, cliff)]
        if not near:
            return PackingPlan("too_much_left_out", parts.shared_tokens)
        # Of equal savings the highest cliff: it leaves out least.
        saving, cliff = max((self._saves(parts, self._budget(parts, each)), each) for each in near)
        if saving <= 0:
            return PackingPlan("saves_nothing", parts.shared_tokens)
        return PackingPlan("packed", self._budget(parts, cliff), cliff, saving)

    def pack(
        self,
        text: str,
        parts: PromptParts,
        *,
        session_id: str,
        version: str,
        pinned: Sequence[Pin] = (),
        count_tokens: TokenCounter = estimate_text_tokens,
        summariser: Summariser | None = None,
    ) -> SharedBlock:
        """The block to share: `text`, or a view of it that brings the prompt below a cliff.

        Deterministic if the summariser is. What a summariser's own calls cost is not counted.

        Args:
            text: the shared text, the context of `session_id` at `version`.
            parts: `shared_tokens` must be what `count_tokens` gives for `text`.
            session_id: see `build_view`, as for all that follow.
            version: the version that `text` is.
            pinned: what must be shown word for word.
            count_tokens: as `build_view` calls it; not a remote call.
            summariser: called once for each section; the extractive one by default.

        Raises:
            InvalidInputError, InvalidTextError: as `build_view`, or `shared_tokens` is another.
        """
        if count_tokens(text) != parts.shared_tokens:
            raise InvalidInputError("shared_tokens", str(count_tokens(text)), parts.shared_tokens)
        plan = self.plan(parts)
        if not plan.packed:
            return SharedBlock(text, None, plan)
        try:
            view = build_view(
                text,
                plan.budget_tokens,
                session_id=session_id,
                version=version,
                pinned=pinned,
                count_tokens=count_tokens,
                summariser=_Brief(summariser or ExtractiveSummariser(count_tokens)),
            )
        except ViewBudgetError:  # so much is pinned
            return _whole(text, parts, "too_much_left_out")
        if view.left_out_bytes > self.policy.most_left_out_share * view.source.size_bytes:
            return _whole(text, parts, "too_much_left_out")
        saving = self._saves(parts, view.size_tokens)
        if saving <= 0:  # a table may have a dearer band below the cheap one
            return _whole(text, parts, "saves_nothing")
        packed = PackingPlan("packed", view.size_tokens, plan.cliff_tokens, saving)
        return SharedBlock(view.text, view, packed)

    def _budget(self, parts: PromptParts, cliff: int) -> int:
        below = int(cliff * (1 - self.policy.margin_share))
        return below - parts.fixed_tokens - parts.own_tokens

    def _is_near(self, parts: PromptParts, cliff: int) -> bool:
        """Whether the text could be cut to the cliff's budget if summaries took no room at all."""
        least = (1 - self.policy.most_left_out_share) * parts.shared_tokens
        return self._budget(parts, cliff) >= max(1, least)

    def _saves(self, parts: PromptParts, block_tokens: int) -> Decimal:
        """What a call saves whatever its reply: prices are linear in that, so look at its ends."""
        return min(
            self._cost(parts, parts.shared_tokens, output) - self._cost(parts, block_tokens, output)
            for output in (0, parts.max_output_tokens)
        )

    def _cost(self, parts: PromptParts, block_tokens: int, output_tokens: int) -> Decimal:
        usage = Usage(
            input_tokens=parts.own_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=parts.fixed_tokens + block_tokens,
        )
        return self.prices.price(self.model, usage, self.at)


def _whole(text: str, parts: PromptParts, reason: PackingReason) -> SharedBlock:
    return SharedBlock(text, None, PackingPlan(reason, parts.shared_tokens))


@dataclass(frozen=True, slots=True)
class _Brief:
    """A summariser whose summaries are short: what is left out is to make room."""

    whole: Summariser

    @property
    def name(self) -> str:
        return self.whole.name

    def summarise(self, text: str, max_tokens: int) -> str:
        brief = int(max_tokens * BRIEF_SUMMARY_SHARE / SUMMARY_SHARE)
        return self.whole.summarise(text, brief) if brief else ""
