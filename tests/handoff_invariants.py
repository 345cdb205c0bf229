"""What holds of a handoff once it has ended, whatever was killed on the way (faults.md, I1-I7)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from baton.handoff.accounts import Accounts
from baton.handoff.keys import HandoffKeys
from baton.handoff.tree import HandoffTree
from baton.handoff.view import HandoffView
from handoff_bench import check_census, check_expiries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis

    from baton.store.contexts import ContextStore

_ENDED = frozenset({"ok", "failed", "cancelled", "lost", "skipped", "over_budget"})


def check_ended(client: redis.Redis, handoff_id: str, states: Mapping[str, str]) -> None:
    """It ended once, each node once and in this state, and nothing of it stays due or immortal."""
    view = HandoffView(client)
    assert view.outcome(handoff_id).ended
    assert {node.node_id: node.state for node in view.nodes(handoff_id)} == dict(states)
    check_census(client, handoff_id)
    ended = Counter(e["node"] for e in _events(client, handoff_id) if e.get("state") in _ENDED
                    and e["type"] == "node")  # fmt: skip
    assert ended == Counter(dict.fromkeys(states, 1)), "a node was committed twice, or never"
    assert client.exists(HandoffKeys.of(handoff_id).due) == 0, "something is still due"
    check_expiries(client)
    immortal = [key for key in client.scan_iter("context:*") if client.pttl(key) == -1]
    assert immortal == []


def check_results(client: redis.Redis, handoff_id: str, results: Mapping[str, str]) -> None:
    """Each of these nodes has its result; and whatever else is stored belongs to none of them."""
    tree = HandoffKeys.of(handoff_id)
    assert HandoffTree(client).results(handoff_id, list(results)) == dict(results)
    stored = {key.decode() for key in client.scan_iter(f"{_escaped(tree.base)}:results:*")}
    assert stored == {tree.result(node_id) for node_id in results}


def check_appended_once(
    client: redis.Redis, store: ContextStore, session_id: str, handoff_id: str, base: str
) -> None:
    """The merged text stands once behind what was handed off, in one new version."""
    outcome = HandoffView(client).outcome(handoff_id)
    head = store.get(session_id)
    assert head.version == outcome.version
    assert head.content == f"{base}\n{HandoffTree(client).merged(handoff_id)}"


def check_paid_once(client: redis.Redis, handoff_id: str, ledger: str) -> None:
    """No attempt ran twice, and none began behind the one whose result was stored."""
    runs: dict[tuple[str, int], list[int]] = defaultdict(list)
    for entry in client.lrange(ledger, 0, -1):
        of, node_id, step, attempt = json.loads(entry)
        if of == handoff_id:
            runs[node_id, step].append(attempt)
    stored = _stored_attempts(_events(client, handoff_id))
    for place, attempts in runs.items():
        assert len(set(attempts)) == len(attempts), f"{place}: one attempt ran twice: {attempts}"
        if place in stored:
            assert max(attempts) <= stored[place], (
                f"{place}: ran again after its result: {attempts}"
            )


def check_budget(client: redis.Redis, handoff_id: str, paid_tokens: int) -> None:
    """What was paid stands in the account, spent or held still for a dead worker; never above."""
    account = Accounts(client).account(handoff_id)
    assert account.cap_tokens is not None
    assert paid_tokens <= account.spent_tokens + account.held_tokens <= account.cap_tokens


def _stored_attempts(events: Iterable[dict]) -> dict[tuple[str, int], int]:
    """The attempt that stored each step's result."""
    stored: dict[tuple[str, int], int] = {}
    steps: Counter[str] = Counter()
    for event in events:
        if event["type"] == "node" and event["state"] in ("ok", "suspended"):
            stored[event["node"], steps[event["node"]]] = event["attempt"]
            steps[event["node"]] += event["state"] == "suspended"
    return stored


def _events(client: redis.Redis, handoff_id: str) -> list[dict]:
    key = HandoffKeys.of(handoff_id).events
    return [json.loads(fields[b"event"]) for _, fields in client.xrange(key)]


def _escaped(key: str) -> str:
    return key.replace("[", "\\[").replace("]", "\\]")
