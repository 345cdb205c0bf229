"""Validation of handoff packages: each precondition true and stale, the token buffer, the roles."""

from __future__ import annotations

from decimal import Decimal

import pytest

from baton.agents.budget import Budget
from baton.agents.expander import Expander
from baton.agents.preconditions import KINDS
from baton.errors import AgentCompatibilityError, StaleHandoffError, StoreUnavailableError
from baton.handoff.checks import PackageChecks
from baton.handoff.keys import HandoffKeys
from baton.handoff.validation import BUFFER_TOKENS, HandoffValidator
from baton.store.contexts import ContextStore
from baton.swarm.locks import Locks
from baton.swarm.registry import AgentRegistry
from handoff_packages import package

SESSION = "session_1"
AGENT = "sonnet_1"
LONG = "".join(
    f"## Part {number}\n\nThe decision about part {number} is to keep it. Its tests pass.\n\n"
    for number in range(2_000)
)


@pytest.fixture
def store(redis_client):
    store = ContextStore(redis_client)
    store.put(SESSION, "The shared context.\n", agent_id=AGENT)
    yield store
    store.close()


@pytest.fixture
def checks(redis_client, store):
    return PackageChecks(redis_client, store)


@pytest.fixture
def validator(store, checks):
    return HandoffValidator(store, checks)


class World:
    """Makes what a precondition demands true, and untrue again."""

    def __init__(self, client, store):
        self.client = client
        self.store = store
        self.locks = Locks(client)
        self.lock = None

    def context_at_version(self):
        return {"version": "1.0.0"}

    def end_context_at_version(self):
        self.store.append(SESSION, "More.\n", agent_id=AGENT)

    def checkpoint_exists(self):
        self.store.checkpoint(SESSION, "half", agent_id=AGENT, checkpoint_id="cp_001")
        return {"checkpoint_id": "cp_001"}

    def end_checkpoint_exists(self):
        self.store.delete(SESSION, agent_id=AGENT)
        self.store.put(SESSION, "Another context.\n", agent_id=AGENT)

    def lock_held(self):
        self.lock = self.locks.acquire(SESSION, "build", agent_id=AGENT)
        return {"name": "build", "agent_id": AGENT, "fence": self.lock.fence}

    def end_lock_held(self):
        self.locks.release(self.lock)

    def budget_left(self):
        self._budget(cap_tokens=1_000, spent_tokens=300, held_tokens=200)
        return {"tokens": 500, "handoff_id": "handoff_0"}

    def end_budget_left(self):
        self._budget(cap_tokens=1_000, spent_tokens=300, held_tokens=201)

    def not_after(self):
        return {"at": "2999-01-01T00:00:00Z"}

    def end_not_after(self):
        """Time passes: the test moves the instant instead."""

    def _budget(self, **fields):
        keys = HandoffKeys.of("handoff_0")
        self.client.hset(keys.base, "state", "running")
        self.client.hset(keys.budget, mapping=fields)
        self.client.pexpire(keys.base, 60_000)
        self.client.pexpire(keys.budget, 60_000)


@pytest.fixture
def world(redis_client, store):
    return World(redis_client, store)


STALE = {
    "context_at_version": "session session_1 is at 1.0.1, not at 1.0.0",
    "checkpoint_exists": "session session_1 has no checkpoint cp_001",
    "lock_held": "session session_1: lock build is not held",
    "budget_left": "handoff handoff_0 has 499 tokens left, not 500",
    "not_after": "later than 2020-01-01T00:00:00.000Z",
}


@pytest.mark.parametrize("kind", KINDS)
def test_precondition_holds_until_it_is_stale(validator, world, kind):
    """Then the handoff is stopped, with the reason."""
    wanted = {"kind": kind, **getattr(world, kind)()}
    report = validator.validate(package(preconditions=[wanted]))
    assert report.ok
    assert (report.checks[-1].name, report.checks[-1].kind) == ("preconditions[0]", kind)
    getattr(world, f"end_{kind}")()
    if kind == "not_after":
        wanted["at"] = "2020-01-01T00:00:00Z"
    with pytest.raises(StaleHandoffError) as stopped:
        validator.validate(package(preconditions=[wanted]))
    ((name, reason),) = stopped.value.failed
    assert name == "preconditions[0]"
    assert STALE[kind] in reason
    assert reason in str(stopped.value)


