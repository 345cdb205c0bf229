"""Warming: one writes a prefix to the cache, the others wait; what ends, fails or goes missing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from baton.agents import warming as module
from baton.agents.warming import LOOK_SECONDS, Prefix, Warming, WarmingPolicy
from baton.errors import (
    InvalidIdError,
    InvalidInputError,
    NodeCancelledError,
    PriceNotFoundError,
    UnexpectedAnswerError,
)
from store_processes import received, start
from virtual_clock import VirtualClock, on_virtual_clock
from waiting import until
from warming_processes import PREFIX, ensure_from_threads, go_on, warm_for_ever

SCRIPTS = ("_ASK", "_RENEW", "_END", "_TOUCH", "_FORGET")


@pytest.fixture
def clock(monkeypatch, redis_client):
    for name in SCRIPTS:
        monkeypatch.setattr(module, name, on_virtual_clock(getattr(module, name)))
    return VirtualClock(redis_client)


@pytest.fixture
def warming(redis_client):
    return Warming(redis_client)


class Calls:
    """Warming calls: how many, and what they raise."""

    def __init__(self, *errors):
        self.made = 0
        self._errors = list(errors)

    def __call__(self):
        self.made += 1
        if self._errors:
            raise self._errors.pop(0)


def ensure(warming, warm=go_on, prefix=PREFIX, *, seconds=30, cancelled=go_on):
    return warming.ensure(prefix, warm, seconds=seconds, cancelled=cancelled)


def ensured(warming, warm, **options):
    """The state, or the error's name."""
    try:
        return ensure(warming, warm, **options)
    except RuntimeError as error:
        return type(error).__name__


def in_threads(count, call):
    with ThreadPoolExecutor(count) as threads:
        return Counter(threads.map(lambda _: call(), range(count)))


