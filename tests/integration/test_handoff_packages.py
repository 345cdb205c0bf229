"""Handoff packages on their way: handed over, checked again, acknowledged, read by runners."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis as redis_py

from baton.agents.budget import Budget
from baton.agents.handoff_package import package_json
from baton.coordinator import RedisSwarmCoordinator
from baton.errors import (
    AgentCompatibilityError,
    AgentNotFoundError,
    ContextCorruptError,
    HandoffNotFoundError,
    InvalidInputError,
    SettingsError,
    StaleHandoffError,
)
from baton.handoff.checks import Check
from baton.handoff.claims import Refusal
from baton.handoff.keys import HandoffKeys
from baton.handoff.packages import HandoffPackages
from baton.handoff.submission import Handoffs
from baton.redis_client import connect
from baton.settings import ClientSettings, load_settings
from baton.store.keys import SessionKeys
from baton.swarm.cooperation import CooperationTable
from baton.swarm.locks import Locks
from baton_command import BatonCommand
from handoff_bench import AGENT, SESSION, check_census, states
from handoff_packages import package, package_fields

AT_HEAD = {"kind": "context_at_version", "version": "1.0.0"}
HELD = {"kind": "lock_held", "name": "build"}
HOLDS = (Check("roles", "roles", holds=True),)
FAILS = (Check("roles", "roles", holds=True), Check("preconditions[0]", "x", False, "why"))


def handed(**changes):
    return package(from_agent=AGENT, to_agent="haiku_worker", **changes)


@pytest.fixture
def locks(redis_client):
    return Locks(redis_client)


# --- over the engine ---------------------------------------------------------------------------


def test_package_goes_with_its_handoff(bench):
    """It is stored, validated, beside it; the handoff has its id and its version."""
    handoff = bench.run("a", "b", package=handed(preconditions=[AT_HEAD]))
    assert handoff.handoff_id == "handoff_1"
    assert (handoff.outcome().state, handoff.outcome().base_version) == ("done", "1.0.0")
    assert handoff.package().session_context.version == "1.0.0"
    assert handoff.package().task_context == handed().task_context
    check_census(bench.client, handoff.handoff_id)


def test_handoff_without_package_has_none(bench):
    """Nor an acknowledgement, nor a key for them."""
    handoff = bench.run("a")
    assert (handoff.package(), handoff.acknowledgement()) == (None, None)
    assert not bench.client.exists(HandoffKeys.of(handoff.handoff_id).package)


def test_runner_reads_the_package(make_bench):
    """Goal, decisions, what not to redo; None where the handoff has no package."""
    read = []
    bench = make_bench({"read": lambda assignment: read.append(assignment.package) or "read"})
    task = {"instruction": "look", "runner": "read"}
    from baton.handoff.request import TaskSpec

    bench.run(TaskSpec(**task), package=handed())
    bench.run(TaskSpec(**task))
    assert read[0].task_context.do_not_redo == ("The schema is migrated.",)
    assert read[1] is None


def test_first_worker_acknowledges_once(bench):
    """Who, when, each check; the events tell of it, before any node."""
    bench.queue.copies = 3
    handoff = bench.run("a", "b", package=handed(preconditions=[AT_HEAD]))
    receipt = handoff.acknowledgement()
    assert receipt.accepted
    assert receipt.by == "worker_1"
    assert handoff.outcome().created_at <= receipt.at <= handoff.outcome().ended_at
    assert [check.name for check in receipt.checks] == [
        "roles", "session_context", "preconditions[0]",
    ]  # fmt: skip
    told = [(event.type, event.state, event.text) for event in handoff.events()]
    assert told.count(("acknowledgement", "accepted", "worker_1")) == 1
    assert told[1][0] == "acknowledgement"


def test_what_is_stale_at_submission_stops_it_before_anything_is_written(bench):
    """No handoff, no package, no pin, no message."""
    before = sorted(bench.client.keys("handoff*"))
    with pytest.raises(StaleHandoffError, match="lock build is not held"):
        bench.submit("a", package=handed(preconditions=[HELD]))
    assert sorted(bench.client.keys("handoff*")) == before == []
    assert not bench.client.exists(SessionKeys.of(SESSION).pins)
    assert bench.queue.published == []


def test_change_between_validation_and_acknowledgement_ends_the_handoff(bench, locks):
    """Failed, with the reason, before any node runs a runner; the census still adds up."""
    lock = locks.acquire(SESSION, "build", agent_id=AGENT)
    handoff = bench.submit("a", "b", package=handed(preconditions=[HELD]))
    locks.release(lock)
    bench.pump()
    outcome = handoff.outcome()
    assert (outcome.state, outcome.error_type) == ("failed", "StaleHandoffError")
    assert "preconditions[0]: session session_1: lock build is not held" in outcome.error
    assert states(handoff) == {"0": "skipped", "1": "skipped"}
    assert not handoff.acknowledgement().accepted
    assert bench.store.resolve_version(SESSION) == "1.0.0"
    check_census(bench.client, handoff.handoff_id)
    bench.recover(handoff)
    bench.engine.sweep()
    assert not bench.is_open(handoff)


def test_head_that_moved_on_before_the_workers_came_is_stale(bench):
    """Somebody wrote while the handoff was queued."""
    handoff = bench.submit("a", package=handed(preconditions=[AT_HEAD]))
    bench.store.append(SESSION, "More.\n", agent_id="other")
    bench.pump()
    assert "session session_1 is at 1.0.1, not at 1.0.0" in handoff.outcome().error


def test_head_that_moves_while_nodes_run_is_not_looked_at_again(bench):
    """What was accepted has begun: late and repeated messages do not ask again."""
    bench.queue.copies = 2
    handoff = bench.submit("a", package=handed(preconditions=[AT_HEAD]))
    bench.handle(bench.queue.take())
    bench.store.append(SESSION, "More.\n", agent_id="other")
    bench.pump()
    assert handoff.outcome().state == "done"


def test_refusal_outlives_a_worker_that_dies_behind_it(bench, locks, monkeypatch):
    """The nodes end when another worker comes; none of them runs."""
    lock = locks.acquire(SESSION, "build", agent_id=AGENT)
    handoff = bench.submit("a", package=handed(preconditions=[HELD]))
    locks.release(lock)
    with monkeypatch.context() as patch:

        def die(_handoff_id):
            raise KeyboardInterrupt

        patch.setattr(bench.tree, "end_stopped", die)
        with pytest.raises(KeyboardInterrupt):
            bench.engine.launch(handoff.handoff_id)
    locks.acquire(SESSION, "build", agent_id=AGENT)  # too late: the first answer counts
    assert bench.tree.claim(handoff.handoff_id, "0", "worker_2") == Refusal("cancelled")
    outcome = bench.recover(handoff)
    assert (outcome.state, states(handoff)) == ("failed", {"0": "skipped"})


def test_package_that_is_damaged_ends_its_handoff(bench):
    """It can never begin; it must not be tried for ever."""
    handoff = bench.submit("a", package=handed())
    key = HandoffKeys.of(handoff.handoff_id).package
    bench.client.hset(key, "package", bench.client.hget(key, "package")[:-1] + b"?")
    bench.pump()
    assert handoff.outcome().state == "failed"
    assert "digest differs" in handoff.outcome().error
    with pytest.raises(ContextCorruptError):
        handoff.package()


def test_refused_handoff_is_retried_once_its_demands_hold(bench, locks):
    """Until then the retry is refused too, and nothing is reopened."""
    lock = locks.acquire(SESSION, "build", agent_id=AGENT)
    handoff = bench.submit("a", package=handed(preconditions=[HELD]))
    locks.release(lock)
    bench.pump()
    with pytest.raises(StaleHandoffError, match="is not held"):
        bench.handoffs.retry(handoff.handoff_id)
    assert handoff.outcome().round == 0
    locks.acquire(SESSION, "build", agent_id=AGENT)
    bench.handoffs.retry(handoff.handoff_id)
    bench.pump()
    assert handoff.outcome().state == "done"
    assert handoff.acknowledgement().accepted
    assert handoff.acknowledgement().by == AGENT


def test_retry_of_an_accepted_handoff_is_not_checked_again(make_bench):
    """Its own merge has moved the head; what it demanded was for its beginning."""
    luck = iter([False, True])

    def work(_assignment):
        if not next(luck):
            raise ValueError("no luck")
        return "done"

    from baton.handoff.request import TaskSpec

    bench = make_bench({"luck": work})
    tasks = [TaskSpec(instruction="a"), TaskSpec(instruction="b", runner="luck")]
    handoff = bench.run(*tasks, package=handed(preconditions=[AT_HEAD]))
    assert (handoff.outcome().state, bench.store.resolve_version(SESSION)) == ("degraded", "1.0.1")
    bench.handoffs.retry(handoff.handoff_id)
    bench.pump()
    assert handoff.outcome().state == "done"


def test_package_submitted_again_is_the_same_handoff(bench):
    """Its id is the key; what has become stale meanwhile does not matter to what was accepted."""
    first = bench.run("a", package=handed(preconditions=[AT_HEAD]))
    assert bench.store.resolve_version(SESSION) == "1.0.1"
    again = bench.submit("a", package=handed(preconditions=[AT_HEAD]))
    assert again.handoff_id == first.handoff_id
    assert again.outcome().state == "done"
    assert bench.queue.kinds()["start"] == 1


@pytest.mark.parametrize(
    ("tasks", "changes"),
    [(["b"], {}), (["a"], {"task_context": {"goal": "Another."}})],
    ids=["task", "package"],
)
def test_another_request_under_a_packages_id_is_refused(bench, tasks, changes):
    """Another task over it, or another package."""
    bench.submit("a", package=handed())
    with pytest.raises(InvalidInputError):
        bench.submit(*tasks, package=handed(**changes))


def test_submission_that_died_behind_its_package_goes_on_with_that(bench, monkeypatch):
    """The version is the one that was handed over first, though the head has moved on."""

    def die(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench.handoffs._tree, "open", die)
        with pytest.raises(KeyboardInterrupt):
            bench.submit("a", package=handed())
    bench.store.append(SESSION, "More.\n", agent_id="other")
    handoff = bench.run("a", package=handed())
    assert handoff.outcome().base_version == "1.0.0"
    assert handoff.package().session_context.version == "1.0.0"
    with pytest.raises(InvalidInputError, match="an id of its own"):
        HandoffPackages(bench.client).put(handed(), source_digest="another", retention_seconds=60)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"idempotency_key": "key"}, "idempotency_key"),
        ({"context_version": "1.0.1"}, "context_version"),
    ],
    ids=["key", "version"],
)
def test_argument_that_contradicts_the_package_is_refused(bench, options, field):
    """Rather than to guess which of the two was meant."""
    with pytest.raises(InvalidInputError) as refused:
        bench.submit("a", package=handed(), **options)
    assert refused.value.field == field


def test_package_of_another_session_or_sender_is_refused(bench):
    """The context is the session's; the sender is who submits, or its role."""
    with pytest.raises(InvalidInputError, match="session_id"):
        bench.submit("a", package=handed(session_context={"session_id": "session_2"}))
    with pytest.raises(AgentCompatibilityError, match="it is from spec-builder"):
        bench.submit("a", package=package())


