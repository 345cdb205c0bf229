"""The keys of a handoff share its slot, and no id can leave its place in them."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from baton.errors import InvalidIdError
from baton.handoff.keys import HandoffKeys


def test_keys_of_a_handoff_share_one_slot():
    """Scripts may touch them all, on a cluster too."""
    keys = HandoffKeys.of("handoff_1")
    names = [keys.base, keys.plan, keys.nodes, keys.due, keys.events, keys.merged]
    names += [keys.result("0.1"), keys.draft("0"), keys.staging("3.2", 4, "plan")]
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("bad", ["", "*", "a}b", "{a}", "a:b", "a b", "a\n", "-a", "x" * 129, None])
def test_keys_refuse_ids_that_could_leave_their_place(bad):
    """Before any key is built."""
    with pytest.raises(InvalidIdError):
        HandoffKeys.of(bad)


@pytest.mark.parametrize("bad", ["", "01", "0.", ".0", "a", "0:then", "1000000", "0.0\n", None, 0])
def test_node_ids_are_slot_paths(bad):
    """Anything else is refused."""
    for build in (HandoffKeys.of("h").result, HandoffKeys.of("h").draft):
        with pytest.raises(InvalidIdError):
            build(bad)
