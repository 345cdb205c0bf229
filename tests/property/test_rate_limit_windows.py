"""Over any interleaving, no window of time sees more granted than its limits and one bucket."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from baton.agents.calls import Call
from baton.agents.rate_limits import RateLimit, RateLimits
from call_traffic import MODEL, use_virtual_clock

HANDOFFS = st.sampled_from(["a", "b", "c"])


class RateMachine(RuleBasedStateMachine):
    """Callers of three handoffs that come whenever they like, whatever they were told."""

    client = None
    monkeypatch = None

    @initialize(
        requests=st.sampled_from([None, 30, 600]),
        tokens=st.sampled_from([None, 60, 6000]),
        burst=st.sampled_from([1.0, 7.5, 60.0]),
    )
    def begin(self, requests, tokens, burst):
        self.client.flushall()
        self.limit = RateLimit(requests, tokens, burst)
        self.limits = RateLimits(self.client, {MODEL: self.limit})
        self.clock.move_to(1_700_000_000.0)
        self.waiting, self.granted = [], []
        self.held_until = 0.0
        # (when, requests, tokens): what was granted, and, negative, what was given back.
        self.taken = []
        self.largest = 0

    @rule(handoff=HANDOFFS, tokens=st.sampled_from([0, 1, 10, 150, 900]))
    def ask(self, handoff, tokens):
        self._ask(Call(MODEL, handoff, tokens))

    @rule(place=st.integers(0, 30))
    def ask_again(self, place):
        if self.waiting:
            self._ask(self.waiting.pop(place % len(self.waiting)))

    def _ask(self, call):
        wait = self.limits.ask(call)
        assert 0 <= wait <= max(0.0, self.held_until - self.clock.now) + 2.001
        if wait > 0:
            self.waiting.append(call)
            return
        assert self.clock.now >= self.held_until
        assert self.limits.ask(call) == 0
        self.granted.append(call)
        self.taken.append((self.clock.now, 1, call.tokens))
        self.largest = max(self.largest, call.tokens)

    @rule(place=st.integers(0, 30), used=st.sampled_from([0.0, 0.5, 1.0, 1.5]))
    def settle(self, place, used):
        if self.granted:
            call = self.granted.pop(place % len(self.granted))
            used_tokens = int(used * call.tokens)
            self.limits.settle(call, used_tokens)
            self.limits.settle(call, used_tokens)
            self.taken.append((self.clock.now, 0, used_tokens - call.tokens))

    @rule(place=st.integers(0, 30))
    def give_up(self, place):
        if self.waiting:
            self.limits.settle(self.waiting.pop(place % len(self.waiting)), 0)

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0]))
    def hold(self, seconds):
        self.limits.hold(MODEL, seconds)
        self.held_until = max(self.held_until, self.clock.now + seconds)

    @rule(seconds=st.sampled_from([0.001, 0.3, 1.0, 4.0, 61.0]))
    def pass_time(self, seconds):
        self.clock.pass_seconds(seconds)

    @invariant()
    def no_window_holds_more_than_limit_and_burst(self):
        self._check(1, self.limit.requests_per_minute, 1)
        self._check(2, self.limit.tokens_per_minute, self.largest)

    def _check(self, kind, per_minute, largest):
        if per_minute is None or not self.taken or not self.taken[-1][1]:
            return
        rate = per_minute / 60
        bucket = rate * self.limit.burst_seconds
        most = max(bucket, largest)
        total = 0
        for entry in reversed(self.taken):
            total += entry[kind]
            assert total <= most + rate * (self.taken[-1][0] - entry[0]) + 1e-3


def test_no_window_sees_more_than_its_limits_and_one_bucket(redis_client, monkeypatch):
    """Grants less what was given back, up to each grant and from any event before it."""
    RateMachine.client = redis_client
    RateMachine.clock = use_virtual_clock(monkeypatch, redis_client)
    run_state_machine_as_test(
        RateMachine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