def test_budget_of_the_handoff_itself_is_looked_at(bench):
    """What it is to get at submission; what is left of it when the workers begin."""
    wanted = [{"kind": "budget_left", "tokens": 500}]
    with pytest.raises(StaleHandoffError, match="has 100 tokens left, not 500"):
        bench.submit("a", package=handed(preconditions=wanted), budget=Budget(tokens=100))
    handoff = bench.submit("a", package=handed(preconditions=wanted), budget=Budget(tokens=500))
    bench.client.hset(HandoffKeys.of(handoff.handoff_id).budget, "spent_tokens", 1)
    bench.pump()
    assert "has 499 tokens left, not 500" in handoff.outcome().error
    with pytest.raises(StaleHandoffError, match="has 499 tokens left"):
        bench.handoffs.retry(handoff.handoff_id)
    bench.handoffs.retry(handoff.handoff_id, budget=Budget(tokens=600))
    bench.pump()
    assert handoff.outcome().state == "done"


def test_condensed_context_travels_in_the_package(bench):
    """The nodes still read the original, at its version."""
    long = "".join(f"## {n}\n\nPart {n} was decided, and it is to stay.\n\n" for n in range(400))
    bench.store.put(SESSION, long, agent_id=AGENT, base_version="1.0.0")
    handoff = bench.run("a", package=handed(session_context={"available_tokens": 29_999}))
    view = handoff.package().session_context.view
    assert view.left_out
    assert (view.source.version, handoff.outcome().base_version) == ("1.0.1", "1.0.1")


