"""Threads that wait for one thing: who looks, who is told, and what is left behind."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from baton.agents.shared_looks import SharedLooks
from waiting import until

FAR = 3600.0


def wait_in(looks, key, look, entered=lambda: None):
    """What a thread that waits comes out with."""
    with looks.room(key) as room:
        entered()
        return until(lambda: room.wait(look, time.monotonic() + FAR), what="an answer")


def never():
    raise AssertionError("no look was due")


def test_all_who_wait_are_told_what_one_found():
    """None of them looks for itself, and who waits for another thing waits on."""
    looks, inside = SharedLooks[str](FAR), threading.Semaphore(0)
    with ThreadPoolExecutor(9) as threads:
        waiting = [threads.submit(wait_in, looks, "a", never, inside.release) for _ in range(8)]
        other = threads.submit(wait_in, looks, "b", never, inside.release)
        for _ in range(9):
            inside.acquire()
        looks.tell("a", "found")
        assert [each.result() for each in waiting] == ["found"] * 8
        assert not other.done()
        looks.tell("b", "else")
        assert other.result() == "else"


def test_one_of_those_who_wait_looks_when_hurried():
    """It comes out with what it found; the others wait on until they are told."""
    looks, inside, looked = SharedLooks[str](FAR), threading.Semaphore(0), []

    def look():
        looked.append(1)
        return "mine"

    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(wait_in, looks, "a", look, inside.release) for _ in range(4)]
        for _ in range(4):
            inside.acquire()
        looks.hurry("a")
        until(lambda: looked, what="a look")
        looks.tell("a", "told")
        assert sorted(each.result() for each in waiting) == ["mine", "told", "told", "told"]
    assert looked == [1]


def test_look_that_finds_nothing_leaves_the_next_to_a_later_time():
    """One look for each space of time, however many wait."""
    looks = SharedLooks[str](FAR)
    with looks.room("a") as room:
        looks.hurry("a")
        assert room.wait(lambda: None, time.monotonic() + FAR) is None
        assert room.wait(never, time.monotonic()) is None


def test_wait_ends_at_its_deadline():
    """With nothing found, and no look made."""
    with SharedLooks[str](FAR).room("a") as room:
        assert room.wait(never, time.monotonic() + 0.01) is None


def test_room_that_is_empty_is_gone():
    """Of what was once waited for nothing is kept, and nobody is told of an earlier wait."""
    looks = SharedLooks[str](FAR)
    with looks.room("a"), looks.room("a"):
        looks.tell("a", "old")
        with looks.room("a") as room:
            assert room.wait(never, time.monotonic()) is None
    looks.tell("a", "to nobody")
    looks.hurry("a")
    assert looks._rooms == {}