def test_every_stale_precondition_is_reported(validator, world):
    """Not only the first; what holds is in the report beside them."""
    wanted = [{"kind": kind, **getattr(world, kind)()} for kind in KINDS]
    world.end_context_at_version()
    world.end_lock_held()
    report = validator.examine(package(preconditions=wanted))
    assert [check.holds for check in report.checks] == [
        True, True, False, True, False, True, True,
    ]  # fmt: skip
    with pytest.raises(StaleHandoffError) as stopped:
        report.require_ok()
    assert [name for name, _ in stopped.value.failed] == ["preconditions[0]", "preconditions[2]"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"agent_id": "haiku_1"}, "held by sonnet_1, not by haiku_1"),
        ({"fence": 1}, "no longer under 1"),
        ({"session_id": "session_2"}, "session session_2: lock build is not held"),
    ],
    ids=["agent", "fence", "session"],
)
def test_lock_of_another_does_not_count(validator, world, change, reason):
    """Nor one that was lost and taken again since."""
    wanted = {"kind": "lock_held", **world.lock_held(), **change}
    with pytest.raises(StaleHandoffError, match=reason):
        validator.validate(package(preconditions=[wanted]))


def test_lock_held_by_anybody_counts_where_nobody_is_named(validator, world):
    """Whatever its token."""
    world.lock_held()
    assert validator.validate(package(preconditions=[{"kind": "lock_held", "name": "build"}])).ok


def test_own_budget_is_that_which_the_handoff_is_to_get(validator):
    """As it is not recorded yet; without a cap there is always enough."""
    wanted = [{"kind": "budget_left", "tokens": 500, "usd": "0.5"}]
    handed = package(preconditions=wanted)
    assert validator.validate(handed, Budget(tokens=500, usd=Decimal("0.5"))).ok
    assert validator.validate(handed, Budget(deadline_seconds=60)).ok
    with pytest.raises(StaleHandoffError, match="has 499 tokens left, not 500"):
        validator.validate(handed, Budget(tokens=499))
    with pytest.raises(StaleHandoffError, match=r"has \$0\.49 left, not \$0\.5"):
        validator.validate(handed, Budget(usd=0.49))


def test_budget_of_a_handoff_that_is_not_there_is_stale(validator):
    """It has nothing left."""
    wanted = {"kind": "budget_left", "tokens": 1, "handoff_id": "handoff_9"}
    with pytest.raises(StaleHandoffError, match="handoff handoff_9 does not exist"):
        validator.validate(package(preconditions=[wanted]))


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "context_at_version", "version": "1.0.0"},
        {"kind": "checkpoint_exists", "checkpoint_id": "cp_001"},
    ],
    ids=["version", "checkpoint"],
)
def test_session_that_is_not_there_is_stale(validator, wanted):
    """A reason, not a crash; whatever else holds is still looked at."""
    wanted = {**wanted, "session_id": "session_9"}
    later = {"kind": "not_after", "at": "2999-01-01T00:00:00Z"}
    report = validator.examine(package(preconditions=[wanted, later]))
    assert [check.holds for check in report.checks] == [True, True, False, True]
    assert "session_9" in report.checks[2].reason


def test_context_and_last_checkpoint_of_the_package_itself_must_exist(validator, store):
    """Without being asked for: nobody could go on from what is not there."""
    handed = package(
        session_context={"version": "1.0.7"}, recovery_info={"last_checkpoint": "cp_9"}
    )
    with pytest.raises(StaleHandoffError) as stopped:
        validator.validate(handed)
    assert [name for name, _ in stopped.value.failed] == [
        "session_context", "recovery_info.last_checkpoint",
    ]  # fmt: skip
    store.checkpoint(SESSION, "half", agent_id=AGENT, checkpoint_id="cp_9")
    report = validator.validate(package(recovery_info={"last_checkpoint": "cp_9"}))
    assert report.package.session_context.version == "1.0.0"


def test_roles_that_do_not_cooperate_are_refused_before_all_else(validator):
    """With an error of its own, also where other things are stale."""
    wanted = [{"kind": "context_at_version", "version": "9.9.9"}]
    with pytest.raises(AgentCompatibilityError, match="a monitor hands over to nobody"):
        validator.validate(package(from_agent="monitor", preconditions=wanted))


def test_workers_of_two_trees_are_refused(validator, redis_client):
    """The registry's parent links decide."""
    registry = AgentRegistry(redis_client)
    one, other = (
        registry.register("haiku_worker", context_capacity=1, session_id=SESSION).agent_id
        for _ in range(2)
    )
    with pytest.raises(AgentCompatibilityError, match="agents of its own tree"):
        validator.validate(package(from_agent=one, to_agent=other))


def test_enough_buffer_leaves_the_package_as_it_is(validator, store):
    """But for the version, which is known then."""
    store.put("session_long", LONG, agent_id=AGENT)
    handed = package(
        session_context={"session_id": "session_long", "available_tokens": BUFFER_TOKENS}
    )
    report = validator.validate(handed)
    assert report.package.session_context.view is None
    assert report.package.session_context.version == "1.0.0"
    assert (report.buffer.short, report.buffer.summariser) == (False, "")


