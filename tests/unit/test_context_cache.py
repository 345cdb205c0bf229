"""The context cache: bounded in bytes, one load at a time, failures neither shared nor kept."""

from __future__ import annotations

import subprocess
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


@pytest.mark.parametrize("failure", [ValueError("broken"), KeyboardInterrupt()])
def test_cache_gives_a_failure_to_its_own_caller_and_the_others_load(failure):
    """Equal content of two sessions has one key; damage to one session is not the other's."""
    cache = ContextCache(1 << 20)
    loading, failing = threading.Event(), threading.Event()
    raised = []

    def fail():
        loading.set()
        failing.wait(10)
        raise failure

    def load_damaged():
        with pytest.raises(type(failure)) as caught:
            cache.get_or_load("k", fail)
        raised.append(caught.value)

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(load_damaged)
        loading.wait(10)
        others = [pool.submit(cache.get_or_load, "k", lambda: "fine") for _ in range(4)]
        failing.set()
        assert {other.result() for other in others} == {"fine"}
        first.result()
    assert raised == [failure]
    assert cache.get_or_load("k", lambda: pytest.fail("k is cached")) == "fine"
    assert cache.stats().size_bytes == sys.getsizeof("fine")


def test_cache_does_not_keep_a_failure():
    cache = ContextCache(1 << 20)

    def fail():
        raise ValueError("broken")

    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            cache.get_or_load("k", fail)
    assert cache.get_or_load("k", lambda: "fine") == "fine"


FORKING = """
import os, signal, threading
from baton.store.cache import ContextCache
from baton.store.manifests import Manifests
cache, manifests = ContextCache(1 << 20), Manifests(None)
cache.get_or_load("kept", lambda: "text")
gate, loading = threading.Event(), threading.Event()
def load():
    loading.set()
    gate.wait(30)
    return "the parent's"
parents = threading.Thread(target=cache.get_or_load, args=("k", load))
parents.start()
loading.wait(30)
with cache._lock, manifests._lock:
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        assert cache.get_or_load("k", lambda: "the child's") == "the child's"
        assert cache.get_or_load("kept", lambda: "again") == "text"
        assert cache.stats().entries == 2
        assert manifests.find_kept("s", "1.0.0") is None
        os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
gate.set()
parents.join()
assert cache.get_or_load("k", lambda: "again") == "the parent's"
"""


def test_cache_works_in_a_child_forked_amid_a_load():
    """The child waits for no load and no lock of its parent, and keeps the texts."""
    # From 3.12 on Python warns of any fork beside threads, which is what this test is about.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_cache_of_zero_bytes_keeps_nothing():
    cache = ContextCache(0)
    assert cache.get_or_load("a", lambda: "x") == "x"
    assert cache.stats().entries == 0


def test_cache_bound_below_zero_is_refused():
    with pytest.raises(InvalidInputError, match="max_bytes"):
        ContextCache(-1)
