"""What the prompt cache did for calls: hits, writes, misses with their reason, and USD saved.

A report is plain data: a runner makes one for each of its calls, merges them, and stores the sum in
its node's details under `CACHE`; the handoff's outcome merges those of all nodes.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from baton.agents.runner import Usage
from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from baton.agents.prices import PriceTable
    from baton.agents.warming import Prefix, WarmState

CACHE: Final = "cache"  # the key of a report in a node's details

MissReason = Literal["below_minimum", "not_warmed", "expired_or_evicted", "another_model"]

_NANO_DIGITS: Final = 9
_COUNTS: Final = (
    "calls", "hits", "writes", "read_tokens", "written_tokens", "fresh_tokens", "saved_nano",
)  # fmt: skip

_Count = Annotated[int, Field(strict=True, ge=0)]


class CacheReport(BaseModel):
    """What became of calls that shared a prefix. Immutable; empty by default.

    Attributes:
        format: of the stored form.
        calls: how many there were, warming calls included.
        hits: calls that read from the cache. They may have written more behind what they read.
        writes: calls that wrote and read nothing, warming calls included.
        misses: calls that should have read and did not, by reason. Those that wrote instead are
            among the writes as well. Reasons without calls are left out.
        read_tokens: prompt tokens read from the cache.
        written_tokens: those written to it.
        fresh_tokens: all others.
        saved_nano: what the cache saved, in nano-dollars: the price without a cache, and so
            without warming calls, less the real one. Below 0 where the writes cost more than the
            reads saved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    calls: _Count = 0
    hits: _Count = 0
    writes: _Count = 0
    misses: dict[MissReason, Annotated[int, Field(strict=True, ge=1)]] = Field(default_factory=dict)
    read_tokens: _Count = 0
    written_tokens: _Count = 0
    fresh_tokens: _Count = 0
    saved_nano: Annotated[int, Field(strict=True)] = 0

    @property
    def saved_usd(self) -> Decimal:
        """`saved_nano` in USD, exact."""
        return Decimal(self.saved_nano).scaleb(-_NANO_DIGITS)

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it; `from_dict` reads it back."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, stored: object) -> CacheReport:
        """The report that `as_dict` gave; what is stored was written by a runner, so is checked.

        Raises:
            InvalidInputError: it is no report, or of a format that this Baton does not know.
        """
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            field = ".".join((CACHE, *map(str, first["loc"])))
            raise InvalidInputError(field, first["msg"], first["input"]) from None


def merge(reports: Iterable[CacheReport]) -> CacheReport:
    """What became of the calls of all `reports`, in whatever order and grouping."""
    sums, misses = dict.fromkeys(_COUNTS, 0), Counter[MissReason]()
    for report in reports:
        misses.update(report.misses)
        for name in _COUNTS:
            sums[name] += getattr(report, name)
    return CacheReport(misses=dict(misses), **sums)


def report_call(
    usage: Usage,
    *,
    model: str,
    prefix: Prefix | None,
    warm: WarmState | None,
    prices: PriceTable,
    at: datetime,
) -> CacheReport:
    """What the cache did for one call.

    Args:
        usage: as the API reported it.
        model: that was called.
        prefix: that the call has before its breakpoint, and the model that it was warmed for;
            None: it has no breakpoint, as it is too short for one.
        warm: what `Warming.ensure` answered; None for the warming call itself.
        prices: which has the model.
        at: when the call was made.

    Raises:
        PriceNotFoundError: the table does not have the model at that time.
    """
    missed = None if usage.cache_read_tokens else _why_missed(usage, model, prefix, warm)
    return CacheReport(
        calls=1,
        hits=int(usage.cache_read_tokens > 0),
        writes=int(usage.cache_write_tokens > 0 and not usage.cache_read_tokens),
        misses={missed: 1} if missed else {},
        read_tokens=usage.cache_read_tokens,
        written_tokens=usage.cache_write_tokens,
        fresh_tokens=usage.input_tokens,
        saved_nano=_saved_nano(usage, model, prefix, warm, prices, at),
    )


def _why_missed(
    usage: Usage, model: str, prefix: Prefix | None, warm: WarmState | None
) -> MissReason | None:
    """Why a call read nothing; None for a warming call that wrote, as it should."""
    if prefix is None or not usage.cache_write_tokens:  # what was not there would have been written
        return "below_minimum"
    if warm is None:
        return None
    if model != prefix.model:
        return "another_model"
    return "not_warmed" if warm == "unavailable" else "expired_or_evicted"


def _saved_nano(
    usage: Usage,
    model: str,
    prefix: Prefix | None,
    warm: WarmState | None,
    prices: PriceTable,
    at: datetime,
) -> int:
    """Without a cache the call would have been all fresh; a warming call would not have been."""
    prompt_tokens = usage.input_tokens + usage.cache_write_tokens + usage.cache_read_tokens
    otherwise = Usage(prompt_tokens, usage.output_tokens) if warm else Usage()
    paid = prices.price(model, usage, at, cache_ttl=prefix.ttl if prefix else "5m")
    return int((prices.price(model, otherwise, at) - paid).scaleb(_NANO_DIGITS))
