"""What is said to be packed is below the cliff, saves money, and leaves out little."""

from __future__ import annotations

from datetime import UTC, date, datetime

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from baton.agents.packing import Packer, PackingPolicy, PromptParts
from baton.agents.prices import ModelCard, PriceTable
from baton.agents.runner import Usage

NOW = datetime(2026, 11, 21, tzinfo=UTC)
USD = st.decimals(0, 10, places=3)
KINDS = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")

unhurried = settings(deadline=None)
counters = st.sampled_from([len, lambda text: len(text.encode()) // 4])
texts = st.builds(
    lambda parts, times: "".join(parts) * times,
    st.lists(
        st.sampled_from(
            ["The agents read the shared context of it. ", "\n\n", "# One\n", "ж" * 40, "```\n"]
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(50, 2_000),
)
policies = st.builds(PackingPolicy, st.floats(0.1, 1), st.one_of(st.just(0.0), st.floats(0, 0.1)))


@st.composite
def cases(draw):
    """A text, its parts, and bands of any prices whose ends are about the prompt's length."""
    text, counter = draw(texts), draw(counters)
    shared = counter(text)
    parts = PromptParts(
        draw(st.integers(0, 200)), shared, draw(st.integers(0, 200)), draw(st.integers(0, 5_000))
    )
    total = parts.prompt_tokens
    ends = draw(
        st.sets(st.floats(0.5, 1.1).map(lambda part: max(1, int(part * total))), max_size=2)
    )
    rows = [
        {"since": date(2026, 1, 1), "prompt_up_to_tokens": end}
        | {kind: draw(USD) for kind in KINDS}
        for end in [*sorted(ends), None]
    ]
    card = ModelCard(context_window_tokens=10**6, max_output_tokens=10**6, prices=rows)
    packer = Packer(PriceTable("drawn", {"m": card}), "m", NOW, draw(policies))
    return packer, parts, text, counter


def packed(packer, parts, text, counter):
    return packer.pack(text, parts, session_id="s", version="1.0.0", count_tokens=counter)


@unhurried
@given(cases(), st.integers(0, 5_000))
def test_packed_block_is_below_its_cliff_and_saves_what_it_says(case, output):
    """Its prompt is below the cliff by the margin, little is left out, and each call saves."""
    packer, parts, text, counter = case
    block = packed(*case)
    event(block.plan.reason)
    if not block.plan.packed:
        assert (block.text, block.view, block.plan.saves_usd) == (text, None, 0)
        assert block.plan.budget_tokens == parts.shared_tokens
        return
    size = counter(block.text)
    assert size <= block.plan.budget_tokens < parts.shared_tokens
    below = block.plan.cliff_tokens * (1 - packer.policy.margin_share)
    assert parts.fixed_tokens + size + parts.own_tokens <= below
    left_out = block.view.left_out_bytes / len(text.encode())
    assert 0 < left_out <= packer.policy.most_left_out_share

    def cost(shared, reply):
        usage = Usage(parts.own_tokens, reply, cache_read_tokens=parts.fixed_tokens + shared)
        return packer.prices.price("m", usage, NOW)

    assert block.plan.saves_usd > 0
    reply = min(output, parts.max_output_tokens)
    assert cost(parts.shared_tokens, reply) - cost(size, reply) >= block.plan.saves_usd


@unhurried
@given(cases())
def test_equal_parts_make_the_same_block(case):
    """Workers that decide apart decide alike: what they read is one cache entry."""
    assert packed(*case) == packed(*case)


@unhurried
@given(cases())
def test_plan_is_what_packing_keeps_to(case):
    """What the plan refuses is not packed; what it allows is packed no longer than it says."""
    packer, parts, _, _ = case
    assume(parts.shared_tokens)
    plan, block = packer.plan(parts), packed(*case)
    if block.plan.packed:
        assert plan.packed
        assert plan.cliff_tokens == block.plan.cliff_tokens
        assert block.plan.budget_tokens <= plan.budget_tokens
    elif not plan.packed:
        assert block.plan == plan