def test_context_below_the_buffer_is_condensed_and_the_original_stays(validator, store):
    """The report and the package say so, and every part can be expanded from the original."""
    store.put("session_long", LONG, agent_id=AGENT)
    handed = package(
        session_context={"session_id": "session_long", "available_tokens": BUFFER_TOKENS - 1}
    )
    report = validator.validate(handed)
    view = report.package.session_context.view
    assert view.source.session_id == "session_long"
    assert view.source.version == report.package.session_context.version == "1.0.0"
    assert view.size_tokens <= 0.3 * view.source_tokens
    assert report.buffer.short
    assert report.buffer.restored
    assert report.buffer.saved_tokens == view.saved_tokens > 0
    assert report.buffer.summariser == "extractive"
    expander = Expander(view, store.get("session_long", view.source.version).content)
    assert all(expander.expand(pointer.tag) for pointer in view.left_out)
    assert handed.session_context.view is None


def test_condensed_package_is_not_condensed_again(validator, store, checks):
    """What is condensed is always the original, never a summary."""
    store.put("session_long", LONG, agent_id=AGENT)
    handed = package(session_context={"session_id": "session_long", "available_tokens": 0})
    once = validator.validate(handed).package
    report = HandoffValidator(store, checks, buffer_tokens=99_999).validate(once)
    assert report.package == once
    assert report.buffer.summariser == ""


def test_view_of_another_text_is_refused(validator, store):
    """What comes with a package is held to the context that it names."""
    store.put("session_long", LONG, agent_id=AGENT)
    store.put("session_long", LONG[:-1], agent_id=AGENT, base_version="1.0.0")
    handed = package(session_context={"session_id": "session_long", "available_tokens": 0})
    made = validator.validate(handed).package
    view = made.session_context.view
    source = view.source.model_copy(update={"version": "1.0.0"})
    context = made.session_context.model_copy(
        update={"version": "1.0.0", "view": view.model_copy(update={"source": source})}
    )
    with pytest.raises(StaleHandoffError, match=r"session_context\.view: it is a view of sha256"):
        validator.validate(made.model_copy(update={"session_context": context}))


def test_configured_summariser_condenses(store, checks):
    """And is named by the view."""

    class Shouting:
        name = "shouting"

        def summarise(self, text, max_tokens):
            return text[: 4 * max_tokens].upper()

    store.put("session_long", LONG, agent_id=AGENT)
    handed = package(session_context={"session_id": "session_long", "available_tokens": 9_999})
    validator = HandoffValidator(store, checks, buffer_tokens=10_000, summariser=Shouting())
    report = validator.validate(handed)
    assert report.buffer.summariser == report.package.session_context.view.summariser == "shouting"


def test_short_buffer_stops_no_handoff(validator):
    """Whoever has run out of tokens must be able to hand over; the report says how short it is."""
    report = validator.validate(package(session_context={"available_tokens": 0}))
    assert report.ok
    assert report.buffer.short
    assert not report.buffer.restored
    assert report.package.session_context.view.whole


def test_stale_package_is_not_condensed(validator, store):
    """Nothing is read, summed up or paid for a handoff that is stopped."""

    class Never:
        name = "never"

        def summarise(self, text, max_tokens):
            raise AssertionError("nobody asked for this")

    store.put("session_long", LONG, agent_id=AGENT)
    validator._summariser = Never()
    handed = package(
        session_context={"session_id": "session_long", "available_tokens": 0},
        preconditions=[{"kind": "lock_held", "name": "build"}],
    )
    assert not validator.examine(handed).ok


def test_sealed_context_is_not_condensed(redis_client, checks, store, tmp_path):
    """A view of it would lie in clear beside the handoff; the report says why there is none."""
    from baton.key_providers.file import FileKeyProvider

    provider = FileKeyProvider.create(tmp_path / "keys")
    sealed = ContextStore(redis_client, key_provider=provider)
    sealed.put("session_sealed", LONG, agent_id=AGENT, sealed=True)
    validator = HandoffValidator(sealed, PackageChecks(redis_client, sealed))
    handed = package(session_context={"session_id": "session_sealed", "available_tokens": 0})
    report = validator.validate(handed)
    assert report.package.session_context.view is None
    assert "sealed" in report.buffer.note
    sealed.close()


def test_redis_that_does_not_answer_is_no_stale_handoff(redis_client, store, monkeypatch):
    """Nothing was found out; the same call may succeed later."""
    checks = PackageChecks(redis_client, store)

    def silent(*_args):
        raise StoreUnavailableError("silent")

    monkeypatch.setattr(checks._locks, "find", silent)
    wanted = [{"kind": "lock_held", "name": "build"}]
    with pytest.raises(StoreUnavailableError):
        checks.run(package(preconditions=wanted))
