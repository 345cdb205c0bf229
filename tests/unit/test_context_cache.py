"""The context cache: bounded in bytes, one load at a time, failures shared and not kept."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from baton.errors import InvalidInputError
from baton.store.cache import ContextCache


def test_cache_drops_the_least_recently_used_beyond_its_bytes():
    size = sys.getsizeof("x" * 1000)
    cache = ContextCache(3 * size)
    for key in "abc":
        cache.get_or_load(key, lambda: "x" * 1000)
    cache.get_or_load("a", lambda: pytest.fail("a is cached"))
    cache.get_or_load("d", lambda: "x" * 1000)
    assert cache.stats().entries == 3
    assert cache.stats().size_bytes == 3 * size
    loaded = []
    cache.get_or_load("b", lambda: loaded.append(1) or "x" * 1000)
    assert loaded == [1]
    cache.get_or_load("a", lambda: pytest.fail("a is cached"))


def test_cache_hands_out_but_does_not_keep_what_is_larger_than_itself():
    cache = ContextCache(100)
    assert cache.get_or_load("a", lambda: "x" * 1000) == "x" * 1000
    assert cache.stats().entries == 0


def test_cache_loads_once_for_all_that_wait():
    cache = ContextCache(1 << 20)
    calls = []
    gate = threading.Event()

    def load():
        calls.append(1)
        gate.wait(10)
        return "text"

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(cache.get_or_load, "k", load) for _ in range(8)]
        gate.set()
        assert {w.result() for w in waiting} == {"text"}
    assert len(calls) == 1


def test_cache_gives_a_failure_to_all_that_wait_and_tries_again_later():
    cache = ContextCache(1 << 20)

    def fail():
        raise ValueError("broken")

    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            cache.get_or_load("k", fail)
    assert cache.get_or_load("k", lambda: "fine") == "fine"


def test_cache_of_zero_bytes_keeps_nothing():
    cache = ContextCache(0)
    assert cache.get_or_load("a", lambda: "x") == "x"
    assert cache.stats().entries == 0


def test_cache_bound_below_zero_is_refused():
    with pytest.raises(InvalidInputError, match="max_bytes"):
        ContextCache(-1)
