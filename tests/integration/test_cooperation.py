"""Which agent may hand to which: every pair of roles, near and far in the tree."""

from __future__ import annotations

import itertools

import pytest

from baton.errors import AgentCompatibilityError, InvalidIdError, InvalidInputError
from baton.swarm.cooperation import (
    DEFAULT_RULES,
    DEFAULT_TABLE,
    CooperationTable,
    can_agents_cooperate,
    require_cooperation,
)
from baton.swarm.registry import AgentRegistry

ROLES = ("sonnet_coordinator", "haiku_worker", "archive_agent", "monitor", "frontend")
NOBODY = {"archive_agent", "monitor"}


@pytest.fixture
def registry(redis_client):
    return AgentRegistry(redis_client)


@pytest.fixture
def add(registry):
    """Registers agents by role, below a parent."""

    def register(role, parent=None, session=None):
        agent = registry.register(role, context_capacity=1, parent_id=parent, session_id=session)
        return agent.agent_id

    return register


def expected(from_role, to_role, where):
    """The issue's rules, written another way than the table."""
    if from_role == "sonnet_coordinator":
        return True
    if from_role in NOBODY or to_role in NOBODY:
        return False
    if from_role == "haiku_worker":
        near = {"parent"} if to_role == "sonnet_coordinator" else {"parent", "sibling", "child"}
        return where in near
    return where != "stranger"  # roles of the user's own: within their session


PLACES = ("parent", "sibling", "child", "other_tree", "stranger")


@pytest.mark.parametrize(
    ("from_role", "to_role"), list(itertools.product(ROLES, repeat=2)), ids="-".join
)
def test_pair_of_roles_cooperates_as_declared(add, registry, from_role, to_role):
    """Above, beside and below the sender; in another tree of its session; in another session."""
    found = {}
    for where in PLACES:
        session = f"session_{where}"
        parent = add(to_role if where == "parent" else "sonnet_coordinator", session=session)
        sender = add(from_role, parent)
        receiver = {
            "parent": lambda parent=parent: parent,
            "sibling": lambda parent=parent: add(to_role, parent),
            "child": lambda sender=sender: add(to_role, sender),
            "other_tree": lambda session=session: add(to_role, session=session),
            "stranger": lambda: add(to_role),
        }[where]()
        found[where] = can_agents_cooperate(sender, receiver, registry)
    assert found == {where: expected(from_role, to_role, where) for where in PLACES}


@pytest.mark.parametrize(
    ("from_role", "to_role"), list(itertools.product(ROLES, repeat=2)), ids="-".join
)
def test_bare_roles_are_kept_apart_by_nobody_only(registry, from_role, to_role):
    """Some agent of that role may be near enough."""
    apart = from_role in NOBODY or (from_role in {"haiku_worker", "frontend"} and to_role in NOBODY)
    assert can_agents_cooperate(from_role, to_role, registry) is not apart


def test_workers_of_a_tree_reach_each_other_at_any_depth(add, registry):
    """And any coordinator above them, though not one beside it."""
    root = add("sonnet_coordinator")
    left, right = add("sonnet_coordinator", root), add("sonnet_coordinator", root)
    worker, far = add("haiku_worker", left), add("haiku_worker", right)
    assert can_agents_cooperate(worker, far, registry)
    assert can_agents_cooperate(worker, left, registry)
    assert can_agents_cooperate(worker, root, registry)
    assert not can_agents_cooperate(worker, right, registry)


def test_tree_outlives_a_parent_that_was_removed(add, registry, redis_client):
    """Its children still name it."""
    parent = add("sonnet_coordinator")
    one, other = add("haiku_worker", parent), add("haiku_worker", parent)
    redis_client.zrem("agents:index", parent)
    assert can_agents_cooperate(one, other, registry)


def test_refusal_says_who_and_why(add, registry):
    """The rule, in words."""
    worker = add("haiku_worker", add("sonnet_coordinator"))
    stranger = add("haiku_worker")
    with pytest.raises(AgentCompatibilityError) as refused:
        require_cooperation(worker, stranger, registry)
    assert str(refused.value) == (
        f"{worker} may not hand over to {stranger}: a haiku_worker hands over to agents of its "
        "own tree, where it is a haiku_worker."
    )
    with pytest.raises(AgentCompatibilityError, match="a monitor hands over to nobody of that"):
        require_cooperation("monitor", worker, registry)


def test_agent_that_is_gone_is_no_role(add, registry):
    """An id that nobody has any more must not pass as a role that anybody may have."""
    with pytest.raises(AgentCompatibilityError, match="haiku_worker_0a1b2c3d is not registered"):
        require_cooperation(add("sonnet_coordinator"), "haiku_worker_0a1b2c3d", registry)


def test_name_that_is_no_id_is_refused(registry):
    """Before it comes near a key."""
    with pytest.raises(InvalidIdError):
        can_agents_cooperate("monitor", "a}b", registry)


def test_table_is_extended_by_rules_of_ones_own(add, registry):
    """The nearest rule counts: both roles, then the sender's, then the receiver's, then any."""
    table = DEFAULT_TABLE.extended(
        {("frontend", "monitor"): "anyone", ("frontend", "*"): "own_tree"}
    )
    front, back = add("frontend", session="session_1"), add("backend", session="session_1")
    assert can_agents_cooperate(front, back, registry)
    assert not can_agents_cooperate(front, back, registry, table)
    assert can_agents_cooperate(front, add("monitor"), registry, table)
    assert not can_agents_cooperate(back, add("monitor"), registry, table)
    assert DEFAULT_TABLE.rules == DEFAULT_RULES


def test_nobody_is_above_itself(add, registry):
    """Where only those above may be handed to."""
    table = CooperationTable({("frontend", "frontend"): "ancestor"})
    parent = add("frontend")
    child = add("frontend", parent)
    assert can_agents_cooperate(child, parent, registry, table)
    assert not can_agents_cooperate(child, child, registry, table)
    assert not can_agents_cooperate(parent, child, registry, table)


def test_table_lets_nobody_whom_it_does_not_name(add, registry):
    """An empty table is closed."""
    assert not can_agents_cooperate("a", "b", registry, CooperationTable({}))


def test_table_is_frozen():
    """What is declared holds for the life of the process."""
    rules = {("a", "b"): "anyone"}
    table = CooperationTable(rules)
    rules["a", "c"] = "anyone"
    assert table.reach("a", "c") == "nobody"
    with pytest.raises(TypeError):
        table.rules["a", "c"] = "anyone"


@pytest.mark.parametrize(
    "rules", [{("a", "b"): "everyone"}, {("a b", "*"): "anyone"}], ids=["reach", "role"]
)
def test_wrong_rule_is_refused(rules):
    """When the table is made."""
    with pytest.raises(InvalidInputError):
        CooperationTable(rules)