def test_receiver_holds_to_its_own_table(redis_client, make_bench):
    """A sender with laxer rules does not get past the workers'."""
    from baton.handoff.checks import PackageChecks
    from baton.handoff.validation import HandoffValidator

    bench = make_bench()
    lax = CooperationTable({("*", "*"): "anyone"})
    handoffs = Handoffs(
        redis_client,
        bench.store,
        bench.queue,
        default_runner="work",
        validator=HandoffValidator(
            bench.store, PackageChecks(redis_client, bench.store, table=lax)
        ),
    )
    handoff = handoffs.submit(
        SESSION, ["a"], agent_id="monitor", package=package(from_agent="monitor")
    )
    bench.pump()
    assert handoff.outcome().state == "failed"
    assert "a monitor hands over to nobody" in handoff.outcome().error


def test_package_lives_as_long_as_its_handoff(bench):
    """No shorter than the rest of it."""
    handoff = bench.run("a", package=handed())
    keys = HandoffKeys.of(handoff.handoff_id)
    assert abs(bench.client.pttl(keys.package) - bench.client.pttl(keys.base)) < 60_000


def test_racing_acknowledgements_agree(redis_client, redis_server):
    """Eight receivers, half of whom found something amiss: one answer counts, for all of them."""
    HandoffPackages(redis_client).put(handed(), source_digest="d", retention_seconds=60)
    barrier = threading.Barrier(8)

    def acknowledge(number):
        with redis_py.Redis.from_url(redis_server.url) as client:
            packages = HandoffPackages(client)
            barrier.wait()
            return packages.acknowledge("handoff_1", f"w_{number}", FAILS if number % 2 else HOLDS)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(acknowledge, range(8)))
    assert len(set(answers)) == 1
    assert answers[0] == HandoffPackages(redis_client).find_acknowledgement("handoff_1")