@pytest.mark.parametrize(
    "prefixes",
    [
        [PREFIX],
        [PREFIX, replace(PREFIX, model="claude-sonnet-5-5")],
        [PREFIX, replace(PREFIX, ttl="1h"), replace(PREFIX, prefix_hash="sha256:" + "cd" * 32)],
    ],
    ids=["one", "two models", "two lives and another prefix"],
)
def test_processes_and_threads_that_start_together_warm_each_prefix_once(
    redis_server, redis_client, prefixes
):
    """Of four processes with twelve threads each, one writes each prefix, and the rest go on."""
    wanted = prefixes * (12 // len(prefixes))
    asking = 4 * len(wanted)
    processes = [start(ensure_from_threads, redis_server.url, wanted, asking) for _ in range(4)]
    states = Counter(state for _, pipe in processes for each in received(pipe) for state in each)
    for process, _ in processes:
        process.join()
    assert states == {"written": len(prefixes), "ready": asking - len(prefixes)}
    assert int(redis_client.get("test:warmed")) == len(prefixes)


def test_hundred_waiters_go_on_after_one_call(warming):
    """They all wait at once; those of one process look in turns."""
    asked = Counter()

    def warm():
        until(lambda: asked["asked"] == 100, what="all asking")

    def call():
        asked["asked"] += 1
        return ensure(warming, warm)

    assert in_threads(100, call) == {"written": 1, "ready": 99}


def test_waiters_of_one_process_look_as_often_as_one(monkeypatch, warming, redis_client):
    """Fifty threads that wait ask once each, and then one of them every so often."""
    asks, looked = Counter(), module._ASK

    def count(*args):
        asks["asks"] += 1
        return looked(*args)

    monkeypatch.setattr(module, "_ASK", count)

    def warm():
        until(lambda: asks["asks"] >= 61, what="ten looks")
        warm.seconds = time.monotonic() - began

    began = time.monotonic()
    assert in_threads(50, lambda: ensure(warming, warm)) == {"written": 1, "ready": 49}
    assert asks["asks"] <= 55 + warm.seconds / (LOOK_SECONDS / 2)


def test_warmer_that_is_killed_is_replaced_when_its_lease_is_over(redis_server, redis_client):
    """While it lives its lease is renewed; after SIGKILL exactly one other warms."""
    process, pipe = start(warm_for_ever, redis_server.url, 0.5)
    assert pipe.recv() == "warming"
    first = redis_client.hget(PREFIX.key, "until")
    until(lambda: redis_client.hget(PREFIX.key, "until") != first, what="the lease renewed")
    warming, calls = Warming(redis_client, lease_seconds=0.5), Calls()
    assert ensure(warming, calls, seconds=0.6) == "unavailable"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert in_threads(8, lambda: ensure(warming, calls)) == {"written": 1, "ready": 7}
    assert calls.made == 1


def test_lease_is_renewed_for_no_longer_than_was_asked_for(redis_client):
    """A warming call that hangs is passed by, though its process lives."""
    warming, released = Warming(redis_client, lease_seconds=0.2), threading.Event()
    hanging = threading.Thread(
        target=ensure, args=(warming, lambda: released.wait(30)), kwargs={"seconds": 0.3}
    )
    hanging.start()
    until(lambda: redis_client.exists(PREFIX.key), what="it warming")
    assert ensure(Warming(redis_client)) == "written"
    released.set()
    hanging.join()


def test_warmer_that_lost_its_lease_changes_nothing_when_it_fails(monkeypatch, redis_client):
    """A frozen process whose call then fails neither lets others in nor undoes what one wrote."""
    monkeypatch.setattr(module, "_RENEW", lambda *_: 1)
    late, other = Warming(redis_client, lease_seconds=0.1), Warming(redis_client)
    thawed, calls = threading.Event(), Calls()

    def freeze():
        thawed.wait(30)
        raise RuntimeError

    def warm():
        thawed.set()
        frozen.join()
        assert ensure(Warming(redis_client), calls, seconds=0) == "unavailable"

    frozen = threading.Thread(target=ensured, args=(late, freeze))
    frozen.start()
    until(lambda: redis_client.exists(PREFIX.key), what="it warming")
    assert ensure(other, warm) == "written"
    assert ensure(other, calls) == "ready"
    assert calls.made == 0


def test_threads_of_the_warmers_process_wait_for_no_look(monkeypatch, redis_client):
    """The end of its call lets them go at once; its failure lets one of them try."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 3600)
    warming, calls = Warming(redis_client), Calls()

    def all_wait():
        room = warming._looks._rooms.get(PREFIX.key)
        return room is not None and room.inside == 10 - calls.made

    def warm():
        calls()
        until(all_wait, what="all waiting")
        if calls.made < 3:
            raise RuntimeError

    states = in_threads(10, lambda: ensured(warming, warm))
    assert states == {"RuntimeError": 2, "written": 1, "ready": 7}


def test_failed_calls_are_tried_in_turn_then_all_go_on_without(warming):
    """Of a hundred, three meet the error themselves; the rest learn that it is in vain."""
    calls = Calls(*[RuntimeError("overloaded")] * 100)
    states = in_threads(100, lambda: ensured(warming, calls))
    assert states == {"RuntimeError": 3, "unavailable": 97}
    assert calls.made == 3


def test_call_that_fails_once_is_made_by_the_next(warming):
    """The error is the first one's alone."""
    calls = Calls(RuntimeError())
    assert in_threads(10, lambda: ensured(warming, calls)) == {
        "RuntimeError": 1, "written": 1, "ready": 8,
    }  # fmt: skip


def test_tries_begin_anew_after_a_rest(clock, warming):
    """Half a minute without, then it is tried again."""
    calls = Calls(*[RuntimeError()] * 3)
    states = [ensured(warming, calls) for _ in range(4)]
    clock.pass_seconds(29)
    states.append(ensured(warming, calls))
    clock.pass_seconds(1)
    states.append(ensured(warming, calls))
    assert states == [*["RuntimeError"] * 3, "unavailable", "unavailable", "written"]


def test_warmer_that_is_cancelled_leaves_its_try_to_others(warming):
    """A handoff's own end says nothing of the cache: however many leave, the next may write."""
    calls = Calls(*[NodeCancelledError("stop")] * 5)
    for _ in range(5):
        with pytest.raises(NodeCancelledError):
            ensure(warming, calls)
    assert ensure(warming, calls) == "written"


def test_warmer_that_is_interrupted_leaves_its_try_to_others(warming):
    """So does a process that is told to end."""
    calls = Calls(*[SystemExit()] * 5)
    for _ in range(5):
        with pytest.raises(SystemExit):
            ensure(warming, calls)
    assert ensure(warming, calls) == "written"


@pytest.mark.parametrize(("ttl", "life_seconds"), [("5m", 240), ("1h", 3540)])
def test_entry_is_counted_on_until_a_margin_before_its_end(clock, warming, ttl, life_seconds):
    """A minute before the API may drop it, it is written anew."""
    prefix, calls = replace(PREFIX, ttl=ttl), Calls()
    states = [ensure(warming, calls, prefix)]
    clock.pass_seconds(life_seconds - 1)
    states.append(ensure(warming, calls, prefix))
    clock.pass_seconds(1)
    states.append(ensure(warming, calls, prefix))
    assert states == ["written", "ready", "written"]


def test_entries_that_end_are_written_anew_as_often_as_need_be(redis_client):
    """By the server's clock: short lives that end are no failures."""
    policy = WarmingPolicy({"5m": 0.1, "1h": 1.0}, margin_seconds=0.05, rest_seconds=3600)
    warming, calls = Warming(redis_client, policy=policy), Calls()
    for made in range(1, 7):
        until(lambda: ensure(warming, calls) == "written", what="the entry over")
        assert calls.made == made


def test_read_renews_the_life_of_an_entry(clock, warming):
    """From the time of the read; one that is older than the last changes nothing."""
    ensure(warming)
    clock.pass_seconds(200)
    warming.touch(PREFIX, seconds_ago=50)
    warming.touch(PREFIX, seconds_ago=190)
    clock.pass_seconds(189)
    assert ensure(warming) == "ready"
    clock.pass_seconds(1)
    assert ensure(warming) == "written"


def test_read_that_nobody_expected_makes_the_entry_ready(clock, warming):
    """A worker that wrote the prefix on its own spares the others the warming."""
    warming.touch(PREFIX)
    assert ensure(warming) == "ready"


def test_entry_that_is_gone_is_written_anew_once(warming):
    """The first call that finds it evicted has it written; of those after, one writes."""
    calls = Calls()
    ensure(warming)
    warming.forget(PREFIX)
    assert in_threads(20, lambda: ensure(warming, calls)) == {"written": 1, "ready": 19}
    assert calls.made == 1


def test_calls_sent_before_an_entry_was_written_anew_say_nothing(clock, warming):
    """Fifty calls find it gone, and report it late: it is written anew for the first alone."""
    ensure(warming)
    clock.pass_seconds(10)
    warming.forget(PREFIX, seconds_ago=2)
    assert ensure(warming) == "written"
    warming.forget(PREFIX, seconds_ago=2)
    assert ensure(warming) == "ready"


def test_read_before_the_eviction_does_not_bring_an_entry_back(clock, warming):
    """What is known last counts, not what is told last."""
    ensure(warming)
    clock.pass_seconds(10)
    warming.forget(PREFIX, seconds_ago=1)
    warming.touch(PREFIX, seconds_ago=5)
    assert ensure(warming) == "written"


def test_entries_that_nobody_ever_reads_are_given_up(clock, warming):
    """An API that silently keeps nothing is not paid for a warming call for each worker."""
    calls = Calls()
    for _ in range(10):
        ensure(warming, calls)
        warming.forget(PREFIX)
        clock.pass_seconds(1)
    assert calls.made == 3


def test_entries_that_are_read_are_written_as_often_as_they_go(clock, warming):
    """An eviction after a read is no failure."""
    calls = Calls()
    for _ in range(10):
        ensure(warming, calls)
        warming.touch(PREFIX)
        clock.pass_seconds(1)
        warming.forget(PREFIX)
    assert calls.made == 10


def test_tries_of_an_entry_that_ended_are_bounded_too(clock, warming):
    """That it was there once does not excuse failure after failure."""
    ensure(warming)
    clock.pass_seconds(240)
    calls = Calls(*[RuntimeError()] * 10)
    states = [ensured(warming, calls) for _ in range(5)]
    assert states == [*["RuntimeError"] * 3, "unavailable", "unavailable"]


def test_clock_set_back_keeps_nothing_for_longer(clock, warming, redis_client):
    """An hour back, and neither an entry nor a lease of the time to come counts."""
    ensure(warming)
    clock.pass_seconds(-3600)
    calls = Calls()
    assert ensure(warming, calls) == "written"

    def set_back():
        clock.pass_seconds(-3600)
        assert ensure(Warming(redis_client), calls) == "written"

    clock.pass_seconds(3000)
    ensure(warming, set_back)


def test_prefix_below_the_minimum_is_not_written(warming, redis_client):
    """The API would silently not keep it: no call, and no key."""
    calls = Calls()
    assert ensure(warming, calls, replace(PREFIX, tokens=511)) == "unavailable"
    assert (calls.made, redis_client.dbsize()) == (0, 0)
    assert ensure(warming, calls, replace(PREFIX, tokens=512)) == "written"


def test_wait_ends_when_its_time_is_up(warming, redis_client):
    """The other still writes: go on without, having asked whether to stop."""
    looks = Calls()

    def warm():
        assert ensure(Warming(redis_client), seconds=0.3, cancelled=looks) == "unavailable"

    assert ensure(warming, warm) == "written"
    assert looks.made > 1


def test_wait_ends_when_it_is_cancelled(warming, redis_client):
    """What `cancelled` raises comes out, and the one who writes is not disturbed."""

    def warm():
        with pytest.raises(NodeCancelledError):
            ensure(Warming(redis_client), seconds=3600, cancelled=cancelled_at_third_look())

    assert ensure(warming, warm) == "written"
    assert ensure(warming) == "ready"


def cancelled_at_third_look():
    looks = Calls()

    def cancelled():
        looks()
        if looks.made == 3:
            raise NodeCancelledError("stop")

    return cancelled


def test_outage_of_redis_is_waited_out(redis_server, tmp_path_factory):
    """A server that comes back in time is used; until then nobody writes."""
    folder = tmp_path_factory.mktemp("r")
    server = type(redis_server)(redis_server.binary, folder)
    with redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0)) as client:
        warming, looks = Warming(client), Calls()

        def cancelled():
            looks()
            if looks.made == 3:
                server.start()

        try:
            assert ensure(warming, cancelled=cancelled) == "written"
            assert looks.made >= 3
        finally:
            server.stop()


