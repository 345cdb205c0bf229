"""Rate limits: granted by bucket, fair between handoffs, shared by processes, bounded in Redis."""

from __future__ import annotations

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from baton.agents.calls import Call
from baton.agents.rate_limits import RateLimit, RateLimits
from baton.errors import InvalidInputError, StoreUnavailableError
from call_traffic import MODEL, Traffic, Worker, call_for, use_virtual_clock
from store_processes import received, start
from waiting import until

SLOW_US = 5_000


@pytest.fixture
def clock(monkeypatch, redis_client):
    return use_virtual_clock(monkeypatch, redis_client)


@pytest.fixture
def make_limits(redis_client):
    def make(**limit):
        return RateLimits(redis_client, {MODEL: RateLimit(**limit)})

    return make


def asked(limits, tokens=1, handoff="h"):
    """What a new call is told."""
    return limits.ask(Call(MODEL, handoff, tokens))


def test_calls_are_granted_until_the_bucket_is_empty(clock, make_limits):
    """Two requests fit; the third comes when the next has been refilled."""
    limits = make_limits(requests_per_minute=60, burst_seconds=2)
    assert [asked(limits), asked(limits)] == [0, 0]
    call = Call(MODEL, "h", 1)
    assert limits.ask(call) == pytest.approx(1.0, abs=0.002)
    clock.pass_seconds(0.5)
    assert limits.ask(call) == pytest.approx(0.5, abs=0.002)
    clock.pass_seconds(0.501)
    assert limits.ask(call) == 0


def test_tokens_are_limited_beside_requests(clock, make_limits):
    """The scarcer of the two decides."""
    limits = make_limits(requests_per_minute=6000, tokens_per_minute=6000, burst_seconds=10)
    assert asked(limits, 900) == 0
    assert asked(limits, 200) == pytest.approx(1.0, abs=0.002)


def test_call_asked_for_again_after_its_grant_takes_nothing_more(clock, make_limits):
    """A lost reply costs no second permit."""
    limits = make_limits(requests_per_minute=60, burst_seconds=2)
    call = Call(MODEL, "h", 1)
    assert [limits.ask(call), limits.ask(call), asked(limits)] == [0, 0, 0]
    assert asked(limits) > 0


def test_settled_call_gives_back_what_it_did_not_use_once(clock, make_limits):
    """A repeat of the settlement changes nothing, nor does one of a call never granted."""
    limits = make_limits(tokens_per_minute=600, burst_seconds=60)
    call = Call(MODEL, "h", 600)
    assert limits.ask(call) == 0
    for _ in range(3):
        limits.settle(call, 200)
        limits.settle(Call(MODEL, "h", 600), 0)
    assert asked(limits, 400) == 0
    assert asked(limits, 1) > 0


def test_settled_call_takes_what_it_used_beyond_its_grant(clock, make_limits):
    """An estimate that was too low is paid by those who come after."""
    limits = make_limits(tokens_per_minute=600, burst_seconds=60)
    call = Call(MODEL, "h", 600)
    limits.ask(call)
    limits.settle(call, 610)
    clock.pass_seconds(1.01)
    assert asked(limits, 1) > 0
    clock.pass_seconds(1.2)
    assert asked(limits, 1) == 0


def test_call_larger_than_the_bucket_goes_when_it_is_full_and_leaves_a_debt(clock, make_limits):
    """It is not held up for ever; those after it wait for what it took."""
    limits = make_limits(tokens_per_minute=60, burst_seconds=10)
    assert asked(limits, 30) == 0
    other = Call(MODEL, "h", 1)
    assert limits.ask(other) == 2.0
    clock.pass_seconds(20)
    assert limits.ask(other) == pytest.approx(1.0, abs=0.002)


def test_hold_stops_all_calls_and_leaves_empty_buckets(clock, make_limits):
    """`retry-after` is obeyed by every handoff; the latest end counts; then refilling begins."""
    limits = make_limits(requests_per_minute=60, burst_seconds=60)
    limits.hold(MODEL, 30)
    limits.hold(MODEL, 10)
    call = Call(MODEL, "h", 1)
    assert 30 <= limits.ask(call) <= 32
    clock.pass_seconds(29.9)
    assert asked(limits, handoff="other") > 0
    clock.pass_seconds(0.2)
    assert limits.ask(call) == pytest.approx(0.9, abs=0.01)


def test_hold_stops_calls_of_a_model_without_limits(clock, redis_client):
    """What the API asks for holds whatever was configured; nothing else does."""
    limits = RateLimits(redis_client, {})
    assert [asked(limits, 10**9) for _ in range(50)] == [0] * 50
    limits.hold(MODEL, 3)
    assert asked(limits) == 3.0
    clock.pass_seconds(3.1)
    assert asked(limits) == 0


