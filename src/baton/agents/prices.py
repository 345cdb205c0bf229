"""What calls of models cost: a price table with effective dates and bands, ours under the user's.

Costs are `Decimal` USD, each a whole number of nano-dollars, so sums of millions of them stay
exact, and a script may count them as integers: below nine million dollars a Lua number holds
every nano-dollar.
"""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from baton.errors import InvalidInputError, ModelRetiredError, PriceNotFoundError
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from baton.agents.runner import Usage

CacheTtl = Literal["5m", "1h"]

_MILLION: Final = 1_000_000
_SNAPSHOT: Final = re.compile(r"-[0-9]{8}\Z")

_UsdPerMillion = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=3)]
_Tokens = Annotated[int, Field(ge=1, le=1_000_000_000)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rates(_Frozen):
    """Prices of one band, in USD per million tokens; the last band's upper end is None."""

    since: date
    prompt_up_to_tokens: _Tokens | None = None
    input: _UsdPerMillion
    output: _UsdPerMillion
    cache_write_5m: _UsdPerMillion
    cache_write_1h: _UsdPerMillion
    cache_read: _UsdPerMillion

    def cache_write(self, ttl: CacheTtl) -> Decimal:
        """Of a token written to a cache that lives so long."""
        return self.cache_write_5m if ttl == "5m" else self.cache_write_1h


class ModelCard(_Frozen):
    """What the table knows of one model.

    `cache_minimum_tokens`: a shorter prefix is silently not cached; None where it is not known.
    `retires`: the first day (UTC) on which the model is gone. `prices`: from the oldest, the bands
    of one day from the smallest.
    """

    context_window_tokens: _Tokens
    max_output_tokens: _Tokens
    cache_minimum_tokens: _Tokens | None = None
    retires: date | None = None
    prices: tuple[Rates, ...] = Field(min_length=1)

    @field_validator("prices")
    @classmethod
    def _check_bands(cls, prices: tuple[Rates, ...]) -> tuple[Rates, ...]:
        ordered = tuple(sorted(prices, key=lambda row: (row.since, _upper_end(row))))
        for since, rows in groupby(ordered, lambda row: row.since):
            ends = [_upper_end(row) for row in rows]
            if ends[-1] != float("inf") or len(set(ends)) < len(ends):
                raise ValueError(f"bands of {since} must differ, and one must have no upper end")
        return ordered

    def bands(self, day: date) -> tuple[Rates, ...]:
        """The bands in effect on `day`, the smallest first; none if it is before all prices."""
        since = max((row.since for row in self.prices if row.since <= day), default=None)
        return tuple(row for row in self.prices if row.since == since)


class _Table(_Frozen):
    name: str = Field(min_length=1, max_length=200)
    models: dict[str, ModelCard]


class PriceTable:
    """Prices and sizes of models. Immutable, so safe to share; made by `load`.

    A dated snapshot such as `claude-haiku-5-5-20261007` that has no entry of its own is its model.
    Instants are aware datetimes; a price holds from its day on, in UTC.

    Every method that takes a model raises `PriceNotFoundError` where the table does not have it,
    or not at that time, and `InvalidInputError` for an instant without a zone, or a negative
    number of tokens.
    """

    def __init__(self, name: str, models: Mapping[str, ModelCard]) -> None:
        self.name = name
        self._models = dict(models)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> PriceTable:
        """Baton's table, with the TOML file at `path` over it; `prices.toml` shows the form.

        Of a model in both, the file's fields replace ours, its `prices` all our prices of it.

        Raises:
            InvalidInputError: the file cannot be read, or is not such a table; names the field.
        """
        packaged = resources.files("baton.agents") / "prices.toml"
        ours = _parse(packaged.read_text(encoding="utf-8"), "prices.toml")
        if path is None:
            return cls._checked(ours, "prices.toml")
        theirs = _parse(_read(Path(path)), str(path))
        return cls._checked(_merged(ours, theirs, str(path)), str(path))

    @classmethod
    def _checked(cls, table: Mapping[str, Any], where: str) -> PriceTable:
        try:
            checked = _Table.model_validate(table)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise InvalidInputError(f"{where}: {field}", first["msg"], first["input"]) from None
        return cls(checked.name, checked.models)

    def models(self) -> tuple[str, ...]:
        """The ids of all models, sorted."""
        return tuple(sorted(self._models))

    def get(self, model: str) -> ModelCard:
        """What the table knows of `model`."""
        card = self._models.get(model) or self._models.get(_SNAPSHOT.sub("", model))
        if card is None:
            raise PriceNotFoundError(
                f"Price table {self.name!r} has no model {model!r:.80}; known are "
                f"{', '.join(self.models())}. Add it to a price file of your own"
            )
        return card

    def price(
        self, model: str, usage: Usage, at: datetime, *, cache_ttl: CacheTtl = "5m"
    ) -> Decimal:
        """What a call that used `usage` cost in USD; `cache_ttl` is that of what it wrote.

        A retired model has a price all the same: the API did answer.
        """
        counts = (
            check_whole_number(usage.input_tokens, "input_tokens"),
            check_whole_number(usage.cache_write_tokens, "cache_write_tokens"),
            check_whole_number(usage.cache_read_tokens, "cache_read_tokens"),
            check_whole_number(usage.output_tokens, "output_tokens"),
        )
        rates = next(band for band in self._bands(model, at) if sum(counts[:3]) <= _upper_end(band))
        each = (rates.input, rates.cache_write(cache_ttl), rates.cache_read, rates.output)
        return _usd(sum(count * price for count, price in zip(counts, each, strict=True)))

    def most(
        self,
        model: str,
        input_tokens: int,
        max_tokens: int,
        at: datetime,
        *,
        cached_tokens: int = 0,
        cache_ttl: CacheTtl | None = None,
    ) -> Decimal:
        """The most a call can cost in USD, to reserve before it is sent.

        Holds for a prompt of up to `input_tokens`, of which all but `cached_tokens` may be fresh,
        and a reply of up to `max_tokens`. `cache_ttl`: fresh tokens may be written to such a
        cache; None: the call writes none. If the entry behind `cached_tokens` has gone meanwhile,
        the call costs more than this: settle what was really used.

        Raises:
            ModelRetiredError: at that time the model is gone.
        """
        check_whole_number(input_tokens, "input_tokens")
        check_whole_number(max_tokens, "max_tokens")
        fresh = max(0, input_tokens - check_whole_number(cached_tokens, "cached_tokens"))
        bands = self._bands(model, at)
        self._check_retirement(model, at)
        return max(
            _most_in(band, prompt, min(fresh, prompt), max_tokens, cache_ttl)
            for band, prompt in _reachable(bands, input_tokens)
        )

    def cliffs(self, model: str, at: datetime) -> tuple[int, ...]:
        """Prompt sizes in tokens beyond which another band's prices begin, rising."""
        ends = (band.prompt_up_to_tokens for band in self._bands(model, at))
        return tuple(end for end in ends if end is not None)

    def _bands(self, model: str, at: datetime) -> tuple[Rates, ...]:
        card, day = self.get(model), _day(at)
        bands = card.bands(day)
        if not bands:
            raise PriceNotFoundError(
                f"Price table {self.name!r} has prices of {model} only since "
                f"{card.prices[0].since}, none for {day}. Add them to a price file of your own"
            )
        return bands

    def _check_retirement(self, model: str, at: datetime) -> None:
        retires = self.get(model).retires
        if retires is not None and _day(at) >= retires:
            raise ModelRetiredError(
                f"Model {model} retired on {retires} by price table {self.name!r}; choose another, "
                "or correct `retires` in a price file of your own"
            )


def _most_in(
    rates: Rates, prompt: int, fresh: int, max_tokens: int, cache_ttl: CacheTtl | None
) -> Decimal:
    writing = rates.cache_write(cache_ttl) if cache_ttl else rates.input
    dearest = max(rates.input, writing, rates.cache_read)
    read = prompt - fresh
    return _usd(fresh * dearest + read * rates.cache_read + max_tokens * rates.output)


def _reachable(bands: tuple[Rates, ...], prompt: int) -> Iterator[tuple[Rates, int]]:
    """Bands that a prompt of up to so many tokens can fall in, each with its largest prompt."""
    for band in bands:
        yield band, int(min(prompt, _upper_end(band)))
        if prompt <= _upper_end(band):
            return


def _upper_end(band: Rates) -> float:
    return float("inf") if band.prompt_up_to_tokens is None else band.prompt_up_to_tokens


def _usd(token_prices: Decimal | int) -> Decimal:
    return Decimal(token_prices) / _MILLION


def _day(at: datetime) -> date:
    if at.tzinfo is None:
        raise InvalidInputError("at", "an instant with a time zone", at.isoformat())
    return at.astimezone(UTC).date()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("price file", f"a readable file ({error})", str(path)) from error


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, ArithmeticError) as error:
        raise InvalidInputError(where, f"TOML ({error})", "<something else>") from error


def _merged(ours: Mapping[str, Any], theirs: dict[str, Any], where: str) -> dict[str, Any]:
    models = theirs.pop("models", {})
    if not isinstance(models, dict):
        raise InvalidInputError(f"{where}: models", "a table of models", models)
    merged = dict(ours["models"])
    for model, fields in models.items():
        known = merged.get(model)
        merged[model] = {**known, **fields} if known and isinstance(fields, dict) else fields
    name = f"{where} over {ours['name']}"
    return {"name": name, **theirs, "models": merged}