def test_acceptance_replaces_a_refusal_only_when_asked_again(redis_client):
    """And a refusal never replaces an acceptance."""
    packages = HandoffPackages(redis_client)
    packages.put(handed(), source_digest="d", retention_seconds=60)
    assert not packages.acknowledge("handoff_1", "a", FAILS).accepted
    assert not packages.acknowledge("handoff_1", "b", HOLDS).accepted
    assert not packages.acknowledge("handoff_1", "c", FAILS, again=True).accepted
    assert packages.acknowledge("handoff_1", "d", HOLDS, again=True).by == "d"
    assert packages.acknowledge("handoff_1", "e", FAILS, again=True).by == "d"
    with pytest.raises(HandoffNotFoundError):
        packages.acknowledge("handoff_9", "a", HOLDS)


# --- between agents ----------------------------------------------------------------------------


@pytest.fixture
def coordinator(redis_client, redis_server):
    with RedisSwarmCoordinator(redis_url=redis_server.url) as opened:
        yield opened


@pytest.fixture
def swarm(coordinator):
    """A coordinator with a context, and two workers below it."""
    boss = coordinator.register_agent("sonnet_coordinator", 200_000)
    workers = [coordinator.register_agent("haiku_worker", 100_000, boss) for _ in range(2)]
    coordinator.update_context("The shared context.\n", boss)
    return boss, *workers


TASK = {"next_step": "write_tests", "goal": "Sign-in by mail.", "decisions": ["Hash the tokens."]}


def prepared(coordinator, boss, to="haiku_worker", **options):
    return coordinator.prepare_handoff(boss, to, task=TASK, available_tokens=115_000, **options)


def test_prepared_package_says_where_the_agent_stands(coordinator, swarm):
    """Session, version, how full its window is, where to resume."""
    boss, *_ = swarm
    point = coordinator.checkpoint(boss, "half")
    made = prepared(coordinator, boss, model="m", user_language="ko")
    context = made.session_context
    assert (context.session_id, context.version) == (coordinator.session_of(boss), "1.0.0")
    assert (context.context_position, context.available_tokens) == (42.5, 115_000)
    assert made.recovery_info.last_checkpoint == point.checkpoint_id
    assert made.task_context.goal == "Sign-in by mail."
    assert coordinator.validate_handoff(made).ok