def test_limits_set_later_begin_without_debts(clock, redis_client, make_limits):
    """What was granted while there was no limit is not counted against one."""
    for _ in range(50):
        assert asked(RateLimits(redis_client, {}), 10**6) == 0
    clock.pass_seconds(1.1)
    assert asked(make_limits(requests_per_minute=60, tokens_per_minute=60)) == 0


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_hold_of_no_time_is_refused(make_limits, seconds):
    """A header that is no number stops nothing."""
    with pytest.raises(InvalidInputError):
        make_limits().hold(MODEL, seconds)


def test_clock_set_back_neither_refills_nor_stops_for_long(clock, make_limits):
    """A server whose clock jumps an hour back grants on, at the pace of its limits."""
    limits = make_limits(requests_per_minute=60, burst_seconds=1)
    assert asked(limits) == 0
    call = Call(MODEL, "h", 1)
    assert limits.ask(call) > 0
    clock.pass_seconds(-3600)
    assert limits.ask(call) == pytest.approx(1.0, abs=0.002)
    clock.pass_seconds(1.01)
    assert limits.ask(call) == 0


def test_single_call_overtakes_a_crowd(clock, make_limits):
    """150 waiting calls of one handoff delay another's only one by about one call."""
    traffic = Traffic(make_limits(requests_per_minute=600, burst_seconds=1), clock)
    crowd = [Worker("crowd") for _ in range(150)]
    single = [Worker(f"single{at}", calls=1, starts_at=at) for at in range(3, 9)]
    traffic.run([*crowd, *single], seconds=10)
    assert max(traffic.waits[worker.handoff_id][0] for worker in single) <= 0.25
    assert traffic.granted["crowd"] >= 95


def test_handoffs_share_alike_however_many_their_calls(clock, make_limits):
    """Of three that always wait, each gets a third, and nothing is left unused."""
    traffic = Traffic(make_limits(requests_per_minute=600, burst_seconds=1), clock)
    traffic.run([Worker("a")] * 60 + [Worker("b")] * 2 + [Worker("c")] * 20, seconds=20)
    shares = [traffic.granted[handoff] for handoff in "abc"]
    assert sum(shares) >= 200
    assert max(shares) - min(shares) <= 12


def test_shares_are_of_tokens_where_they_are_scarce(clock, make_limits):
    """Calls five times as large are granted a fifth as often."""
    traffic = Traffic(make_limits(tokens_per_minute=60_000, burst_seconds=10), clock)
    small, large = Worker("small", tokens=1000), Worker("large", tokens=5000)
    traffic.run([small] * 30 + [large] * 3, seconds=60)
    assert traffic.granted["large"] * 5 == pytest.approx(traffic.granted["small"], abs=10)


def test_shares_are_of_what_was_used_not_of_what_was_asked(clock, make_limits):
    """A handoff that asks for five times what its calls use is not charged for it."""
    traffic = Traffic(make_limits(tokens_per_minute=60_000, burst_seconds=10), clock)
    cautious = Worker("cautious", tokens=5000, used=0.2, call_seconds=0.2)
    exact = Worker("exact", tokens=1000, call_seconds=0.2)
    traffic.run([cautious] * 10 + [exact] * 10, seconds=60)
    assert traffic.granted["cautious"] >= traffic.granted["exact"] / 2


def test_small_calls_of_its_own_handoff_do_not_starve_a_large_one(clock, make_limits):
    """The place in line is the call's, and what it needs is kept for it."""
    traffic = Traffic(make_limits(tokens_per_minute=60_000, burst_seconds=10), clock)
    large = Worker("h", tokens=9000, calls=1, starts_at=5)
    other = Worker("other", tokens=9000, calls=1, starts_at=5)
    traffic.run([Worker("h")] * 20 + [large, other], seconds=40)
    assert traffic.granted["other"] == 1
    assert max(traffic.waits["h"]) <= 30


def test_newcomers_without_end_do_not_starve_what_has_waited(clock, make_limits):
    """More new handoffs than fit, of one call each, leave an old one a share."""
    traffic = Traffic(make_limits(requests_per_minute=600, burst_seconds=1), clock)
    new = [Worker(f"new{i}", calls=1, starts_at=i / 12) for i in range(240)]
    traffic.run([*[Worker("old")] * 5, *new], seconds=20)
    assert traffic.granted["old"] >= 10 + 5


def test_place_of_a_worker_that_died_is_given_up(clock, make_limits):
    """Its call, which never comes back, holds up the others for two seconds beyond its wait."""
    limits = make_limits(tokens_per_minute=600, burst_seconds=60)
    asked(limits, 600, "greedy")
    assert asked(limits, 600, "dead") == 2.0
    clock.pass_seconds(3.9)
    assert asked(limits, 10, "early") > 0
    clock.pass_seconds(0.2)
    assert asked(limits, 10, "late") == 0


def test_place_does_not_outlast_a_clock_set_back(clock, make_limits):
    """Nor does a hold: both end by any clock."""
    limits = make_limits(tokens_per_minute=600, burst_seconds=60)
    asked(limits, 500, "greedy")
    asked(limits, 600, "dead")
    assert asked(limits, 50, "early") > 0
    clock.pass_seconds(-86_400)
    assert asked(limits, 50, "late") == 0
    limits.hold(MODEL, 3600)
    clock.pass_seconds(-86_400)
    assert asked(limits) <= 3602


