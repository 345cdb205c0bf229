"""The price table: figures, dates, bands, what overrides it, what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from baton.agents.prices import PriceTable
from baton.agents.runner import Usage
from baton.errors import InvalidInputError, ModelRetiredError, PriceNotFoundError

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
ROW = """since = 2026-01-01
input = 7
output = 9
cache_write_5m = 1
cache_write_1h = 1
cache_read = 1
"""
SIZES = "context_window_tokens = 1000\nmax_output_tokens = 100\n"


@pytest.fixture(scope="module")
def table():
    return PriceTable.load()


@pytest.fixture
def load(tmp_path):
    """Loads a table with this text as the user's file."""

    def load(text):
        path = tmp_path / "prices.toml"
        path.write_text(text, encoding="utf-8")
        return PriceTable.load(path)

    return load


@pytest.mark.parametrize(
    ("model", "uncached", "all_at_once", "warmed"),
    [(HAIKU, "0.45", "0.5625", "0.05625"), (SONNET, "9", "11.25", "0.675")],
)
def test_prices_of_fifty_workers_over_one_prefix(table, model, uncached, all_at_once, warmed):
    """50 prompts of 90,000 shared tokens cost what the price list makes of them."""

    def cost(**tokens):
        return table.price(model, Usage(**tokens), NOW)

    assert 50 * cost(input_tokens=90_000) == Decimal(uncached)
    assert 50 * cost(cache_write_tokens=90_000) == Decimal(all_at_once)
    reads = 50 * cost(cache_read_tokens=90_000)
    assert cost(cache_write_tokens=90_000) + reads == Decimal(warmed)


def test_price_counts_every_kind_of_token(table):
    """Fresh, written, read and generated tokens each have their price; so have both caches."""
    usage = Usage(
        input_tokens=1000, output_tokens=100, cache_write_tokens=2000, cache_read_tokens=4000
    )
    assert table.price(SONNET, usage, NOW) == Decimal("0.0084")
    assert table.price(SONNET, usage, NOW, cache_ttl="1h") == Decimal("0.0114")
    assert table.price(SONNET, Usage(), NOW) == 0


def test_price_falls_off_the_cliff_with_the_whole_prompt(table):
    """One token above 100,000, whatever its kind, and every token costs five times as much."""
    below = Usage(
        input_tokens=10_000, output_tokens=1000, cache_write_tokens=40_000, cache_read_tokens=50_000
    )
    above = Usage(
        input_tokens=10_000, output_tokens=1000, cache_write_tokens=40_000, cache_read_tokens=50_001
    )
    assert table.price(HAIKU, below, NOW) == Decimal("0.0070")
    assert table.price(HAIKU, above, NOW) == Decimal("0.03500005")
    assert table.cliffs(HAIKU, NOW) == (100_000,)
    assert table.cliffs(SONNET, NOW) == ()


def test_price_changes_at_midnight_utc(table):
    """A price holds from its day on, in UTC, whatever zone the instant is given in."""
    usage = Usage(cache_read_tokens=1_000_000)
    change = datetime(2026, 10, 7, tzinfo=timezone(timedelta(hours=0)))
    tokyo = timezone(timedelta(hours=9))
    assert table.price(SONNET, usage, change - timedelta(seconds=1)) == Decimal("0.2")
    assert table.price(SONNET, usage, change) == Decimal("0.1")
    assert table.price(SONNET, usage, datetime(2026, 10, 7, 8, tzinfo=tokyo)) == Decimal("0.2")


def test_sums_of_a_million_prices_are_exact(table):
    """The cheapest token, a million times over, is to the nano-dollar a million times its price."""
    one = table.price(HAIKU, Usage(cache_read_tokens=1), NOW)
    assert one == Decimal("1e-8")
    assert sum([one] * 1_000_000) == Decimal("0.01")


def test_price_before_all_dates_is_an_error_that_says_so(table):
    """What a model cost before the table begins is not guessed."""
    with pytest.raises(PriceNotFoundError, match=r"only since 2026-10-07, none for 2026-10-06"):
        table.price(HAIKU, Usage(), datetime(2026, 10, 6, tzinfo=UTC))


def test_unknown_model_is_an_error_that_names_table_and_remedy(table):
    """The message says which table, what it knows, and what to do; it does not repeat a flood."""
    with pytest.raises(PriceNotFoundError) as caught:
        table.get("gpt" * 1000)
    message = str(caught.value)
    assert "Baton's, checked 2026-11" in message
    assert HAIKU in message
    assert "price file of your own" in message
    assert len(message) < 400


def test_dated_snapshot_is_priced_as_its_model(table):
    """`claude-haiku-5-5-20261007` needs no entry; a longer name is another model."""
    assert table.get(f"{HAIKU}-20261007") is table.get(HAIKU)
    with pytest.raises(PriceNotFoundError):
        table.get(f"{HAIKU}-20261007-beta")


