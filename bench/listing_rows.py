"""Baton's chunking against the protocol's listing, and whether either gives the text back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.content.wire_chunks import assemble_context, chunk_context
from bench import literal_listing
from bench.corpus import ascii_text
from bench.measure import expect, interleave, timed
from bench.report import Row, Side

if TYPE_CHECKING:
    from bench.plan import Plan


def round_trip(plan: Plan) -> Row:
    """Chunk and assemble ASCII text, the only kind that the listing does not fail on at once."""
    text = ascii_text(plan.size_bytes)
    listing_made = ""

    def ours(_: int) -> float:
        took, made = timed(lambda: assemble_context(chunk_context(text)))
        expect("chunk_context and assemble_context", text, made)
        return took

    def listing(_: int) -> float:
        nonlocal listing_made
        took, listing_made = timed(lambda: literal_listing.assemble(literal_listing.chunk(text)))
        return took

    took = interleave({"ours": ours, "listing": listing}, plan.rounds)
    off_bytes = len(listing_made) - len(text)
    verdict = "identical" if listing_made == text else f"WRONG, {off_bytes:+,} bytes"
    return Row(
        key="listing",
        what=f"chunk and assemble {plan.size} of ASCII",
        ours=Side(name="chunk_context, assemble_context", took=took["ours"]),
        other=Side(name="the protocol's literal listing (flawed)", took=took["listing"]),
        facts=[f"round trip: ours identical; the listing's {verdict}"],
        figures={"listing_off_bytes": off_bytes},
    )
