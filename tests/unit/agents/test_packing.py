"""Packing under a price cliff: when, how far, what it saves, and what forbids it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from baton.agents.expander import Expander
from baton.agents.packing import Packer, PackingPolicy, PromptParts
from baton.agents.prices import ModelCard, PriceTable
from baton.agents.token_counting import estimate_text_tokens
from baton.errors import InvalidInputError, PriceNotFoundError

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(scope="module")
def packer():
    return Packer(PriceTable.load(), HAIKU, NOW)


@pytest.fixture(scope="module")
def text():
    """105,000 tokens by the estimate."""
    step = "Agent {:5} took a step and wrote what it found into the shared context of all.\n\n"
    lines = "".join(step.format(number) for number in range(5_400))
    return lines[:420_000]


def parts_of(text, own_tokens=4_000):
    return PromptParts(1_000, estimate_text_tokens(text), own_tokens, 1_000)


def pack(packer, text, parts=None, **options):
    return packer.pack(text, parts or parts_of(text), session_id="s", version="1.0.0", **options)


def test_prompt_of_110_000_tokens_is_packed_under_the_cliff(packer, text):
    """A tenth less is five times cheaper; what is left out can be read by its pointer."""
    block = pack(packer, text)
    assert (block.plan.reason, block.plan.cliff_tokens) == ("packed", 100_000)
    assert 5_000 + block.view.size_tokens <= 98_000
    assert block.text == block.view.text
    pointer = block.view.left_out[0]
    assert Expander(block.view, text).expand(pointer.tag) == text[: pointer.end_byte]


def test_plan_says_exactly_what_a_call_saves(packer):
    """Of 106,000 read and 4,000 fresh tokens at 0.05 and 0.50, then 94,000 and 4,000 at a fifth."""
    plan = packer.plan(PromptParts(1_000, 105_000, 4_000, 1_000))
    assert (plan.budget_tokens, plan.cliff_tokens) == (93_000, 100_000)
    dear = Decimal("0.106") * Decimal("0.05") + Decimal("0.004") * Decimal("0.50")
    cheap = Decimal("0.094") * Decimal("0.01") + Decimal("0.004") * Decimal("0.10")
    assert plan.saves_usd == dear - cheap == Decimal("0.00596")


@pytest.mark.parametrize(
    ("shared", "reason"),
    [
        (95_000, "below_all_cliffs"),
        (95_001, "packed"),
        (109_411, "packed"),
        (109_413, "too_much_left_out"),
    ],
)
def test_only_what_is_just_above_a_cliff_is_packed(packer, shared, reason):
    """From one token above it to where more than 15 % would have to go."""
    assert packer.plan(PromptParts(1_000, shared, 4_000, 1_000)).reason == reason


def test_model_without_cliffs_is_never_packed(packer):
    """Nothing is gained."""
    plan = replace(packer, model=SONNET).plan(PromptParts(0, 150_000, 0, 0))
    assert (plan.reason, plan.packed, plan.budget_tokens) == ("below_all_cliffs", False, 150_000)


def test_text_that_is_pinned_is_not_packed(packer, text):
    """What must be shown word for word leaves nothing to leave out."""
    block = pack(packer, text, pinned=[(0, 419_000)])
    assert (block.text, block.view, block.plan.reason) == (text, None, "too_much_left_out")


def test_text_is_kept_whole_where_a_view_would_leave_out_more_than_allowed(packer, text):
    """The plan knows tokens only: pointers and summaries take room as well."""
    strict = replace(packer, policy=PackingPolicy(most_left_out_share=0.12))
    assert strict.plan(parts_of(text)).packed
    block = pack(strict, text)
    assert (block.text, block.plan.reason) == (text, "too_much_left_out")
    assert strict.plan(parts_of(text)) != block.plan


def test_view_that_falls_into_a_dearer_band_is_not_packed(packer, text):
    """Prices need not rise with the prompt: what the view would really cost decides."""
    below = parts_of(text).prompt_tokens - estimate_text_tokens(text)
    below += pack(packer, text).view.size_tokens
    kinds = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    dearest, cheap, dear = (dict.fromkeys(kinds, usd) for usd in (60, 10, 50))
    rows = [
        {"since": NOW.date(), "prompt_up_to_tokens": end, **usd}
        for end, usd in ((below, dearest), (100_000, cheap), (None, dear))
    ]
    card = ModelCard(context_window_tokens=10**6, max_output_tokens=10**6, prices=rows)
    odd = replace(packer, prices=PriceTable("odd", {HAIKU: card}))
    assert odd.plan(parts_of(text)).packed
    assert pack(odd, text).plan.reason == "saves_nothing"


def test_policy_that_allows_nothing_packs_nothing(packer):
    """A share of 0 turns packing off."""
    off = replace(packer, policy=PackingPolicy(most_left_out_share=0))
    assert off.plan(PromptParts(0, 100_001, 0, 0)).reason == "too_much_left_out"


def test_summaries_of_a_packed_block_are_brief(packer, text):
    """A tenth of what they stand for at most, by the summariser that was given."""

    class Asked:
        name = "asked"

        def summarise(self, text, max_tokens):
            assert 0 < max_tokens <= estimate_text_tokens(text) * 0.1
            return "gist"

    block = pack(packer, text, summariser=Asked())
    assert {pointer.summary for pointer in block.view.left_out} == {"gist"}
    assert block.view.summariser == "asked"


def test_prices_of_the_time_decide(packer):
    """Before its prices began there are none."""
    with pytest.raises(PriceNotFoundError):
        replace(packer, at=datetime(2026, 1, 1, tzinfo=UTC)).plan(PromptParts(0, 1, 0, 0))


def test_figures_that_do_not_fit_are_refused(packer):
    """A length that is not the text's, a share out of range, tokens that are no number."""
    for use in (
        lambda: pack(packer, "some text", PromptParts(0, 100_001, 0, 0)),
        lambda: PackingPolicy(most_left_out_share=1.1), lambda: PackingPolicy(margin_share=1),
        lambda: PromptParts(0, -1, 0, 0),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            use()
