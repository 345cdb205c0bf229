"""Circuit breakers: when a model's opens, who probes it, and a handoff's that stays open."""

from __future__ import annotations

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from baton.agents import breakers
from baton.agents.breakers import BreakerPolicy, HandoffBreakers, ModelBreakers
from baton.agents.calls import Call
from baton.errors import InvalidIdError, InvalidInputError, StoreUnavailableError
from breaker_processes import ask_once
from store_processes import received, start
from virtual_clock import VirtualClock, on_virtual_clock

POLICY = BreakerPolicy(
    failures=3, of_calls=6, window_seconds=10, open_seconds=5, longest_open_seconds=15,
    probe_seconds=30,
)  # fmt: skip


@pytest.fixture
def clock(monkeypatch, redis_client):
    for name in ("_ASK", "_REPORT"):
        monkeypatch.setattr(breakers, name, on_virtual_clock(getattr(breakers, name)))
    return VirtualClock(redis_client)


@pytest.fixture
def models(redis_client):
    return ModelBreakers(redis_client, POLICY)


@pytest.fixture
def handoffs(redis_client):
    return HandoffBreakers(redis_client)


def new_call(model="m"):
    return Call(model, "h", 1)


def end(models, *ends):
    """Calls that end so, one after the other."""
    for each in ends:
        models.report(new_call(), each)


def open_up(models):
    end(models, *["overloaded"] * POLICY.failures)
    assert models.ask(new_call()) > 0


def test_breaker_opens_at_so_many_failures_for_all(clock, models, redis_client):
    """The third failure opens it for every process and handoff, and for no other model."""
    end(models, "overloaded", "ok", "overloaded", "unknown")
    assert models.ask(new_call()) == 0
    end(models, "overloaded")
    assert ModelBreakers(redis_client, POLICY).ask(new_call()) == 5.0
    assert models.ask(new_call("other")) == 0


def test_failures_out_of_the_window_are_forgotten(clock, models):
    """Three in eleven seconds are not three in ten."""
    end(models, "overloaded", "overloaded")
    clock.pass_seconds(10.1)
    end(models, "overloaded")
    assert models.ask(new_call()) == 0


def test_few_failures_among_many_calls_open_nothing(clock, models):
    """A busy model may fail now and then: only the last calls count."""
    for ended in ("overloaded", "ok", "ok") * 20:
        end(models, ended)
        clock.pass_seconds(0.01)
    assert models.ask(new_call()) == 0


def test_report_made_twice_counts_once(clock, models):
    """A lost reply is no second failure."""
    failed = new_call()
    for _ in range(POLICY.failures):
        models.report(failed, "overloaded")
    assert models.ask(new_call()) == 0


def test_one_call_at_a_time_is_the_probe(clock, models):
    """After its time the first to ask goes, and goes again if asked again; others look later."""
    open_up(models)
    clock.pass_seconds(5.1)
    probe = new_call()
    assert [models.ask(probe), models.ask(new_call()), models.ask(probe)] == [0, 1.0, 0]


def test_probe_that_succeeds_closes_the_breaker(clock, models):
    """All go again, and the failures before are forgotten."""
    open_up(models)
    clock.pass_seconds(5.1)
    probe = new_call()
    models.ask(probe)
    models.report(probe, "ok")
    models.report(probe, "ok")
    assert models.ask(new_call()) == 0
    end(models, "overloaded", "overloaded")
    assert models.ask(new_call()) == 0


def test_probe_that_fails_keeps_it_open_for_twice_as_long(clock, models):
    """5, 10, 15 (the bound), 15 s; after a success 5 s again."""
    open_up(models)
    waits = []
    for _ in range(4):
        waits.append(models.ask(new_call()))
        clock.pass_seconds(waits[-1] + 0.01)
        probe = new_call()
        assert models.ask(probe) == 0
        models.report(probe, "overloaded")
        models.report(probe, "overloaded")
    assert waits == [5, 10, 15, 15]
    clock.pass_seconds(15.1)
    probe = new_call()
    models.ask(probe)
    models.report(probe, "ok")
    open_up(models)
    assert models.ask(new_call()) == 5


