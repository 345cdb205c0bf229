"""What is reserved for a call is never less than what it costs, whatever the table says."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from baton.agents.prices import ModelCard, PriceTable
from baton.agents.runner import Usage

NOW = datetime(2026, 11, 21, tzinfo=UTC)
USD = st.decimals(0, 100, places=3)


@st.composite
def tables(draw):
    """One model with up to three bands of any prices, cheaper ones above dearer ones too."""
    ends = [*sorted(draw(st.sets(st.integers(1, 300), max_size=2))), None]
    kinds = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    rows = [
        {"since": date(2026, 1, 1), "prompt_up_to_tokens": end}
        | {kind: draw(USD) for kind in kinds}
        for end in ends
    ]
    card = ModelCard(context_window_tokens=1000, max_output_tokens=1000, prices=rows)
    return PriceTable("drawn", {"m": card})


@given(
    tables(), st.integers(0, 200), st.integers(0, 200), st.integers(0, 200),
    st.sampled_from([None, "5m", "1h"]), st.data(),
)  # fmt: skip
def test_reservation_covers_every_call_within_it(table, fresh, cached, output, ttl, data):
    """No prompt within the bounds, with at least the promised part read, costs more."""
    most = table.most("m", fresh + cached, output, NOW, cached_tokens=cached, cache_ttl=ttl)
    new = data.draw(st.integers(0, fresh), "new")
    written = data.draw(st.integers(0, new), "written") if ttl else 0
    read = data.draw(st.integers(0, cached + fresh - new), "read")
    usage = Usage(new - written, data.draw(st.integers(0, output), "output"), written, read)
    cost = table.price("m", usage, NOW, cache_ttl=ttl or "5m")
    assert cost <= most
    assert cost == cost.quantize(Decimal("1e-9"))