def test_place_of_a_call_is_kept_within_its_handoff(clock, make_limits):
    """What the first to wait needs is not nibbled away by those of its own handoff."""
    limits = make_limits(tokens_per_minute=600, burst_seconds=60)
    asked(limits, 600)
    large = Call(MODEL, "h", 20)
    assert limits.ask(large) == 2.0
    clock.pass_seconds(1.5)
    assert asked(limits, 10) > 0
    clock.pass_seconds(0.51)
    assert limits.ask(large) == 0


def test_call_that_is_given_up_leaves_its_place(clock, make_limits):
    """A cancelled call holds up nobody."""
    limits = make_limits(tokens_per_minute=600, burst_seconds=60)
    asked(limits, 600, "greedy")
    cancelled = Call(MODEL, "cancelled", 600)
    limits.ask(cancelled)
    clock.pass_seconds(2.1)
    assert asked(limits, 10, "early") > 0
    limits.settle(cancelled, 0)
    assert asked(limits, 10, "late") == 0


def test_waiting_calls_ask_seldom(clock, make_limits):
    """Those told to wait come one after the other, each at most about twice a second."""
    traffic = Traffic(make_limits(requests_per_minute=600, burst_seconds=1), clock)
    traffic.run([Worker("a")] * 100, seconds=10)
    assert traffic.asks <= 2 * 100 * 10


def test_redis_keeps_little_and_nothing_for_ever(clock, redis_client, make_limits):
    """Handoffs that came and went leave no trace; every key expires (checked by the fixture)."""
    limits = make_limits(requests_per_minute=60_000, burst_seconds=1)
    for number in range(1500):
        asked(limits, handoff=f"h{number}")
        clock.pass_seconds(1)
    sizes = {key: redis_client.zcard(key) for key in redis_client.scan_iter("models:*:turns")}
    assert all(size <= 2 for size in sizes.values())
    assert redis_client.zcard("models:{m}:rate:granted") <= 602
    assert redis_client.exists("models:{m}:rate:line", "models:{m}:rate:fronts") == 0


@pytest.mark.slow
def test_no_script_takes_the_server_more_than_5_ms(redis_client, make_limits):
    """With 5,000 handoffs in line; what is slow in each of three rounds is slow."""
    limits = make_limits(requests_per_minute=1, burst_seconds=60)
    asked(limits)
    for number in range(5000):
        asked(limits, handoff=f"h{number}")
    redis_client.config_set("slowlog-log-slower-than", SLOW_US)
    slow = []
    for _ in range(3):
        redis_client.slowlog_reset()
        for number in range(0, 5000, 10):
            asked(limits, handoff=f"h{number}")
        slow.append(redis_client.slowlog_len())
    redis_client.config_set("slowlog-log-slower-than", 10_000)
    assert min(slow) == 0


def test_processes_share_one_bucket_and_each_handoff_its_part(redis_server, redis_client):
    """Four processes for two handoffs: within the limits by Redis' clock, and shared alike."""
    limit = RateLimit(requests_per_minute=1200, tokens_per_minute=60_000, burst_seconds=1)
    started = [
        start(call_for, redis_server.url, limit, handoff, 4.0) for handoff in ("a", "a", "a", "b")
    ]
    answers = [received(pipe) for _, pipe in started]
    for process, _ in started:
        process.join()
    counts = [len(granted) for (granted,) in answers]
    at = sorted(score for _, score in redis_client.zrange(
        "models:{m}:rate:granted", 0, -1, withscores=True
    ))  # fmt: skip
    assert len(at) == sum(counts)
    for first in range(len(at)):
        for last in range(first, len(at)):
            assert last - first + 1 <= 20 + 20 * (at[last] - at[first]) + 0.01
    assert counts[3] >= sum(counts) / 4


def test_scripts_survive_a_flush(redis_client, make_limits):
    """A server that forgot them is given them again."""
    limits = make_limits(requests_per_minute=60)
    redis_client.script_flush()
    assert asked(limits) == 0


def test_redis_that_is_away_is_said_so(tmp_path):
    """Every method raises our own error."""
    path = str(tmp_path / "none")
    with redis.Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0)) as client:
        limits = RateLimits(client, {})
        call = Call(MODEL, "h", 1)
        for use in (
            lambda: limits.ask(call), lambda: limits.settle(call, 1), lambda: limits.hold(MODEL, 1)
        ):  # fmt: skip
            with pytest.raises(StoreUnavailableError):
                use()


def test_waits_on_the_servers_own_clock_come_true(redis_client, make_limits):
    """Asked again when told, a call is granted."""
    limits = make_limits(requests_per_minute=600, burst_seconds=1)
    while asked(limits) == 0:
        pass
    until(lambda: limits.ask(Call(MODEL, "h2", 1)) == 0, what="a grant")
