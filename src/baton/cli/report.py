"""What became of a handoff, as JSON or as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from baton.agents.runner import Usage
from baton.cli.escaping import escape_line
from baton.cli.output import duration, plain, show_fields, show_json, show_text
from baton.cli.tree import WORDS, counts
from baton.handoff.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from baton.agents.cache_report import CacheReport
    from baton.handoff.handle import Handoff
    from baton.handoff.outcome import NodeRecord, Outcome

_ERRORS_SHOWN: Final = 10
_ERROR_CHARACTERS: Final = 500


def state_of(outcome: Outcome, *, cancelled: bool = False) -> str:
    """The handoff's state; `cancelling` where workers have yet to notice that it was cancelled."""
    return "cancelling" if cancelled and not outcome.ended else outcome.state


def handoff_json(handoff: Handoff, outcome: Outcome, state: str) -> dict[str, Any]:
    """The object that `baton run --json` prints: its keys are an interface."""
    nodes = handoff.nodes()
    return {
        "handoff": outcome.handoff_id,
        "status": state,
        "census": outcome.census.as_dict(),
        "session": outcome.session_id,
        "version": outcome.version,
        "result": handoff.result(),
        **Totals.of(nodes).as_dict(),
        "nodes": [plain(node) for node in nodes],
    }


def show_handoff(handoff: Handoff, outcome: Outcome, state: str, *, as_json: bool) -> None:
    """Print what became of the handoff: census, time, cost, result, the version it became."""
    if as_json:
        show_json(handoff_json(handoff, outcome, state))
        return
    nodes = handoff.nodes()
    show_fields(summary(outcome, state) | spending(nodes))
    show_errors(outcome, nodes)
    result = handoff.result()
    show_text("" if result is None else f"\n{result}\n")
    show_fields(_version(outcome))


def summary(outcome: Outcome, state: str) -> dict[str, str]:
    """State, census and time."""
    census = outcome.census
    fields = {
        "handoff": outcome.handoff_id,
        "status": state,
        "census": f"{census.total} nodes: {counts(census.by_state)}",
    }
    if outcome.refused_children:
        fields["refused"] = f"{outcome.refused_children:,} children beyond the limits"
    if outcome.ended_at is not None:
        fields["time"] = duration((outcome.ended_at - outcome.created_at).total_seconds())
    return fields


def spending(nodes: Sequence[NodeRecord]) -> dict[str, str]:
    """Cost, tokens, and what the prompt cache did; nothing where no model was called."""
    totals = Totals.of(nodes)
    used, cache = totals.usage, totals.cache
    fields = {}
    if used != Usage():
        prompts = used.input_tokens + used.cache_write_tokens + used.cache_read_tokens
        fields["cost"] = _dollars(totals.cost_usd)
        fields["tokens"] = (
            f"{prompts:,} in ({used.cache_read_tokens:,} read from the cache, "
            f"{used.cache_write_tokens:,} written to it), {used.output_tokens:,} out"
        )
    if cache.calls:
        fields["cache"] = f"{_uses(cache)}; {_saved(cache)}"
    return fields


def _uses(cache: CacheReport) -> str:
    reasons = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in cache.misses.items())
    misses = f"{sum(cache.misses.values())} missed" + (f" ({reasons})" if reasons else "")
    return f"{cache.hits} hit, {cache.writes} wrote, {misses}"


def _saved(cache: CacheReport) -> str:
    usd = cache.saved_usd
    return f"saved {_dollars(usd)}" if usd >= 0 else f"cost {_dollars(-usd)} more than it saved"


def _dollars(usd: Decimal) -> str:
    return f"${usd:,.4f}"


def show_errors(outcome: Outcome, nodes: Sequence[NodeRecord]) -> None:
    """Print why the handoff, and the first nodes that gave no result, failed."""
    if outcome.error:
        show_text(f"error: {_reason(outcome.error_type, outcome.error)}")
    failed = [node for node in nodes if node.state in {"failed", "lost", "over_budget"}]
    for node in failed[:_ERRORS_SHOWN]:
        reason = _reason(node.error_type, node.error)
        show_text(f"node {node.node_id} {WORDS.get(node.state, node.state)}: {reason}")
    if len(failed) > _ERRORS_SHOWN:
        show_text(f"and {len(failed) - _ERRORS_SHOWN} more; `--json` has all of them")


def _version(outcome: Outcome) -> dict[str, str]:
    session_id = outcome.session_id
    if outcome.version is None:
        return {"session": session_id, "version": f"none written; it is at {outcome.base_version}"}
    return {
        "session": session_id,
        "version": f"{outcome.version}  (baton context get {session_id})",
    }


def _reason(error_type: str, error: str) -> str:
    return escape_line(": ".join(filter(None, (error_type, error))), _ERROR_CHARACTERS)