def test_probe_that_says_nothing_leaves_its_place(clock, models):
    """A cancelled probe neither closes nor prolongs; the next to ask is one."""
    open_up(models)
    clock.pass_seconds(5.1)
    cancelled, probe = new_call(), new_call()
    assert models.ask(cancelled) == 0
    models.report(cancelled, "unknown")
    assert [models.ask(probe), models.ask(cancelled)] == [0, 1.0]


def test_probe_of_a_process_that_died_is_replaced(clock, models):
    """After its time another may be one; the late report of the first says nothing."""
    open_up(models)
    clock.pass_seconds(5.1)
    dead, probe = new_call(), new_call()
    models.ask(dead)
    clock.pass_seconds(29)
    assert models.ask(probe) > 0
    clock.pass_seconds(1.1)
    assert models.ask(probe) == 0
    models.report(dead, "ok")
    assert models.ask(new_call()) > 0


def test_calls_sent_before_it_opened_say_nothing(clock, models):
    """An old stream that ends well is no sign of life, nor is its failure a new one."""
    open_up(models)
    end(models, "ok", "overloaded", "overloaded", "overloaded")
    assert models.ask(new_call()) == 5.0


def test_clock_set_back_keeps_it_open_no_longer_than_ever(clock, models):
    """An hour back, and it is tried again within the longest time."""
    open_up(models)
    clock.pass_seconds(-3600)
    assert models.ask(new_call()) == POLICY.longest_open_seconds


def test_failures_of_a_clock_since_set_back_are_forgotten(clock, models):
    """What seems to lie ahead is of no window."""
    end(models, "overloaded", "overloaded")
    clock.pass_seconds(-3600)
    end(models, "overloaded")
    assert models.ask(new_call()) == 0


def test_processes_that_ask_at_once_send_one_probe(redis_server, redis_client):
    """Of eight, one goes."""
    policy = BreakerPolicy(failures=1, of_calls=1, open_seconds=0.01, probe_seconds=600)
    models = ModelBreakers(redis_client, policy)
    models.report(new_call(), "overloaded")
    started = [start(ask_once, redis_server.url, policy) for _ in range(8)]
    waits = sorted(wait for _, pipe in started for wait in received(pipe))
    for process, _ in started:
        process.join()
    assert waits[0] == 0
    assert min(waits[1:]) > 0


def test_end_that_is_none_is_refused(models):
    """A misspelt end must not count as a success."""
    with pytest.raises(InvalidInputError):
        models.report(new_call(), "overload")


def test_handoff_stays_stopped_with_its_first_reason_until_closed(handoffs):
    """Quota and auth errors stop one handoff and no other; time does not mend them."""
    assert handoffs.find("h1") is None
    handoffs.open("h1", "spend limit reached")
    handoffs.open("h1", "another")
    assert handoffs.find("h1") == "spend limit reached"
    assert handoffs.find("h2") is None
    handoffs.close("h1")
    handoffs.close("h1")
    assert handoffs.find("h1") is None


def test_reason_is_bounded_and_storable(handoffs):
    """What an API says may be long, and no text at all."""
    handoffs.open("h", "\ud800" + "x" * 10_000)
    assert handoffs.find("h") == "?" + "x" * 499


def test_scripts_survive_a_flush(redis_client, models):
    """A server that forgot them is given them again."""
    redis_client.script_flush()
    open_up(models)


def test_bad_ids_and_a_silent_redis_are_our_own_errors(tmp_path, handoffs):
    """Every method raises them."""
    with pytest.raises(InvalidIdError):
        handoffs.find("h}:x")
    path = str(tmp_path / "none")
    with redis.Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0)) as client:
        models, away = ModelBreakers(client), HandoffBreakers(client)
        for use in (
            lambda: models.ask(new_call()), lambda: models.report(new_call(), "ok"),
            lambda: away.open("h", "x"), lambda: away.find("h"), lambda: away.close("h"),
        ):  # fmt: skip
            with pytest.raises(StoreUnavailableError):
                use()
