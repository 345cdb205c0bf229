"""Any interleaving of writers, collectors, deaths and lost replies keeps the context store true.

`--hypothesis-profile=long --timeout=0` drives thousands of histories instead of dozens.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from baton.content.digests import content_hash
from baton.errors import BatonError, ContextNotFoundError, InvalidInputError
from baton.key_providers.environment import EnvKeyProvider
from baton.store import cutting, retention, writing
from baton.store.cache import ContextCache
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from baton.store.manifest import decode_manifest
from baton.store.records import Commit
from baton.versions import parse_version
from faulty_redis import Died, Faults, faulty_client
from store_model import Outcome, StoreModel, Write
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.store.parts import StoreParts

NAMES = ("s", "t", "u")
AGENTS = ("alive", "dead", "label")
LIVING = frozenset({"alive"})
KEEP = 4
TEXT = "".join(f"{number} {number * 0x9E3779B97F4A7C15:x} words\n" for number in range(60))
SMALL_KEYS = ("", ":version", ":metadata", ":manifests", ":history", ":authors", ":access")
MARKS = ("label", "alive", "1.0.0", "version")


@dataclass(frozen=True)
class Call:
    """What a client is asked to do; what a kind of call does not need, it ignores.

    `base`: which of the versions seen it builds on, the newest being 0; None: it looks at none.
    `version`: how far its explicit version is above that; None: it names none.
    """

    kind: str
    name: str
    agent: str = "alive"
    place: int = 0
    edits: tuple[tuple[int, int], ...] = ()
    base: int | None = None
    version: int | None = None
    bump: str = "patch"
    policy: str = "merge"
    named: str | None = None
    mark: str = ""
    metadata: int | None = None
    flag: bool = False


@dataclass(frozen=True)
class Operation:
    """A call as the store and as the model do it.

    `look` is what is read before anything is written; `apply` is the rest. Where another client
    comes in between, what was read may be what was there before it.
    """

    name: str
    run: Callable[[ContextStore], Any]
    look: Callable[[StoreModel], Any]
    apply: Callable[[StoreModel, Any], Outcome | None]


@dataclass
class Attempt:
    """An operation under way: the worlds that it may have seen, and what is known of its end."""

    operation: Operation
    worlds: list[tuple[StoreModel, Any]] = field(default_factory=list)
    expected: Outcome | type[Exception] | None = None
    settled: bool = False


def calls_of(kinds, **fields):
    given = {"name": names, "agent": st.sampled_from(AGENTS), **fields}
    return st.builds(Call, kind=st.sampled_from(kinds), **given)


def mostly(usual, *others):
    return st.sampled_from([usual] * 3 * len(others) + list(others))


names = st.sampled_from(("s", "s", "s", "s", "t", "u"))
places = st.integers(0, 11)
namings = mostly(None, "op1", "op2")
puts = calls_of(
    ["put"],
    # Few places, so that changes often meet; a word of -1 takes the line out.
    edits=st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 2)), max_size=2).map(tuple),
    base=st.sampled_from((0, 0, 1, 1, 2, 3, 5, 9, None)),
    version=mostly(None, 0, 1, 2),
    bump=mostly("patch", "minor", "major"),
    policy=mostly("merge", "last_write_wins", "reject"),
    named=namings,
    metadata=mostly(None, 0, 1),
)
calls = st.one_of(
    puts,
    puts,
    calls_of(["append", "rollback", "fork", "resolve", "resolve"], place=places, named=namings),
    calls_of(
        ["merge"],
        named=namings,
        flag=st.booleans(),
        policy=mostly("merge", "last_write_wins", "reject"),
    ),
    calls_of(
        ["tag", "untag", "pin", "unpin", "checkpoint"],
        place=places,
        mark=st.sampled_from(MARKS),
        flag=st.booleans(),
    ),
    calls_of(
        ["collect"] * 6 + ["refresh"] * 2 + ["delete"],
        flag=mostly(False, True),
    ),
)
faults = st.one_of(
    st.tuples(
        st.sampled_from(("die before", "die amid", "die after", "lose", "lose")),
        st.integers(1, 5),
        st.none(),
    ),
    st.tuples(st.just("hold"), st.integers(1, 5), calls),
)


class StoreMachine(RuleBasedStateMachine):
    """Three clients, unlike each other, at three sessions; `model` is what must come of it."""

    server: Any = None
    sealed = False

    @initialize()
    def begin(self):
        self.raw = redis.Redis.from_url(self.server.url)
        self.raw.flushall()
        self.provider = EnvKeyProvider(f"k1:{bytes(range(32)).hex()}")
        self.model = StoreModel(KEEP, LIVING)
        self.seen = {name: [] for name in NAMES}
        self.ghosts = {name: set() for name in NAMES}
        self.audited = Counter()
        self.read_whole = set()
        self.faults = [Faults() for _ in range(3)]
        self.stores = [self.new_store(number) for number in range(3)]
        self.checker = ContextStore(self.raw, key_provider=self.provider)
        self.meet_no_fault(Call("put", "s"), 0)

    def new_store(self, number):
        """The first has a cache, the second does without; conflicts of the third expire at once."""
        options = [
            {"cache": ContextCache(1 << 20)},
            {},
            {"compression": "none", "conflict_seconds": 0.001},
        ]
        return ContextStore(
            faulty_client(str(self.server.socket), self.faults[number]),
            keep_versions=KEEP,
            live_agents=LIVING.intersection,
            key_provider=self.provider,
            **options[number],
        )

    # --- what happens --------------------------------------------------------------------------

    @rule(call=calls, number=st.integers(0, 2))
    def meet_no_fault(self, call, number):
        """One client's call."""
        self.perform(Attempt(self.operation(call)), number)

    @rule(call=calls, number=st.integers(0, 2), fault=faults)
    def meet_a_fault(self, call, number, fault):
        """One client's call, which fails somewhere, or another client's comes amid it."""
        kind, at, between = fault
        attempt = Attempt(self.operation(call))
        hold = partial(self.come_between, attempt, between, (number + 1) % 3)
        self.faults[number].arm(kind, at, hold)
        try:
            self.perform(attempt, number)
        finally:
            self.faults[number].disarm()

    @rule(ours=puts, theirs=puts, at=st.integers(1, 3), number=st.integers(0, 2))
    def race(self, ours, theirs, at, number):
        """Two change what both have seen; one of them commits amid the other's call."""
        same = {"name": "s", "base": 0, "named": None}
        self.meet_a_fault(replace(ours, **same), number, ("hold", at, replace(theirs, **same)))

    @precondition(lambda self: any(self.is_grown(name) for name in NAMES))
    @rule(name=st.sampled_from(NAMES))
    def let_expire(self, name):
        """A session's own expiry, which takes all of its names at once and its chunks later."""
        short = ContextStore(self.raw, backstop_seconds=0.005)
        short.refresh_expiry(name)
        keys = SessionKeys.of(name)
        if name in self.model.sessions:
            until(lambda: not self.raw.exists(*(keys.base + suffix for suffix in SMALL_KEYS)))
        self.ghosts[name] |= self.chunk_ids(name)
        self.model.expire(name)

    def come_between(self, attempt, call, number):
        if self.took_effect(attempt):
            self.settle(attempt, None)
        self.perform(Attempt(self.operation(replace(call, named=None))), number)
        attempt.worlds.append(self.world(attempt.operation))

    def perform(self, attempt, number):
        attempt.worlds.append(self.world(attempt.operation))
        try:
            answer = attempt.operation.run(self.stores[number])
        except Died:
            self.stores[number] = self.new_store(number)
            if not attempt.settled and self.took_effect(attempt):
                self.settle(attempt, None)
            return
        except BatonError as error:
            answer = type(error)
        if not attempt.settled:
            self.settle(attempt, answer)
        self.compare(attempt, answer)

    def world(self, operation):
        """The model as it is, and what the operation reads in it."""
        self.follow_collections()
        before = copy.deepcopy(self.model)
        try:
            return before, operation.look(self.model)
        except BatonError as error:
            return before, error

    def took_effect(self, attempt):
        """Whether it has written: everything that does is in the audit."""
        name = attempt.operation.name
        operations = [each[0] for each in self.trail(name) if each[0] != "collected"]
        return len(operations) > len(self.model.audit.get(name, []))

    def settle(self, attempt, answer):
        """Do in the model what was done, after whatever came between."""
        attempt.settled = True
        self.follow_collections()
        done = self.took_effect(attempt)
        candidates = [(copy.deepcopy(self.model), look) for _, look in reversed(attempt.worlds)]
        if not done:
            candidates += [(copy.deepcopy(model), look) for model, look in attempt.worlds[:-1]]
        tried = []
        for model, look in candidates:
            expected = self.applied(model, attempt.operation, look)
            tried.append((expected, model))
            if answer is None or (
                self.fits(expected, answer) and self.has_stored(model, attempt.operation.name)
            ):
                break
        else:
            expected, model = tried[0]
        attempt.expected = expected
        if len(tried) <= len(attempt.worlds):
            self.model = model
        if isinstance(expected, Outcome) and expected.pending is not None:
            self.file_pending(attempt.operation.name, expected.pending)

    def has_stored(self, model, name):
        """Whether the session's head, should both have it, is the model's, and not one like it."""
        session = model.sessions.get(name)
        stamped = self.manifests(name).get(session.head) if session else None
        if stamped is None:
            return True
        found, manifest = session.newest, stamped.manifest
        if (manifest.operation, manifest.source) != (found.operation, found.source):
            return False
        return self.checker.get(name, session.head).content == found.content

    def applied(self, model, operation, look):
        if isinstance(look, BatonError):
            return type(look)
        try:
            return operation.apply(model, look)
        except BatonError as error:
            return type(error)

    def file_pending(self, name, pending):
        """Under the name that the store gave it; the third client's has expired by now."""
        keys = SessionKeys.of(name)
        known = self.model.sessions[name].pending
        found = {i.decode() for i in self.raw.hkeys(keys.conflicts)}.difference(known)
        if not found:
            assert self.trail(name)[-1][0] == "collected"  # it had expired by then
            return
        (new,) = found
        expires_at = json.loads(self.raw.hget(keys.conflicts, new))["expires_at"]
        if expires_at - self.now_ms() < 60_000:
            until(lambda: self.now_ms() > expires_at)
            pending.expired = True
        known[new] = pending

    def now_ms(self):
        seconds, microseconds = self.raw.time()
        return seconds * 1000 + microseconds / 1000

    def is_grown(self, name):
        session = self.model.sessions.get(name)
        return session is not None and len(session.versions) > 2 * KEEP

    # --- what a client is told -----------------------------------------------------------------

    def compare(self, attempt, answer):
        expected = attempt.expected
        assert self.fits(expected, answer), f"{attempt.operation}: {answer!r}, not {expected!r}"
        if isinstance(answer, Commit):
            name = attempt.operation.name
            if answer.action not in ("rejected", "merge_required"):
                self.seen[name].append((answer.version, expected.content))
            if expected.pending is not None:
                assert answer.conflicts
                assert answer.conflict_id

    def fits(self, expected, answer):
        if not (isinstance(expected, Outcome) and isinstance(answer, Commit)):
            return expected == (answer if isinstance(answer, type) else None)
        same = (expected.action, expected.version) == (answer.action, answer.version)
        if self.sealed or not expected.content:
            return same
        return same and answer.content_hash == content_hash(expected.content.encode())

    # --- the operations ------------------------------------------------------------------------

    def operation(self, call):
        return getattr(self, call.kind)(call)

    def put(self, call):
        write = self.write(call)
        version = None if write.explicit is None else write.explicit

        def run(store):
            return store.put(
                call.name, write.content, agent_id=call.agent, base_version=write.base or None,
                version=version, bump=call.bump, policy=call.policy, metadata=write.metadata,
                operation_id=call.named, sealed=self.sealed,
            )  # fmt: skip

        return Operation(call.name, run, partial(read_base, write=write), StoreModel.write)

    def write(self, call):
        """A put, mostly by one who has read some version, new or old, and changed little in it."""
        known = self.seen[call.name]
        head = self.model.sessions.get(call.name)
        base = call.base if head or call.base == 9 else None
        seen = known[-1 - base % len(known)] if known and base is not None else None
        text = seen[1] if seen else head.newest.content if head else TEXT
        explicit = None
        if call.version is not None:
            above = parse_version(seen[0] if seen else head.head if head else "1.0.0")
            explicit = str(replace(above, patch=above.patch + call.version))
        return Write(
            session=call.name,
            content=edited(text, call.edits),
            agent=call.agent,
            base=seen[0] if seen else "",
            explicit=explicit,
            bump=call.bump,
            policy=call.policy,
            metadata=None if call.metadata is None else {"n": call.metadata},
            named=call.named,
        )

    def append(self, call):
        write = self.plain(call, "append", content=f"appended {call.place % 3}\n")
        return Operation(
            call.name,
            lambda store: store.append(
                call.name, write.content, agent_id=call.agent, must_exist=True,
                operation_id=call.named,
            ),
            lambda model: None,
            lambda model, _: model.append(
                write, model.get(call.name).newest.content + write.content
            ),
        )  # fmt: skip

    def rollback(self, call):
        version = self.some_version(call)
        write = self.plain(call, "rollback", source=f"{call.name}@{version}")

        def look(model):
            done = model.find_done(write)
            if done is not None:
                return done
            found = model.version(call.name, version)
            return replace(write, content=found.content, metadata=found.metadata)

        return Operation(
            call.name,
            lambda store: store.rollback(
                call.name, version, agent_id=call.agent, operation_id=call.named
            ),
            look,
            done_or(StoreModel.rollback),
        )

    def fork(self, call):
        source = NAMES[(NAMES.index(call.name) + 1) % 3]
        write = self.plain(call, "fork")

        def look(model):
            done = model.find_done(write)
            if done is not None:
                return done
            found = model.version(source, None)
            return replace(
                write,
                content=found.content,
                metadata=found.metadata,
                source=f"{source}@{found.version}",
            )

        return Operation(
            call.name,
            lambda store: store.fork(
                source, call.name, agent_id=call.agent, operation_id=call.named
            ),
            look,
            done_or(StoreModel.fork),
        )

    def merge(self, call):
        source = self.fork_of(call.name)
        write = self.plain(call, "merge", policy=call.policy)

        def look(model):
            done = model.find_done(write)
            if done is not None:
                return done
            found = model.version(source, None)
            base = model.fork_point(source, call.name)
            merging = replace(
                write, content=found.content, base=base, source=f"{source}@{found.version}"
            )
            return read_base(model, merging)

        return Operation(
            call.name,
            lambda store: store.merge(
                call.name, source, agent_id=call.agent, policy=call.policy,
                operation_id=call.named,
            ),
            look,
            done_or(StoreModel.write),
        )  # fmt: skip

    def fork_of(self, name):
        """A session that was forked from that one, if there is any."""
        forks = [
            other
            for other, session in self.model.sessions.items()
            if (session.source or "").startswith(f"{name}@")
        ]
        return forks[0] if forks else NAMES[NAMES.index(name) - 1]

    def resolve(self, call):
        session = self.model.sessions.get(call.name)
        waiting = list(session.pending) if session else []
        conflict_id = waiting[call.place % len(waiting)] if waiting else "gone"
        write = self.plain(call, "resolve", resolves=conflict_id)
        by_hand = f"{self.text(call.name)}by hand {call.place % 3}\n"
        take = ("ours", "theirs", None)[call.place % 3]

        def look(model):
            done = model.find_done(write)
            if done is not None:
                return done
            found = model.waiting(call.name, conflict_id)
            if take is None:
                by = replace(write, content=by_hand, base=found.head)
                return read_base(model, by)
            return write

        def apply(model, looked):
            if take is None:
                return model.resolve_by_hand(looked, conflict_id)
            return model.take_side(looked, conflict_id, take)

        given = {"content": by_hand} if take is None else {"take": take}
        return Operation(
            call.name,
            lambda store: store.resolve_conflict(
                call.name, conflict_id, agent_id=call.agent, operation_id=call.named, **given
            ),
            look,
            done_or(apply),
        )

    def tag(self, call):
        version = self.some_version(call)
        return Operation(
            call.name,
            lambda store: store.tag(
                call.name, call.mark, version, agent_id=call.agent, move=call.flag
            ),
            lambda model: model.version(call.name, version).version,
            lambda model, found: model.tag(call.name, call.mark, found, call.agent, move=call.flag),
        )

    def untag(self, call):
        return self.marking(call, ContextStore.untag, StoreModel.untag)

    def unpin(self, call):
        return self.marking(call, ContextStore.unpin, StoreModel.unpin)

    def marking(self, call, run, apply):
        return Operation(
            call.name,
            lambda store: run(store, call.name, call.mark, agent_id=call.agent),
            lambda model: None,
            lambda model, _: apply(model, call.name, call.mark, call.agent),
        )

    def pin(self, call):
        version = self.some_version(call)
        return Operation(
            call.name,
            lambda store: store.pin(
                call.name, call.mark, version, agent_id=call.agent, seconds=3600
            ),
            lambda model: None,
            lambda model, _: model.pin(call.name, call.mark, version, call.agent),
        )

    def checkpoint(self, call):
        version = self.some_version(call)

        def look(model):
            found = model.version(call.name, version)
            if call.place > len(found.content):
                raise InvalidInputError("byte_position", "inside", call.place)
            return found.version, call.place

        def run(store):
            made = store.checkpoint(
                call.name, call.agent, agent_id=call.agent, version=version,
                byte_position=call.place, checkpoint_id=call.mark,
            )  # fmt: skip
            assert made.checkpoint_id == call.mark

        return Operation(
            call.name,
            run,
            look,
            lambda model, found: model.checkpoint(call.name, call.mark, *found, call.agent),
        )

    def delete(self, call):
        return Operation(
            call.name,
            lambda store: store.delete(call.name, agent_id=call.agent),
            lambda model: None,
            lambda model, _: model.delete(call.name, call.agent),
        )

    def refresh(self, call):
        return Operation(
            call.name,
            lambda store: store.refresh_expiry(call.name),
            lambda model: None,
            lambda model, _: None,
        )

    def collect(self, call):
        """What it says it dropped is gone; what goes, `follow_collections` checks."""

        def run(store):
            before = set(self.versions(call.name))
            found = store.collect(call.name, agent_id=call.agent, dry_run=call.flag)
            gone = before.difference(self.versions(call.name))
            if not any(faulty.fired for faulty in self.faults) and not call.flag:
                assert set(found.versions) == gone
                self.follow_collections()
                assert not self.model.droppable(call.name)
            return found

        def apply(model, _):
            model.get(call.name)

        return Operation(call.name, run, lambda model: None, apply)

    def plain(self, call, operation, **fields):
        base = {"session": call.name, "content": "", "agent": call.agent, "named": call.named}
        return Write(**{**base, "operation": operation, **fields})

    def some_version(self, call):
        known = self.seen[call.name]
        return known[-1 - call.place % len(known)][0] if known else "1.0.0"

    def text(self, name):
        session = self.model.sessions.get(name)
        return session.newest.content if session else TEXT

    # --- what must hold ------------------------------------------------------------------------

    @invariant()
    def redis_holds_what_the_model_does(self):
        if not hasattr(self, "model"):
            return
        self.follow_collections()
        self.check_expiries()
        for name in NAMES:
            self.check_trail(name)
            if name in self.model.sessions:
                self.check_session(name, self.model.sessions[name])
            else:
                self.check_absence(name)

    def follow_collections(self):
        """A collection may end after any slice, but takes nothing that is needed."""
        for name, session in self.model.sessions.items():
            keys = SessionKeys.of(name)
            if self.raw.hget(keys.base, "state") != b"live":
                continue
            gone = set(session.versions).difference(self.versions(name))
            waiting = set(map(bytes.decode, self.raw.hkeys(keys.pending)))
            resolved = {i for i in session.pending if i not in waiting}
            if gone or resolved:
                self.model_drop(name, gone, resolved)

    def model_drop(self, name, gone, resolved):
        session = self.model.sessions[name]
        expired = {i for i in resolved if session.pending[i].expired}
        droppable = self.model.droppable(name)
        if gone <= set(droppable):
            self.model.drop(name, gone, expired)

    def versions(self, name):
        return list(map(bytes.decode, self.raw.hkeys(SessionKeys.of(name).manifests)))

    def check_expiries(self):
        keys = self.raw.keys("*")
        pipeline = self.raw.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key)
        left = dict(zip(keys, pipeline.execute(), strict=True))
        assert {key for key, left_ms in left.items() if left_ms == -1} == set()
        assert all(left_ms <= 60_000 for key, left_ms in left.items() if b":staging:" in key)

    def check_trail(self, name):
        """No number is missing, and everything that was done is there once."""
        written = [each for each in self.trail(name) if each[0] != "collected"]
        assert written == self.model.audit.get(name, [])

    def trail(self, name):
        raw = self.raw.lrange(SessionKeys.of(name).audit, 0, -1)
        entries = [json.loads(line) for line in raw]
        assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
        assert {entry["session"] for entry in entries} <= {name}
        return [(entry["operation"], entry["agent"], entry["version"]) for entry in entries]

    def check_absence(self, name):
        keys = SessionKeys.of(name)
        if self.raw.hget(keys.base, "state") == b"deleting":
            assert not self.checker.exists(name)
            return
        assert not self.raw.exists(*(keys.base + suffix for suffix in SMALL_KEYS))
        assert self.chunk_ids(name) <= self.ghosts[name]
        with pytest.raises(ContextNotFoundError):
            self.checker.get(name)

    def check_session(self, name, session):
        keys = SessionKeys.of(name)
        container = self.raw.hgetall(keys.base)
        sealer = self.sealer(name, container)
        manifests = self.manifests(name)
        self.check_books(keys, session, container, manifests)
        revisions = {
            name_.decode(): decode_manifest(stored, name, f"pending:{name_.decode()}", sealer)
            for name_, stored in self.raw.hgetall(keys.pending).items()
        }
        self.check_pending(name, session, revisions)
        every = [*manifests.values(), *revisions.values()]
        self.check_chunks(name, every, int(container[b"next_chunk"]))
        for version in session.versions.values():
            self.check_version(name, version, manifests[version.version])
        self.check_marks(name, session)

    def manifests(self, name):
        keys = SessionKeys.of(name)
        container = self.raw.hgetall(keys.base)
        if container.get(b"state") != b"live":
            return {}
        sealer = self.sealer(name, container)
        return {
            version.decode(): decode_manifest(stored, name, version.decode(), sealer)
            for version, stored in self.raw.hgetall(keys.manifests).items()
        }

    def sealer(self, name, container):
        assert bool(container[b"data_key"]) == self.sealed
        parts: StoreParts = self.checker._parts
        return parts.reader.sealer(SessionKeys.of(name), name, container[b"data_key"].decode())

    def check_books(self, keys, session, container, manifests):
        """Head, version, metadata, history and authors tell of the same versions, in order."""
        assert sorted(manifests, key=parse_version) == list(session.versions)
        head = manifests[session.head]
        assert (container[b"state"], container[b"head"].decode()) == (b"live", session.head)
        assert container[b"head_etag"].decode() == head.etag
        assert container[b"head_hash"].decode() == head.manifest.content_hash
        assert self.raw.get(keys.base + ":version").decode() == session.head
        assert self.raw.hget(keys.metadata, "etag").decode() == head.etag
        history = self.raw.zrange(keys.history, 0, -1, withscores=True)
        assert [member.decode() for member, _ in history] == [
            f"{version}:{manifests[version].manifest.content_hash}" for version in session.versions
        ]
        assert [at for _, at in history] == sorted({at for _, at in history})
        authors = self.raw.hgetall(keys.authors).items()
        assert {a.decode(): v.decode() for a, v in authors} == session.authors
        operations = self.raw.hgetall(keys.operations).items()
        assert {o.decode(): v.decode() for o, v in operations} == session.operations

    def check_pending(self, name, session, revisions):
        assert set(revisions) == set(session.pending)
        for conflict_id, pending in session.pending.items():
            manifest = revisions[conflict_id].manifest
            assert (manifest.base, manifest.author) == (pending.base, pending.author)
        waiting = {i: p for i, p in session.pending.items() if not p.expired}
        listed = self.checker.conflicts(name)
        assert {each.conflict_id for each in listed} == set(waiting)
        for conflict_id, pending in waiting.items():
            assert self.checker.pending_content(name, conflict_id) == pending.content

    def check_chunks(self, name, manifests, next_chunk):
        """Every chunk has a manifest that names it, and every manifest has its chunks."""
        keys = SessionKeys.of(name)
        sizes = {}
        for stamped in manifests:
            sizes |= stamped.manifest.stored_sizes
        found = self.chunk_ids(name)
        assert found - self.ghosts[name] <= set(sizes) <= found
        assert max(sizes, default=-1) < next_chunk
        pipeline = self.raw.pipeline(transaction=False)
        for chunk_id in sizes:
            pipeline.strlen(keys.chunk(chunk_id))
        assert pipeline.execute() == list(sizes.values())

    def chunk_ids(self, name):
        pattern = f"{SessionKeys.of(name).base}:chunks:*"
        return {int(key.rpartition(b":")[2]) for key in self.raw.keys(pattern)}

    def check_version(self, name, version, stamped):
        manifest = stamped.manifest
        assert manifest.parent == version.parent
        assert (manifest.base, manifest.author, manifest.action) == (
            version.base, version.author, version.action,
        )  # fmt: skip
        assert (manifest.operation, manifest.source) == (version.operation, version.source)
        assert manifest.metadata == version.metadata
        if stamped.etag not in self.read_whole:
            assert self.checker.get(name, version.version).content == version.content
            self.read_whole.add(stamped.etag)

    def check_marks(self, name, session):
        assert self.checker.tags(name) == session.tags
        pins = self.raw.hgetall(SessionKeys.of(name).pins).items()
        assert {p.decode(): json.loads(raw)["version"] for p, raw in pins} == session.pins
        listed = self.checker.checkpoints(name)
        assert {c.checkpoint_id: (c.version, c.byte_position) for c in listed} == (
            session.checkpoints
        )
        for checkpoint in session.checkpoints:
            assert self.checker.resume(name, checkpoint).content == (
                self.model.resume(name, checkpoint)
            )

    def teardown(self):
        """At the end each version is read whole once more, by one who has kept nothing."""
        if not hasattr(self, "model"):
            return
        self.read_whole.clear()
        self.checker = ContextStore(self.raw, key_provider=self.provider)
        self.redis_holds_what_the_model_does()
        for name, session in self.model.sessions.items():
            history = self.checker.history(name)
            assert [each.version for each in history] == list(session.versions)[::-1]
        for store in (*self.stores, self.checker):
            store.close()


