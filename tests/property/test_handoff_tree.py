"""Any interleaving of claims, ends, spawns, calls, sweeps and cancels keeps the tree true."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from baton.agents.budget import Budget
from baton.agents.runner import ChildTask, Usage
from baton.errors import (
    FencedError,
    InvalidInputError,
    NodeCancelledError,
    OverBudgetError,
    SpawnLimitError,
)
from baton.handoff.accounts import Accounts
from baton.handoff.claims import Claim, Ending, Refusal
from baton.handoff.keys import HandoffKeys
from baton.handoff.outcome import TERMINAL_HANDOFF_STATES, TERMINAL_NODE_STATES
from baton.handoff.request import Limits, make_request
from baton.handoff.tree import HandoffTree
from baton.handoff.view import HandoffView
from baton.ids import new_handoff_id
from handoff_bench import check_census, check_expiries

if TYPE_CHECKING:
    from baton.agents.permits import Permit

LIMITS = Limits(max_attempts=3, max_depth=4, max_children=6, max_nodes=14, window=3)
PLACES = st.integers(0, 30)
CAP = 100
SHARE = 40
NANO = Decimal(1) / 10**9  # what a token costs


@dataclass
class Call:
    """One that a permit was given for, until it is settled."""

    permit: Permit
    node_id: str
    tokens: int


class TreeMachine(RuleBasedStateMachine):
    """Workers, some of them late, against one handoff; `late` claims are used again and again."""

    claims = Bundle("claims")
    client = None
    late = False

    @initialize(
        width=st.integers(1, 4),
        policy=st.sampled_from(["best_effort", "fail_fast"]),
        budget=st.sampled_from([None, Budget(tokens=CAP), Budget(usd=CAP * NANO),
                                Budget(tokens=CAP, deadline_seconds=3600)]),
    )  # fmt: skip
    def open(self, width, policy, budget):
        self.accounts = Accounts(self.client)
        self.budget = budget
        self.calls = []
        self.used = Counter()
        self.excess = 0
        self.shares = set()
        self.tree = HandoffTree(self.client)
        self.view = HandoffView(self.client)
        self.handoff_id = new_handoff_id()
        self.keys = HandoffKeys.of(self.handoff_id)
        self.joins = []
        self.joins_before = 0
        self.round = 0
        self.results = {}
        self.chains = []
        tasks = [{"instruction": f"task {slot}"} for slot in range(width)]
        request = make_request(
            session_id="s", context_version="1.0.0", agent_id="a", tasks=tasks, limits=LIMITS,
            policy=policy, budget=budget,
        )  # fmt: skip
        self.tree.open(self.handoff_id, request, "work")

    @rule()
    def start(self):
        self.tree.start(self.handoff_id)

    @rule(target=claims, place=PLACES, apart=st.booleans())
    def claim(self, place, apart):
        """A message for any node, whatever its state: late, doubled, or in time."""
        nodes = self.view.nodes(self.handoff_id)
        node = nodes[place % len(nodes)]
        losses = self.stored(node.node_id).get("losses", 0)
        claim = self.tree.claim(self.handoff_id, node.node_id, "worker", apart=apart)
        if isinstance(claim, Refusal):
            if claim.state == "apart":
                assert (losses, apart) == (2, False)
                assert self.node(node.node_id) == node
            return multiple()
        assert apart or losses < 2
        assert not self.late
        assert node.state == "waiting"
        assert self.state == "running"
        before = self.before()
        assert claim.after == before.get(node.node_id, "")
        assert not claim.after or self.node(claim.after).state == "ok"
        return claim

    @rule(claim=claims, verdict=st.sampled_from(["ok", "ok", "failed", "over_budget", "retry"]))
    def finish(self, claim, verdict):
        """An end, twice; whose claim has passed on is refused, and changes nothing."""
        content = f"{claim.node_id} by {claim.fence}" if verdict == "ok" else None
        before = self.snapshot(claim.node_id)
        try:
            first = self.tree.finish(claim, verdict, Ending(), content)
        except FencedError:
            assert self.snapshot(claim.node_id) == before
            return
        again, moves = self.tree.finish(claim, verdict, Ending(), content)
        assert again == first[0]
        assert set(moves) <= set(first[1])  # who was let in by it, the sweep looks after
        if first[0] == "ok":
            self.results[claim.node_id] = f"{claim.node_id} by {claim.fence}"

    @rule(
        claim=claims,
        lengths=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        shared=st.booleans(),
    )
    def suspend(self, claim, lengths, shared):
        """A spawn of chains, twice; beyond the limit nothing is written."""
        count = sum(lengths)
        share = Budget(tokens=SHARE) if shared else None
        chains = [
            [ChildTask(f"child {step}", None, share) for step in range(length)]
            for length in lengths
        ]
        total = self.census.total
        try:
            suspension = self.tree.suspend(claim, chains, "then", "draft")
        except SpawnLimitError:
            assert self.census.total == total > LIMITS.max_nodes - count
            return
        except FencedError:
            assert self.census.total == total
            return
        if suspension.state == "cancelled":
            assert self.census.total == total
            assert self.node(claim.node_id).state == "cancelled"
            return
        assert self.tree.suspend(claim, chains, "then", "draft").state == "suspended"
        assert self.census.total <= LIMITS.max_nodes
        if self.census.total == total:
            return  # asked again, whatever for: what it asked for first stands
        assert self.census.total == total + count
        self.chains += self.chained(claim.node_id, claim.child_count, lengths)
        if shared:
            first = claim.child_count
            self.shares |= {f"{claim.node_id}.{slot}" for slot in range(first, first + count)}

    def chained(self, parent_id, slot, lengths):
        """Pairs of nodes of which the second follows the first."""
        for length in lengths:
            ids = [f"{parent_id}.{each}" for each in range(slot, slot + length)]
            yield from pairwise(ids)
            slot += length

    @rule(claim=claims, tokens=st.sampled_from([0, 1, 30, 50, 200]))
    def reserve(self, claim, tokens):
        """A paid call: given a permit where it fits, and never beyond what is left."""
        node, before = self.node(claim.node_id), list(self.spent_and_held(claim.node_id))
        try:
            permit = self.accounts.reserve(claim, tokens, tokens * NANO, seconds=60)
        except FencedError:
            fence = self.stored(claim.node_id).get("fence", 0)
            assert (node.state, fence) != ("leased", claim.fence)
            return
        except NodeCancelledError:
            return
        except OverBudgetError:
            assert self.late or any(sum(found) + tokens > cap for cap, *found in before)
            return
        assert node.state == "leased"
        assert not self.late
        if permit is None:
            assert any(sum(found) + tokens > cap for cap, *found in before)
            return
        self.calls.append(Call(permit, claim.node_id, tokens))
        assert all(sum(found) <= cap for cap, *found in self.spent_and_held(claim.node_id))

    @rule(place=PLACES, used=st.sampled_from([0, 1, 30, 60]))
    def settle(self, place, used):
        """In time or late, whatever became of its node, and twice."""
        if not self.calls:
            return
        call = self.calls.pop(place % len(self.calls))
        for _ in range(2):
            self.accounts.settle(
                self.handoff_id, call.permit, Usage(input_tokens=used), used * NANO
            )
        self.used[call.node_id] += used
        self.excess += max(0, used - call.tokens)

    @rule(place=PLACES)
    def lose_call(self, place):
        """Nobody settles it in time; the next look takes it for spent."""
        if self.calls:
            call = self.calls[place % len(self.calls)]
            ends = f"{self.keys.base}:permit_ends"
            self.client.zadd(ends, {call.permit.permit_id: 1}, xx=True)

    @rule(chance=st.integers(0, 5))
    def pass_deadline(self, chance):
        has_deadline = self.client.hexists(self.keys.base, "deadline_at")
        if chance == 0 and has_deadline and self.state == "running":
            self.client.hset(self.keys.base, "deadline_at", 1)
            self.late = True

    @rule(claim=claims)
    def renew(self, claim):
        answer = self.tree.renew([(self.handoff_id, claim.node_id, claim.fence)])[0]
        held = self.node(claim.node_id).state == "leased"
        assert answer in (("held", "cancelled", "lost") if held else ("lost",))

    @rule(claim=claims)
    def progress(self, claim):
        self.tree.progress(claim, "half way")

    @rule(place=PLACES)
    def lapse_one(self, place):
        members = self.client.zrange(self.keys.due, 0, -1)
        if members:
            self.lapse(members[place % len(members)])

    @rule(limit=st.integers(1, 5), backlog=st.booleans())
    def sweep(self, limit, backlog):
        self.tree.sweep(self.handoff_id, limit=limit, backlog=backlog)

    @rule()
    def claim_join(self):
        fence = self.tree.claim_join(self.handoff_id, "joiner")
        if fence is not None:
            assert self.state == "joining"
            self.joins.append(fence)

    @rule(place=PLACES)
    def finish_join(self, place):
        if self.joins:
            fence = self.joins[place % len(self.joins)]
            done = self.tree.finish_join(self.handoff_id, fence, "done", {}, f"merged {fence}")
            assert not done or self.joins_before < fence == max(self.joins)

    @rule(chance=st.integers(0, 7))
    def cancel(self, chance):
        """Rare enough for others to have their turn."""
        if chance == 0:
            before = self.state
            after, _ = self.tree.cancel(self.handoff_id)
            ends = {"cancelled", "failed", "running"}
            assert after in (ends if before == "running" else {before})
            assert after != "running" or not self.census["waiting"]

    @rule(place=PLACES, chance=st.integers(0, 3))
    def cancel_some(self, place, chance):
        """A node and all below it: none of them waits then, and the others go on."""
        if chance:
            return
        nodes = self.view.nodes(self.handoff_id)
        root = nodes[place % len(nodes)].node_id
        state, _ = self.tree.cancel(self.handoff_id, root)
        after = {node.node_id: node.state for node in self.view.nodes(self.handoff_id)}
        if state == "running" and not self.late:
            below = [each for each in after if f"{each}.".startswith(f"{root}.")]
            assert "waiting" not in {after[each] for each in below}
            others = {node.node_id: node.state for node in nodes if node.node_id not in below}
            behind = {second for _, second in self.chains}
            assert all(
                after[each] == was or each in behind or root.startswith(f"{each}.")
                for each, was in others.items()
            )

    @rule(place=PLACES, all_of_it=st.booleans())
    def retry(self, place, all_of_it):
        """All that is not ok, or some of it; nothing, where it has not ended or is all ok."""
        nodes = self.view.nodes(self.handoff_id)
        node = nodes[place % len(nodes)]
        chain = self.chain_from(node.node_id)
        wanted = nodes if all_of_it else [n for n in nodes if self.is_below(n.node_id, chain)]
        before = self.state
        try:
            self.tree.reopen(self.handoff_id, None if all_of_it else node.node_id)
        except InvalidInputError:
            ended = before in TERMINAL_HANDOFF_STATES
            first = self.before().get(node.node_id)
            blocked = not all_of_it and first is not None and self.node(first).state != "ok"
            assert not ended or blocked or all(n.state == "ok" for n in wanted)
            assert self.view.nodes(self.handoff_id) == nodes
            return
        assert before in TERMINAL_HANDOFF_STATES
        assert self.state == "running"
        waiting = {n.node_id for n in self.view.nodes(self.handoff_id) if n.state == "waiting"}
        assert waiting <= {n.node_id for n in wanted if n.state != "ok"}
        self.round += 1
        self.late = False
        self.joins_before = max([self.joins_before, *self.joins])

    def chain_from(self, node_id):
        after = dict(self.chains)
        chain = [node_id]
        while chain[-1] in after:
            chain.append(after[chain[-1]])
        return chain

    def before(self):
        return {second: first for first, second in self.chains}

    def is_below(self, node_id, roots):
        return any(not root or f"{node_id}.".startswith(f"{root}.") for root in roots)

    def queued(self):
        for entry in self.client.lrange(self.keys.queue, 0, -1):
            prefix, first, last = entry.decode().rsplit(":", 2)
            for slot in range(int(first), int(last) + 1):
                yield f"{prefix}{slot}"

    def spent_and_held(self, node_id):
        """(cap, spent, held) of each account that a call of the node counts against."""
        for root in ["", *self.shares]:
            account = self.accounts.account(self.handoff_id, root)
            cap = account.cap_tokens or (account.cap_usd or Decimal("Infinity")) / NANO
            if self.is_below(node_id, [root]):
                yield cap, account.spent_tokens, account.held_tokens

    def stored(self, node_id):
        return json.loads(self.client.hget(self.keys.nodes, node_id) or "{}")

    @invariant()
    def counters_are_those_of_the_nodes(self):
        check_census(self.client, self.handoff_id)
        check_expiries(self.client)

    @invariant()
    def waiting_nodes_are_published_queued_or_behind_another(self):
        """So none is forgotten; and the counter says how many are not published."""
        states = {n.node_id: n.state for n in self.view.nodes(self.handoff_id)}
        waiting = {each for each, state in states.items() if state == "waiting"}
        due = {member.decode() for member in self.client.zrange(self.keys.due, 0, -1)}
        queued = list(self.queued())
        behind = {each for each, first in self.before().items()
                  if each in waiting and states[first] not in TERMINAL_NODE_STATES}  # fmt: skip
        assert waiting <= due.union(queued, behind)
        assert not behind.intersection(due)
        if self.state == "running":
            assert len(queued) == len(set(queued))
            assert int(self.client.hget(self.keys.base, "queued")) == len(queued) + len(behind)

    @invariant()
    def accounts_are_those_of_the_calls(self):
        """What calls hold, or lost ones held, and what was settled; not above a cap by itself."""
        permits = {
            name.decode(): json.loads(text)
            for name, text in self.client.hgetall(self.keys.permits).items()
        }
        assert set(permits) == {call.permit.permit_id for call in self.calls}
        for root in ["", *self.shares]:
            below = [call for call in self.calls if self.is_below(call.node_id, [root])]
            lapsed = [c.tokens for c in below if permits[c.permit.permit_id].get("lapsed")]
            settled = sum(n for each, n in self.used.items() if self.is_below(each, [root]))
            account = self.accounts.account(self.handoff_id, root)
            held = sum(call.tokens for call in below) - sum(lapsed)
            assert account.spent_tokens == settled + sum(lapsed)
            assert account.held_tokens == held
            assert (account.spent_usd, account.held_usd) == (
                account.spent_tokens * NANO, account.held_tokens * NANO,
            )  # fmt: skip
            cap = account.cap_tokens or (account.cap_usd or Decimal("Infinity")) / NANO
            assert account.spent_tokens + account.held_tokens <= cap + self.excess
        nodes = {n.node_id: n.usage.get("input_tokens", 0)
                 for n in self.view.nodes(self.handoff_id)}  # fmt: skip
        assert {each: n for each, n in nodes.items() if n} == {
            each: n for each, n in self.used.items() if n
        }

    @invariant()
    def nodes_end_once_and_keep_their_results(self):
        ends = Counter(
            event.node_id
            for event in self.view.events(self.handoff_id)
            if event.type == "node" and event.state in TERMINAL_NODE_STATES
        )
        assert max(ends.values(), default=0) <= 1 + self.round
        assert self.tree.results(self.handoff_id, list(self.results)) == self.results

    def teardown(self):
        """However it was left, sweeps and willing workers bring it to an end."""
        if not hasattr(self, "tree"):
            return
        for _ in range(60):
            if self.view.outcome(self.handoff_id).ended:
                break
            for member in self.client.zrange(self.keys.due, 0, -1):
                self.lapse(member)
            _, moves, _ = self.tree.sweep(self.handoff_id, limit=100, backlog=False)
            for move in moves:
                self.follow(move)
        assert self.view.outcome(self.handoff_id).ended
        self.counters_are_those_of_the_nodes()
        self.nodes_end_once_and_keep_their_results()
        self.accounts_are_those_of_the_calls()
        for suffix in (self.keys.base, self.keys.plan, self.keys.nodes, self.keys.events):
            self.client.delete(suffix)

    def follow(self, move):
        if move.kind == "start":
            self.tree.start(self.handoff_id)
        elif move.kind in ("run", "next"):
            claim = self.tree.claim(self.handoff_id, move.node_id, "willing", apart=True)
            if isinstance(claim, Claim) and self.ends_ok(claim):
                self.results[claim.node_id] = "willing"
        elif move.kind == "cancel":
            self.tree.cancel(self.handoff_id)
        else:
            fence = self.tree.claim_join(self.handoff_id, "willing")
            if fence is not None:
                assert self.tree.finish_join(self.handoff_id, fence, "done", {}, "merged")

    def ends_ok(self, claim):
        return self.tree.finish(claim, "ok", Ending(), "willing")[0] == "ok"

    def lapse(self, member):
        self.client.zadd(self.keys.due, {member: 1}, xx=True)
        if member == b"join":
            self.client.hset(self.keys.base, "join_until", 1)

    def node(self, node_id):
        return next(n for n in self.view.nodes(self.handoff_id) if n.node_id == node_id)

    def snapshot(self, node_id):
        return self.node(node_id), self.census.as_dict(), self.state

    @property
    def state(self):
        return self.view.outcome(self.handoff_id).state

    @property
    def census(self):
        return self.view.outcome(self.handoff_id).census


def test_tree_stays_true_under_any_interleaving(redis_client):
    """Counters add up, no node ends twice, late claims change nothing, and every end is reached."""
    TreeMachine.client = redis_client
    is_long = settings.get_current_profile_name() == "long"
    run_state_machine_as_test(
        TreeMachine,
        settings=settings(
            max_examples=settings().max_examples if is_long else 20,
            stateful_step_count=40 if is_long else 25,
            derandomize=not is_long,  # what turns a short run red is the change at hand
            phases=tuple(Phase) if is_long else (Phase.generate,),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
