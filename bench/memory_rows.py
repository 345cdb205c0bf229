"""Redis memory of many versions of one context, and of many sessions."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING, Final

from isal import igzip

from baton.handoff.request import make_request
from baton.handoff.tree import HandoffTree
from baton.ids import new_handoff_id, new_session_id
from baton.store.contexts import ContextStore
from bench.corpus import fresh_text, pieces
from bench.measure import expect
from bench.render import size
from bench.report import Row, Side
from bench.servers import settle
from bench.sessions import AGENT, new_session
from bench.version_rows import versions_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from bench.plan import Plan

_VERSION_BYTES: Final = 1_000_000
_SESSION_BYTES: Final = 100_000
_NODE_LIMIT_BYTES: Final = 1_500
_INSTRUCTION: Final = (
    "Look through part {number} of the shared context for what is not handled: errors, limits, "
    "open questions. List each with its place, in one line."
)
_CHANGED: Final = _VERSION_BYTES // 100
_VERSIONS_LIMIT_BYTES: Final = 30_000_000
_SESSIONS_LIMIT_BYTES: Final = 40_000_000
_KIND: Final = re.compile(rb"\}:([a-z_]+)")


def versions(client: redis.Redis, plan: Plan, text: str) -> Row:
    """Versions of one context, one hundredth of it written anew in each."""
    store = ContextStore(client, keep_versions=plan.versions)
    session_id = new_session_id()
    first = pieces(text, _VERSION_BYTES)[0]
    sample: dict[str, str] = {}
    before = _used_bytes(client)
    for number, each in enumerate(versions_of(first, plan.versions, _CHANGED)):
        commit = store.put(session_id, each, agent_id=AGENT)
        if number % 50 == 0:
            sample[commit.version] = each
    used = _used_bytes(client) - before
    expect("kept versions", plan.versions, store.show(session_id).version_count)
    for version, right in sample.items():
        expect("old version", right, store.get(session_id, version).content)
    kinds = _kinds(client)
    store.delete(session_id, agent_id=AGENT)
    store.close()
    changes = (fresh_text(_CHANGED, number) for number in range(plan.versions - 1))
    floor = _raw_bytes(client, chain([first], changes))
    return Row(
        key="versions_memory",
        what=f"Redis memory of {plan.versions:,} versions of 1 MB, 1 % contiguous change each",
        ours=Side(name="one session", took=[used]),
        other=Side(name="floor: igzip -1 of the first and of each change, raw SET", took=[floor]),
        unit="bytes",
        limit=plan.target(_VERSIONS_LIMIT_BYTES),
        facts=[_shares(kinds)],
        figures=kinds,
    )


def sessions(client: redis.Redis, plan: Plan, text: str) -> Row:
    """Sessions of one version each."""
    store = ContextStore(client)
    texts = list(islice(cycle(pieces(text, _SESSION_BYTES)), plan.sessions))
    before = _used_bytes(client)
    ids = [new_session(store, each) for each in texts]
    used = _used_bytes(client) - before
    expect("session", texts[-1], store.get(ids[-1]).content)
    kinds = _kinds(client)
    for session_id in ids:
        store.delete(session_id, agent_id=AGENT)
    store.close()
    return Row(
        key="sessions_memory",
        what=f"Redis memory of {plan.sessions:,} sessions of 100 KB",
        ours=Side(name="sessions", took=[used]),
        other=Side(name="floor: igzip -1, raw SET", took=[_raw_bytes(client, texts)]),
        unit="bytes",
        limit=plan.target(_SESSIONS_LIMIT_BYTES),
        facts=[_shares(kinds)],
        figures=kinds,
    )


def waiting_nodes(client: redis.Redis, plan: Plan) -> Row:
    """The tree of one handoff whose nodes all wait, the broker's messages aside."""
    tree, handoff_id = HandoffTree(client), new_handoff_id()
    request = make_request(
        session_id="session",
        context_version="1.0.0",
        agent_id=AGENT,
        tasks=[{"instruction": _INSTRUCTION.format(number=n)} for n in range(plan.waiting_nodes)],
    )
    floor = float(sum(len(task.instruction) for task in request.tasks))
    before = _used_bytes(client)
    tree.open(handoff_id, request, "offline")
    tree.start(handoff_id)
    used = _used_bytes(client) - before
    tree.cancel(handoff_id)
    for key in client.scan_iter(match=f"handoff:{{{handoff_id}}}*", count=1_000):
        client.delete(key)
    tree.close(handoff_id)
    nodes = plan.waiting_nodes
    return Row(
        key="node_memory",
        what=f"Redis memory of the tree per waiting node, of {nodes:,}",
        ours=Side(name="tree", took=[used / nodes]),
        other=Side(name="floor: its instruction, as bytes", took=[floor / nodes]),
        unit="bytes",
        limit=plan.target(_NODE_LIMIT_BYTES),
    )


def _used_bytes(client: redis.Redis) -> float:
    """What the server holds, but for what passes through: buffers of clients and of its log."""
    settle(client)
    memory = client.info("memory")
    return float(memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"])


def _raw_bytes(client: redis.Redis, texts: Iterable[str]) -> float:
    before = _used_bytes(client)
    keys = []
    for number, text in enumerate(texts):
        keys.append(f"bench:raw:{number}")
        client.set(keys[-1], igzip.compress(text.encode(), 1))
    used = _used_bytes(client) - before
    client.delete(*keys)
    return used


def _kinds(client: redis.Redis) -> dict[str, float]:
    """Bytes by the kind of key, as Redis counts them."""
    found: Counter[str] = Counter()
    for key in client.scan_iter(match="context:claude_max:*", count=1_000):
        kind = _KIND.search(key)
        usage = client.memory_usage(key, samples=0)
        found[kind[1].decode() if kind else "container"] += usage or 0
    return {f"{kind}_bytes": float(used) for kind, used in found.most_common()}


def _shares(kinds: dict[str, float]) -> str:
    """The largest kinds, and what is left."""
    named = list(kinds.items())[:3]
    rest = sum(kinds.values()) - sum(used for _, used in named)
    said = [f"{kind.removesuffix('_bytes')} {size(used)}" for kind, used in named]
    return ", ".join([*said, f"all else {size(rest)}"])