class SealedStoreMachine(StoreMachine):
    """The same, of sealed sessions."""

    sealed = True


def read_base(model, write):
    """The write, and the text of its base as it can be read now."""
    session = model.sessions.get(write.session)
    found = session.versions.get(write.base) if session else None
    return write if found is None else replace(write, read_base=(session.born, found.content))


def done_or(apply):
    """`apply`, unless the write of that name was found to be done."""
    return lambda model, looked: looked if isinstance(looked, Outcome) else apply(model, looked)


def edited(text, edits):
    """`text` with lines replaced; a word of -1 takes the line out."""
    lines = text.splitlines(keepends=True)
    for place, word in edits:
        if lines:
            lines[place * len(lines) // 6] = "" if word < 0 else f"word {word}\n"
    return "".join(lines)


def in_slices_of(script, count):
    """The script, taking so many chunks in one call instead of 500."""
    smaller = copy.copy(script)
    assert "local SLICE = 500" in script.source
    smaller.source = script.source.replace("local SLICE = 500", f"local SLICE = {count}")
    smaller.sha = hashlib.sha1(smaller.source.encode(), usedforsecurity=False).hexdigest()
    return smaller


@pytest.fixture
def small_pieces(monkeypatch):
    """Chunks of 256 bytes and slices of a few, so that small texts have many of both."""
    monkeypatch.setattr(cutting, "average_chunk_bytes", lambda size_bytes, previous: 256)
    monkeypatch.setattr(retention, "VERSIONS_AT_ONCE", 2)
    monkeypatch.setattr(retention, "CHUNKS_AT_ONCE", 5)
    for name in ("_COMMIT", "_DELETE", "_REFRESH"):
        monkeypatch.setattr(writing, name, in_slices_of(getattr(writing, name), 8))


@pytest.mark.parametrize("machine", [StoreMachine, SealedStoreMachine])
def test_store_stays_true_whatever_its_clients_meet(machine, redis_server, small_pieces):
    """Deaths, lost replies and other clients amid a call: all is as in a plain model of it."""
    machine.server = redis_server
    is_long = settings.get_current_profile_name() == "long"
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=settings().max_examples if is_long else 20,
            stateful_step_count=40 if is_long else 30,
            # The same histories in each short run: what turns it red is the change at hand. Only a
            # long run takes the minutes that it takes to find a shorter one.
            derandomize=not is_long,
            phases=tuple(Phase) if is_long else (Phase.generate,),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
