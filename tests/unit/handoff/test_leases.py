"""The lease keeper: when it renews, whom it stops, and what it does about those that hang."""

from __future__ import annotations

import threading
import time

import pytest

from baton.handoff.leases import Lease, LeaseKeeper
from waiting import until


class Renewals:
    """Stands where the tree would; notes each batch and answers as told."""

    def __init__(self, answer="held"):
        self.answer = answer
        self.batches = []

    def renew(self, leases):
        self.batches.append([fence for _, _, fence in leases])
        return [self.answer for _ in leases]


@pytest.fixture
def make_keeper():
    keepers = []

    def make(tree, **options):
        keepers.append(LeaseKeeper(tree, **{"max_stuck": 100, "on_stuck": lambda: None, **options}))
        return keepers[-1]

    yield make
    for keeper in keepers:
        keeper.close()


def lease(fence, lease_seconds=0.06, deadline=float("inf"), stop=None, overrun=None):
    return Lease(
        "h", "0", fence, lease_seconds, deadline, stop or (lambda: None), overrun or (lambda: None)
    )


def test_all_leases_are_renewed_in_one_batch(make_keeper):
    """One round trip serves the process."""
    tree = Renewals()
    keeper = make_keeper(tree)
    for fence in (1, 2, 3):
        keeper.hold(lease(fence))
    until(lambda: [1, 2, 3] in [sorted(batch) for batch in tree.batches])
    assert (keeper.running, keeper.stuck) == (3, 0)


def test_a_new_lease_renews_none(make_keeper):
    """A process that starts many short nodes does not renew all its leases at each."""
    tree = Renewals()
    keeper = make_keeper(tree)
    for fence in range(200):
        keeper.hold(lease(fence, lease_seconds=600))
    quick = lease(999)
    keeper.hold(quick)
    until(lambda: tree.batches)
    assert all(999 in batch for batch in tree.batches)


def test_a_released_lease_is_renewed_no_more(make_keeper):
    """Its runner has returned."""
    tree = Renewals()
    keeper = make_keeper(tree)
    first, second = lease(1), lease(2)
    keeper.hold(first)
    keeper.hold(second)
    until(lambda: any(1 in batch for batch in tree.batches))
    keeper.release(first)
    seen = len(tree.batches)
    until(lambda: len(tree.batches) > seen + 2)
    assert 1 not in tree.batches[-1]
    assert keeper.running == 1


@pytest.mark.parametrize("answer", ["lost", "cancelled"])
def test_a_lease_that_is_not_held_stops_its_runner(make_keeper, answer):
    """Lost or cancelled: there is nothing to go on for."""
    stopped = threading.Event()
    keeper = make_keeper(Renewals(answer))
    keeper.hold(lease(1, stop=stopped.set))
    assert stopped.wait(10)


def test_an_overrun_is_recorded_and_counted_until_its_runner_returns(make_keeper):
    """It is stopped, recorded once, renewed no more, and stuck."""
    told, recorded, stopped = [], [], threading.Event()
    tree = Renewals()
    keeper = make_keeper(tree, max_stuck=2, on_stuck=lambda: told.append(1))
    soon = time.monotonic() + 0.05
    hung = [
        lease(fence, deadline=soon, stop=stopped.set, overrun=lambda: recorded.append(1))
        for fence in (1, 2, 3)
    ]
    keeper.hold(hung[0])
    until(lambda: keeper.stuck == 1 and recorded == [1])
    assert stopped.is_set()
    assert (told, keeper.running) == ([], 0)
    keeper.hold(hung[1])
    until(lambda: told == [1])
    keeper.hold(hung[2])
    until(lambda: len(recorded) == 3)
    keeper.hold(lease(9))
    until(lambda: [9] in tree.batches)
    assert told == [1]
    for one in hung:
        keeper.release(one)
    assert (keeper.stuck, keeper.running) == (0, 1)


def test_an_overrun_that_cannot_be_recorded_holds_up_no_renewal(make_keeper):
    """Redis or the broker may take a minute; the other leases cannot."""
    release = threading.Event()
    tree = Renewals()
    keeper = make_keeper(tree)
    keeper.hold(lease(1, deadline=time.monotonic(), overrun=lambda: release.wait(30)))
    until(lambda: keeper.stuck == 1)
    keeper.hold(lease(2))
    until(lambda: [2] in tree.batches)
    release.set()
