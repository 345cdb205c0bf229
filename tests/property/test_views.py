"""What holds for the view of any text, within any budget, by any counter."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from baton.agents.expander import Expander
from baton.agents.view import View
from baton.agents.views import build_view
from baton.errors import ViewBudgetError

unhurried = settings(deadline=None)

pieces = st.lists(
    st.one_of(
        st.text(),
        st.sampled_from(
            [
                "# One\n", "## Two\n", "```\n", "ж" * 50, "漢字。", "👩‍👩‍👧", "\r\n\r\n", " " * 40,
                "The agents read the shared context of the session. ", "@TAG-001 [bytes 0-1]\n",
                "`" * 30,
            ]
        ),
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip
texts = st.builds(lambda parts, times: "".join(parts) * times, pieces, st.integers(1, 300))
# Monotone in length; the last three neither add up nor are near the estimate.
counters = st.sampled_from(
    [
        len,
        lambda text: len(text.encode()) // 4,
        lambda text: len(text) // 3 + 7,
        lambda text: len(text) ** 2,
        lambda text: len(text).bit_length(),
        lambda text: 5,
    ]
)
sizes = st.integers(0, 60_000)
pins = st.lists(st.tuples(sizes, st.integers(1, 500)), max_size=6)


class Rambling:
    """A summariser that keeps to no limit."""

    name = "rambling"

    def summarise(self, text, max_tokens):
        return (text[:max_tokens] + "ж") * 3


summarisers = st.sampled_from([None, Rambling()])


def built(text, budget, lengths, counter, summariser):
    """The view and the pins it was built with; a budget that is too small is raised as told."""
    size_bytes = len(text.encode())
    pinned = [
        (start % size_bytes, min(start % size_bytes + length, size_bytes))
        for start, length in lengths
    ]

    def build(budget_tokens):
        return build_view(
            text,
            budget_tokens,
            session_id="s1",
            version="1.0.0",
            pinned=pinned,
            count_tokens=counter,
            summariser=summariser,
        )

    try:
        view = build(budget)
    except ViewBudgetError as refused:
        too_little, budget = budget, refused.needed_tokens
        view = build(budget)
        with pytest.raises(ViewBudgetError):
            build(max(too_little, budget - 1))
    assert view.size_tokens == counter(view.text) <= budget
    assert build(budget) == view
    return view, pinned


@unhurried
@given(texts, st.integers(0, 20_000), pins, counters, summarisers)
def test_view_covers_the_text_once_within_its_budget(text, budget, lengths, counter, summariser):
    """Shown and expanded parts are the text; it is deterministic, and what it needs suffices."""
    assume(text)
    view, pinned = built(text, budget, lengths, counter, summariser)
    data, expander = text.encode(), Expander(view, text)
    parts = [(part.start_byte, part.end_byte, part.text) for part in view.shown]
    parts += [
        (pointer.start_byte, pointer.end_byte, expander.expand(pointer.tag))
        for pointer in view.left_out
    ]
    parts.sort()
    assert "".join(said for _, _, said in parts) == text
    assert all(data[start:end].decode() == said for start, end, said in parts)
    assert [start for start, _, _ in parts] == [0, *(end for _, end, _ in parts)][: len(parts)]
    shown = {place for part in view.shown for place in range(part.start_byte, part.end_byte)}
    assert all(shown.issuperset(range(start, end)) for start, end in pinned)


@unhurried
@given(texts, st.integers(0, 5_000), counters, summarisers)
def test_view_says_all_it_left_out_and_travels(text, budget, counter, summariser):
    """Every pointer stands in the text with its bytes; JSON brings the same view back."""
    assume(text)
    view, _ = built(text, budget, [], counter, summariser)
    assert View.model_validate_json(view.model_dump_json()) == view
    assert (view.text == text) == view.whole
    for pointer in view.left_out:
        assert f"{pointer.tag} {pointer.place} {pointer.size_bytes} bytes left out" in view.text