def test_receiver_takes_over_what_was_handed_to_its_role(coordinator, swarm):
    """It gets the package; the acknowledgement is beside the handoff."""
    boss, worker, _ = swarm
    made = prepared(coordinator, boss)
    assert coordinator.hand_over(made).package == made
    assert coordinator.find_acknowledgement(made.handoff_id) is None
    assert coordinator.acknowledge_handoff(made.handoff_id, worker) == made
    receipt = coordinator.find_acknowledgement(made.handoff_id)
    assert (receipt.by, receipt.accepted) == (worker, True)
    assert coordinator.acknowledge_handoff(made.handoff_id, worker) == made


def test_one_agent_of_a_role_takes_it_over(coordinator, swarm):
    """The other is told who has it."""
    boss, worker, late = swarm
    made = coordinator.hand_over(prepared(coordinator, boss)).package
    coordinator.acknowledge_handoff(made.handoff_id, worker)
    with pytest.raises(StaleHandoffError, match=f"{worker} has taken it over"):
        coordinator.acknowledge_handoff(made.handoff_id, late)


def test_stranger_can_neither_take_nor_spoil_a_handoff(coordinator, swarm):
    """Nothing is recorded of who is not addressed, or not there."""
    boss, worker, other = swarm
    made = coordinator.hand_over(prepared(coordinator, boss, to=worker)).package
    with pytest.raises(AgentCompatibilityError, match=f"it is for {worker}"):
        coordinator.acknowledge_handoff(made.handoff_id, other)
    with pytest.raises(AgentNotFoundError):
        coordinator.acknowledge_handoff(made.handoff_id, "haiku_worker_00000000")
    assert coordinator.find_acknowledgement(made.handoff_id) is None
    with pytest.raises(HandoffNotFoundError):
        coordinator.acknowledge_handoff("handoff_9", worker)


def test_agent_of_the_role_in_another_tree_is_refused(coordinator, swarm):
    """The table is asked again, with the agent that came."""
    _, worker, _ = swarm
    coordinator.update_context("A context.\n", worker)
    made = coordinator.hand_over(prepared(coordinator, worker)).package
    stranger = coordinator.register_agent("haiku_worker", 1_000)
    with pytest.raises(AgentCompatibilityError, match="own tree"):
        coordinator.acknowledge_handoff(made.handoff_id, stranger)
    assert coordinator.find_acknowledgement(made.handoff_id) is None


def test_change_before_the_receiver_came_is_recorded_and_told(coordinator, swarm):
    """Between validation and acknowledgement; the first answer stays."""
    boss, worker, _ = swarm
    version = coordinator.history(boss)[0].version
    made = prepared(
        coordinator, boss, preconditions=[{"kind": "context_at_version", "version": version}]
    )
    coordinator.hand_over(made)
    coordinator.update_context("Another context.\n", boss)
    for _ in range(2):
        with pytest.raises(StaleHandoffError, match=r"is at 1\.0\.1, not at 1\.0\.0"):
            coordinator.acknowledge_handoff(made.handoff_id, worker)
    receipt = coordinator.find_acknowledgement(made.handoff_id)
    assert not receipt.accepted
    assert receipt.checks[-1].reason.endswith("is at 1.0.1, not at 1.0.0")


def test_package_handed_over_twice_is_kept_once(coordinator, swarm):
    """The repeat gets what was kept; another package under its id is refused."""
    boss, *_ = swarm
    made = prepared(coordinator, boss)
    coordinator.hand_over(made)
    assert coordinator.hand_over(made).package == made
    forged = made.model_copy(update={"to_agent": "frontend"})
    with pytest.raises(InvalidInputError, match="handoff_id"):
        coordinator.hand_over(forged)


def test_role_rules_are_settings(redis_client, redis_server):
    """A deployment extends the table; a rule that is none is told by its variable."""
    settings = load_settings(ClientSettings, role_rules={"sonnet_coordinator monitor": "nobody"})
    with RedisSwarmCoordinator(redis_url=redis_server.url, settings=settings) as strict:
        boss = strict.register_agent("sonnet_coordinator", 200_000)
        strict.update_context("A context.\n", boss)
        with pytest.raises(AgentCompatibilityError):
            strict.validate_handoff(prepared(strict, boss, to="monitor"))
    wrong = load_settings(ClientSettings, role_rules={"frontend": "anyone"})
    with pytest.raises(SettingsError, match="BATON_ROLE_RULES"):
        CooperationTable.configured(wrong)


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def baton(tmp_path, redis_server, bench):
    return BatonCommand(tmp_path, "handoff", BATON_REDIS_URL=redis_server.url)