def test_redis_that_stays_away_costs_the_warming_only(tmp_path):
    """No error: the answer is to go on without, and what was found is not noted."""
    path = str(tmp_path / "none")
    with redis.Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0)) as client:
        warming, calls = Warming(client), Calls()
        assert ensure(warming, calls, seconds=0.2) == "unavailable"
        warming.touch(PREFIX)
        warming.forget(PREFIX)
        assert calls.made == 0


def test_redis_that_refuses_is_an_error_of_ours(warming, redis_client):
    """What no waiting mends is told."""
    redis_client.set(PREFIX.key, "not ours", px=60_000)
    with pytest.raises(UnexpectedAnswerError):
        ensure(warming)


def test_scripts_survive_a_flush(warming, redis_client):
    """A server that forgot them is given them again."""
    redis_client.script_flush()
    assert ensure(warming) == "written"


def test_wrong_arguments_are_refused(redis_client, warming):
    """Each names what is wrong."""
    for wrong in (
        {"model": "m}:x"}, {"prefix_hash": "x:y"}, {"prefix_hash": "ab" * 32 + "\n"},
        {"tokens": -1}, {"ttl": "2h"},
    ):  # fmt: skip
        with pytest.raises((InvalidIdError, InvalidInputError)):
            replace(PREFIX, **wrong)
    with pytest.raises(PriceNotFoundError):
        ensure(warming, prefix=replace(PREFIX, model="unheard-of"))
    for make in (
        lambda: Warming(redis_client, lease_seconds=0), lambda: WarmingPolicy(tries=0),
        lambda: WarmingPolicy(margin_seconds=300), lambda: WarmingPolicy(rest_seconds=-1),
        lambda: WarmingPolicy({"5m": 300}), lambda: warming.touch(PREFIX, seconds_ago=-1),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            make()


def test_prefix_says_where_redis_keeps_it():
    """Each part that makes an entry is in its key, in the model's slot."""
    assert Prefix("m", "0123456789abcdef", 1, "1h").key == "models:{m}:warm:1h:0123456789abcdef"
