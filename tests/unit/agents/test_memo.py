"""The memo: one build per key however many ask, bounded, and no value for a failed build."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from baton.agents.memo import Memo


def test_memo_builds_once_for_all_that_ask_at_once():
    """Twenty threads that ask for one key get one object from one build."""
    memo, built, asked = Memo(100), [], threading.Barrier(20)

    def build():
        built.append(object())
        return built[-1]

    def ask(_):
        asked.wait()
        return memo.get("key", 1, build)

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(ask, range(20))) == set(built)
    assert len(built) == 1


def test_memo_drops_the_least_recently_used():
    """Beyond its bound the oldest use goes; what was used since stays."""
    memo = Memo(2)
    for key in ("a", "b", "a", "c"):
        memo.get(key, 1, lambda key=key: key.upper())
    assert memo.get("a", 1, lambda: "new") == "A"
    assert memo.get("b", 1, lambda: "new") == "new"


def test_memo_keeps_a_value_above_its_bound_until_the_next():
    """One value too large for the bound is still shared."""
    memo = Memo(2)
    assert memo.get("large", 100, lambda: "first") == "first"
    assert memo.get("large", 100, lambda: "second") == "first"
    memo.get("small", 1, lambda: "")
    assert memo.get("large", 100, lambda: "third") == "third"


def test_memo_forgets_a_build_that_failed():
    """The error reaches the caller, and the next caller builds again."""
    memo = Memo(10)
    with pytest.raises(ZeroDivisionError):
        memo.get("key", 1, lambda: 1 // 0)
    assert memo.get("key", 1, lambda: 7) == 7