def test_retired_model_takes_no_reservation_and_keeps_its_price(table):
    """From its day on no call is begun; one that was answered still has its cost."""
    last, gone = datetime(2026, 11, 29, 23, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)
    model = "claude-sonnet-4-5-20250929"
    assert table.most(model, 1_000_000, 0, last) == 3
    with pytest.raises(ModelRetiredError, match="2026-11-30"):
        table.most(model, 1, 0, gone)
    assert table.price(model, Usage(input_tokens=1_000_000), gone) == 3


def test_reservation_is_not_at_full_price_where_the_prefix_is_cached(table):
    """What is read from the cache is reserved as such; what may be written, as written."""
    assert table.most(SONNET, 91_000, 1000, NOW) == Decimal("0.192")
    assert table.most(SONNET, 91_000, 1000, NOW, cached_tokens=90_000) == Decimal("0.021")
    assert table.most(SONNET, 91_000, 0, NOW, cache_ttl="1h") == Decimal("0.364")
    assert table.most(HAIKU, 100_001, 0, NOW) == Decimal("0.0500005")


def test_sizes_of_models_are_known(table):
    """Window, longest reply, cache minimum."""
    haiku = table.get(HAIKU)
    assert (haiku.context_window_tokens, haiku.max_output_tokens) == (1_000_000, 128_000)
    assert haiku.cache_minimum_tokens == 512
    assert table.get("claude-haiku-4-5").context_window_tokens == 200_000


def test_file_adds_a_model_and_keeps_ours(load):
    """A model that we do not know is the user's alone; ours stay."""
    table = load(f"[models.mine]\n{SIZES}[[models.mine.prices]]\n{ROW}")
    assert table.price("mine", Usage(input_tokens=1_000_000), NOW) == 7
    assert table.price(SONNET, Usage(input_tokens=1_000_000), NOW) == 2
    assert "prices.toml over Baton's" in table.name


def test_file_replaces_our_prices_of_a_model_for_all_times(load):
    """A price agreed since January holds, though our own table has a later one."""
    table = load(f"[[models.{SONNET}.prices]]\n{ROW}")
    assert table.price(SONNET, Usage(input_tokens=1_000_000), NOW) == 7
    assert table.get(SONNET).max_output_tokens == 128_000
    assert len(table.get(SONNET).prices) == 1


def test_file_corrects_one_field_of_a_model(load):
    """What it does not say stays ours."""
    table = load("name = 'corrected'\n[models.claude-sonnet-4-5]\nretires = 2027-01-31\n")
    assert table.name == "corrected"
    assert table.most("claude-sonnet-4-5", 1_000_000, 0, datetime(2026, 12, 1, tzinfo=UTC)) == 3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("models = [", "TOML"),
        ("models = 3", "models"),
        ("models.x = 3", "models.x"),
        (f"[models.x]\n{SIZES}", "models.x.prices"),
        (f"[models.x]\n{SIZES}prices = []", "models.x.prices"),
        (f"[[models.x.prices]]\n{ROW}", "context_window_tokens"),
        (f"[models.x]\n{SIZES}windw = 1\n[[models.x.prices]]\n{ROW}", "windw"),
        (f"[[models.{SONNET}.prices]]\n{ROW.replace('7', '-7')}", "input"),
        (f"[[models.{SONNET}.prices]]\n{ROW.replace('7', 'inf')}", "input"),
        (f"[[models.{SONNET}.prices]]\n{ROW.replace('7', '0.0001')}", "input"),
        (f"[[models.{SONNET}.prices]]\n{ROW}prompt_up_to_tokens = 9", "no upper end"),
        (f"[[models.{SONNET}.prices]]\n{ROW}[[models.{SONNET}.prices]]\n{ROW}", "must differ"),
        ("other = 1", "other"),
    ],
    ids=range(13),
)
def test_malformed_file_is_refused_with_the_field(load, text, named):
    """A price that cannot be read is no price of zero."""
    with pytest.raises(InvalidInputError, match=named) as caught:
        load(text)
    assert "prices.toml" in str(caught.value)


def test_missing_file_is_refused(tmp_path):
    """A price file that is named must be there."""
    with pytest.raises(InvalidInputError, match=r"none\.toml"):
        PriceTable.load(tmp_path / "none.toml")


def test_instant_without_a_zone_and_negative_tokens_are_refused(table):
    """Neither is guessed at."""
    with pytest.raises(InvalidInputError, match="time zone"):
        table.price(SONNET, Usage(), NOW.replace(tzinfo=None))
    with pytest.raises(InvalidInputError, match="output_tokens"):
        table.price(SONNET, Usage(output_tokens=-1), NOW)
    with pytest.raises(InvalidInputError, match="max_tokens"):
        table.most(SONNET, 1, -1, NOW)
