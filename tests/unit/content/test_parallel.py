import subprocess
import sys
import threading

import pytest

from baton.content import parallel
from baton.content.parallel import iterate_parallel, map_parallel, run_both

LARGE = 1 << 30


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    """Four cores, whatever this machine has, in a pool of the test's own."""
    parallel._pool.cache_clear()
    monkeypatch.setattr(parallel, "_cores", lambda: 4)
    yield
    parallel._pool().shutdown()
    parallel._pool.cache_clear()


@pytest.mark.parametrize("size_bytes", [0, LARGE])
@pytest.mark.parametrize("count", [0, 1, 2, 1_000])
def test_map_keeps_the_order(size_bytes, count):
    """Inline or shared, results stand where their items stood."""
    items = list(range(count))
    assert map_parallel(str, items, size_bytes=size_bytes) == [str(item) for item in items]


def test_map_uses_several_threads_for_large_work_only():
    """Four items that wait for each other finish, which needs four threads; small work has one."""
    barrier = threading.Barrier(4, timeout=20)
    map_parallel(lambda _: barrier.wait(), range(4), size_bytes=LARGE)
    threads = map_parallel(lambda _: threading.get_ident(), range(4), size_bytes=0)
    assert set(threads) == {threading.get_ident()}


@pytest.mark.parametrize("size_bytes", [0, LARGE])
def test_map_raises_the_error_of_the_first_failing_item(size_bytes):
    """However threads race, it is the same error each time."""

    def fail(item):
        if item >= 3:
            raise ValueError(item)

    for _ in range(50):
        with pytest.raises(ValueError, match=r"^3$"):
            map_parallel(fail, range(100), size_bytes=size_bytes)


def test_iterate_gives_all_results_before_the_failing_item():
    """An error waits for its turn."""
    seen = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(iterate_parallel(lambda item: 6 // (3 - item), range(9), size_bytes=LARGE))
    assert seen == [2, 3, 6]


def test_iterate_leaves_nothing_running_when_abandoned():
    """Closing the iterator withdraws what has not begun."""
    begun = []
    results = iterate_parallel(begun.append, range(100_000), size_bytes=LARGE)
    next(results)
    results.close()
    count = len(begun)
    map_parallel(str, range(100), size_bytes=LARGE)
    assert len(begun) == count


def test_calls_may_nest_deeper_than_the_pool():
    """Each caller works itself, so a full pool is never waited for."""

    def nest(depth):
        if depth == 0:
            return 1
        return sum(map_parallel(nest, [depth - 1] * 3, size_bytes=LARGE))

    assert nest(6) == 3**6


@pytest.mark.parametrize("size_bytes", [0, LARGE])
def test_run_both_gives_both_results(size_bytes):
    """The one put aside comes first."""
    assert run_both(lambda: "aside", lambda: "here", size_bytes=size_bytes) == ("aside", "here")


@pytest.mark.parametrize("size_bytes", [0, LARGE])
@pytest.mark.parametrize("aside_fails", [False, True])
def test_run_both_raises_the_error_of_here_first(size_bytes, aside_fails):
    """With two failures, the error does not depend on a race."""

    def fail(name):
        raise RuntimeError(name)

    aside = (lambda: fail("aside")) if aside_fails else (lambda: None)
    with pytest.raises(RuntimeError, match="here"):
        run_both(aside, lambda: fail("here"), size_bytes=size_bytes)
    with pytest.raises(RuntimeError, match="aside"):
        run_both(lambda: fail("aside"), lambda: None, size_bytes=size_bytes)


FORKING = """
import os, threading
from baton.content import parallel
parallel._cores = lambda: 4
def meet():
    barrier = threading.Barrier(4, timeout=20)
    arrivals = parallel.map_parallel(lambda _: barrier.wait(), range(4), size_bytes=1 << 30)
    return sorted(arrivals) == [0, 1, 2, 3]
assert meet()
child = os.fork()
if child == 0:
    os._exit(0 if meet() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert meet()
"""


def test_map_works_in_a_forked_child():
    """A child of a process whose pool was in use makes its own threads."""
    # From 3.12 on Python warns of any fork beside threads, which is what this test is about.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


AT_EXIT = """
import atexit
from baton.content import parallel
parallel._cores = lambda: 4
parallel.map_parallel(str, range(9), size_bytes=1 << 30)
atexit.register(lambda: print(parallel.map_parallel(str, range(3), size_bytes=1 << 30)))
"""


def test_map_works_while_the_interpreter_shuts_down():
    """Where no thread can be had, the caller does all of it."""
    command = [sys.executable, "-c", AT_EXIT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("['0', '1', '2']\n", "")
