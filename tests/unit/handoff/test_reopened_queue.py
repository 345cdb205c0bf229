"""What a retry queues: neighbours as one range."""

from __future__ import annotations

from baton.handoff.reopening import queue_of


def test_queue_has_neighbours_of_one_parent_as_one_range():
    """In the order in which they go."""
    waiting = ["0", "1", "3", "2.7", "2.8", "2.9", "2.9.0", "10", "11"]
    ranges = [":0:1", ":3:3", "2.:7:9", "2.9.:0:0", ":10:11"]
    assert list(queue_of(waiting)) == ranges


def test_queue_of_nothing_is_empty():
    assert list(queue_of([])) == []
