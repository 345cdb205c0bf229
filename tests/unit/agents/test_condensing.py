"""Progressive summarisation: the summaries travel, the original stays where it can be read."""

from __future__ import annotations

import pytest

from baton.agents.condensing import condense
from baton.agents.expander import Expander
from baton.agents.view import View
from baton.errors import InvalidInputError, ViewBudgetError

STEPS = "".join(
    f"Agent {step % 7} took step {step} and wrote its result into the shared context.\n\n"
    for step in range(3_000)
)


def condensed(text=STEPS, **options):
    return condense(text, session_id="s1", version="2.1.0", **options)


def test_condense_takes_the_seeds_four_steps():
    """Original by reference, 30 percent of its tokens, pointers, and the way back."""
    carried = View.model_validate_json(condensed().model_dump_json())
    assert carried.source_tokens == len(STEPS) // 4
    assert 0 < carried.size_tokens <= 0.3 * carried.source_tokens
    assert carried.saved_tokens == carried.source_tokens - carried.size_tokens
    assert (carried.source.session_id, carried.source.version) == ("s1", "2.1.0")
    pointer = carried.left_out[3]
    original = STEPS[pointer.start_byte : pointer.end_byte]
    assert Expander(carried, STEPS).expand(pointer.tag) == original
    assert all(line in original for line in pointer.summary.splitlines())


def test_condense_carries_a_short_text_whole():
    """Up to 1,000 tokens there is nothing to win."""
    assert condensed("x" * 4_003).whole
    assert not condensed("x" * 4_004).whole


def test_condense_keeps_pinned_parts_or_says_that_it_cannot():
    """Pins above the share are an error, never a quiet loss."""
    assert condensed(pinned=[(0, 1_000)]).shown[0].text == STEPS[:1_000]
    with pytest.raises(ViewBudgetError):
        condensed(pinned=[(0, len(STEPS) // 2)])


@pytest.mark.parametrize("share", [0, 1.01, float("nan")])
def test_condense_refuses_a_share_that_is_none(share):
    """Above 0, and up to the whole."""
    with pytest.raises(InvalidInputError, match="share"):
        condensed(share=share)