def file_of(baton, made):
    return baton.file("package.json", package_json(made).encode())


def test_validate_command_tells_what_holds(baton):
    """Exit code 0; the JSON has every check, the buffer and the package to hand over."""
    name = file_of(baton, handed(preconditions=[AT_HEAD]))
    said = baton.json("validate", name)
    assert (said["handoff"], said["ok"], said["buffer"]["short"]) == ("handoff_1", True, False)
    assert [check["name"] for check in said["checks"]][-1] == "preconditions[0]"
    assert said["package"]["session_context"]["version"] == "1.0.0"
    assert b"preconditions[0] (context_at_version): holds" in baton("validate", name).stdout


def test_validate_command_tells_what_does_not_hold(baton):
    """Exit code 4, with the reason; nothing is handed over."""
    name = file_of(baton, handed(preconditions=[HELD]))
    shown = baton("validate", name, code=4).stdout.decode()
    assert "does not hold: session session_1: lock build is not held" in shown
    assert "refused" in shown
    assert json.loads(baton("validate", name, "--json", code=4).stdout)["ok"] is False


def test_validate_command_refuses_what_is_no_package(baton):
    """Exit code 2, naming the field by its path; or the file."""
    fields = package_fields(recovery_info={"recovery_tokens_reserved": -1})
    name = baton.file("package.json", json.dumps(fields).encode())
    said = baton.error("validate", name, code=2)
    assert "recovery_info.recovery_tokens_reserved" in said
    assert "FILE none.json" in baton.error("validate", "none.json", code=2)


def test_submit_command_hands_a_package_over(baton, bench):
    """The handoff has its id; `show` has the package and, once there, its acknowledgement."""
    name = file_of(baton, handed())
    said = baton.json("submit", SESSION, "count lines", "--package", name)
    assert said["handoff"] == "handoff_1"
    shown = baton.json("show", "handoff_1")
    assert shown["package"]["task_context"]["goal"] == "Sign-in by mail."
    assert shown["acknowledgement"] is None
    bench.engine.launch("handoff_1")
    shown = baton.json("show", "handoff_1")
    assert (shown["acknowledgement"]["accepted"], shown["acknowledgement"]["by"]) == (
        True, "worker_1",
    )  # fmt: skip
    assert b"accepted by worker_1" in baton("show", "handoff_1").stdout
    assert baton.json("submit", SESSION, "count lines", "--package", name)["handoff"] == "handoff_1"


def test_submit_command_refuses_a_stale_package(baton):
    """Exit code 4; and 2 for a session that is not the package's."""
    name = file_of(baton, handed(preconditions=[HELD]))
    said = baton.error("submit", SESSION, "count lines", "--package", name, code=4)
    assert "lock build is not held" in said
    baton.error("show", "handoff_1", code=4)
    bench_session = package_fields(session_context={"session_id": "session_2"})
    other = baton.file("other.json", json.dumps(bench_session).encode())
    assert "session_id" in baton.error("submit", SESSION, "count", "--package", other, code=2)


def test_watch_command_tells_of_a_refusal(baton, bench, locks):
    """As a line among the others."""
    lock = locks.acquire(SESSION, "build", agent_id=AGENT)
    handoff = bench.submit("a", package=handed(preconditions=[HELD]))
    locks.release(lock)
    bench.pump()
    shown = baton("watch", handoff.handoff_id, code=4).stdout.decode()
    assert "package refused by worker_1" in shown


def test_packages_and_locks_work_on_a_cluster(cluster):
    """Each script keeps to one slot: of the handoff, or of the session."""
    with connect(cluster.url, ClientSettings()) as client:
        packages, held = HandoffPackages(client), Locks(client)
        for node in cluster.nodes:
            session = cluster.session_on(node)
            lock = held.acquire(session, "build", agent_id=AGENT)
            assert held.renew(lock).fence == held.find(session, "build").fence
            assert held.release(lock)
            made = handed(handoff_id=f"handoff_{session}")
            packages.put(made, source_digest=made.digest, retention_seconds=60)
            assert packages.find(made.handoff_id) == made
            assert packages.acknowledge(made.handoff_id, "worker_1", HOLDS).accepted
