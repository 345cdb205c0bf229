"""What the context store must do, as plain data and without Redis: the oracle of its tests.

Merges are `baton.merge`'s own, tested elsewhere; this is about the books: who sees which version.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from baton.errors import (
    CheckpointNotFoundError,
    ConflictNotFoundError,
    ContextNotFoundError,
    InvalidInputError,
    InvalidVersionError,
    SessionExistsError,
    TagExistsError,
    TagNotFoundError,
    VersionNotFoundError,
)
from baton.merge.text import merge_appends, merge_text
from baton.versions import next_version, parse_version


@dataclass(frozen=True)
class Version:
    """One version, and what its record says."""

    version: str
    content: str
    parent: str | None
    base: str | None
    author: str
    action: str
    operation: str
    operation_id: str | None
    source: str | None
    metadata: dict


@dataclass
class Pending:
    """A write that waits to be resolved."""

    content: str
    base: str
    head: str
    author: str
    expired: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a write answers. `pending`: it was kept as a pending revision just now."""

    action: str
    version: str
    content: str = field(repr=False)
    pending: Pending | None = None


@dataclass(frozen=True)
class Write:
    """A write as its caller asked for it. `base` empty: blind. `named`: its operation id.

    `read_base`: the base's text, where it was read before another client collected it, and the
    `born` of the session it is of.
    """

    session: str
    content: str = field(repr=False)
    agent: str
    base: str = ""
    explicit: str | None = None
    bump: str = "patch"
    policy: str = "merge"
    metadata: dict | None = None
    named: str | None = None
    operation: str = "put"
    source: str | None = None
    resolves: str = ""
    read_base: tuple[int, str] | None = field(default=None, repr=False)


@dataclass
class Session:
    """One session that lives. `born` tells it from others that had its name before."""

    born: int = 0
    versions: dict[str, Version] = field(default_factory=dict)
    source: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    pins: dict[str, str] = field(default_factory=dict)
    checkpoints: dict[str, tuple[str, int]] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    authors: dict[str, str] = field(default_factory=dict)
    operations: dict[str, str] = field(default_factory=dict)
    head: str = ""

    def end_conflict(self, conflict_id: str) -> None:
        if conflict_id in self.pending:
            self.pending[conflict_id] = replace(self.pending[conflict_id], expired=True)

    @property
    def newest(self) -> Version:
        return self.versions[self.head]


_AUDITED = {
    "put": "updated",
    "append": "appended",
    "merge": "merged",
    "resolve": "resolved",
    "rollback": "rolled_back",
    "fork": "forked",
}


class StoreModel:
    """All sessions. Methods change it, or raise the store's own errors and change nothing."""

    def __init__(self, keep_versions: int, living: frozenset[str]) -> None:
        self.keep_versions = keep_versions
        self.living = living
        self.births = 0
        self.sessions: dict[str, Session] = {}
        self.audit: dict[str, list[tuple[str, str, str]]] = {}

    def get(self, name: str) -> Session:
        if name not in self.sessions:
            raise ContextNotFoundError(name)
        return self.sessions[name]

    def version(self, name: str, version: str | None) -> Version:
        session = self.get(name)
        found = session.versions.get(version or session.head)
        if found is None:
            raise VersionNotFoundError(version)
        return found

    def waiting(self, name: str, conflict_id: str) -> Pending:
        session = self.sessions.get(name)
        found = session.pending.get(conflict_id) if session else None
        if found is None or found.expired:
            raise ConflictNotFoundError(conflict_id)
        return found

    def fork_point(self, source: str, name: str) -> str:
        """The version of `name` that `source` was forked from."""
        forked_from, _, version = (self.get(source).source or "").partition("@")
        if forked_from != name:
            raise InvalidInputError("base_version", "given", None)
        return version

    # --- writes --------------------------------------------------------------------------------

    def write(self, write: Write) -> Outcome:
        if write.explicit and write.base and _parsed(write.explicit) <= _parsed(write.base):
            raise InvalidVersionError("version", "above the base", write.explicit)
        session = self.sessions.get(write.session)
        done = session.operations.get(write.named) if session and write.named else None
        if done is not None:
            return self._done(session, write, done)
        if session is None:
            if write.base:
                raise ContextNotFoundError(write.session)
            self.births += 1
            session = Session(born=self.births, source=write.source)
            version = str(next_version(None, _parsed(write.explicit), write.bump))
            self.sessions[write.session] = session
            return self._commit(write, version, "accepted")
        if write.base and _parsed(write.base) > _parsed(session.head):
            raise VersionNotFoundError(write.base)
        if not write.base or write.base == session.head:
            return self._accept(write, "accepted")
        return self._write_concurrently(session, write)

    def append(self, write: Write, text: str) -> Outcome:
        """`write.content` is what to append; `text` what this makes of the head."""
        done = self.find_done(write)
        return done or self._accept_or_begin(write, text)

    def fork(self, write: Write) -> Outcome:
        done = self.find_done(write)
        if done:
            return done
        if write.session in self.sessions:
            raise SessionExistsError(write.session)
        return self.write(write)

    def rollback(self, write: Write) -> Outcome:
        done = self.find_done(write)
        if done:
            return done
        self.get(write.session)
        return self._commit(write, self._next(write), "accepted")

    def resolve_by_hand(self, write: Write, conflict_id: str) -> Outcome:
        """`write.base` is the head that the pending revision was written against."""
        done = self.find_done(write)
        if done is None:
            self._require_conflict(write, conflict_id)
        return done or self.write(write)

    def take_side(self, write: Write, conflict_id: str, side: str) -> Outcome:
        done = self.find_done(write)
        if done is not None:
            return done
        session = self._require_conflict(write, conflict_id)
        found = session.pending[conflict_id]
        text = merged_text(_text(session, found.base), session.newest.content, found.content, side)
        return self._accept(replace(write, content=text), "accepted")

    def delete(self, name: str, agent: str) -> None:
        session = self.get(name)
        self._note(name, "deleted", agent, session.head)
        del self.sessions[name]

    def expire(self, name: str) -> None:
        self.sessions.pop(name, None)

    # --- marks ---------------------------------------------------------------------------------

    def tag(self, name: str, tag: str, version: str, agent: str, *, move: bool) -> None:
        session = self._marked(name, version)
        found = session.tags.get(tag)
        if found == version:
            return
        if found is not None and not move:
            raise TagExistsError(tag)
        session.tags[tag] = version
        self._note(name, "tagged", agent, version)

    def untag(self, name: str, tag: str, agent: str) -> None:
        if self.get(name).tags.pop(tag, None) is None:
            raise TagNotFoundError(tag)
        self._note(name, "untagged", agent, "")

    def pin(self, name: str, pin: str, version: str, agent: str) -> None:
        self._marked(name, version).pins[pin] = version
        self._note(name, "pinned", agent, version)

    def unpin(self, name: str, pin: str, agent: str) -> None:
        if self.get(name).pins.pop(pin, None) is not None:
            self._note(name, "unpinned", agent, "")

    def checkpoint(
        self, name: str, checkpoint: str, version: str, position: int, agent: str
    ) -> None:
        session = self._marked(name, version)
        if checkpoint not in session.checkpoints:
            session.checkpoints[checkpoint] = (version, position)
            self._note(name, "checkpointed", agent, version)

    def resume(self, name: str, checkpoint: str) -> str:
        session = self.sessions.get(name)
        if session is None or checkpoint not in session.checkpoints:
            raise CheckpointNotFoundError(checkpoint)
        version, position = session.checkpoints[checkpoint]
        return session.versions[version].content.encode()[position:].decode()

    # --- retention -----------------------------------------------------------------------------

    def droppable(self, name: str) -> list[str]:
        """Versions that nothing needs, the oldest first."""
        session = self.sessions[name]
        needed = {*session.tags.values(), *session.pins.values()}
        needed |= {version for version, _ in session.checkpoints.values()}
        for pending in session.pending.values():
            if not pending.expired:
                needed |= {pending.base, pending.head}
        needed |= {v for agent, v in session.authors.items() if agent in self.living}
        return [v for v in list(session.versions)[: -self.keep_versions] if v not in needed]

    def drop(self, name: str, versions: set[str], conflicts: set[str]) -> None:
        session = self.sessions[name]
        for version in versions:
            del session.versions[version]
        for conflict_id in conflicts:
            del session.pending[conflict_id]

    # --- the rules -----------------------------------------------------------------------------

    def _write_concurrently(self, session: Session, write: Write) -> Outcome:
        head = session.newest
        if write.explicit is not None and _parsed(write.explicit) <= _parsed(head.version):
            write = replace(write, explicit=None)
        if write.content == head.content:
            return self._accept(replace(write, explicit=None), "accepted")
        if write.policy == "reject":
            return Outcome("rejected", head.version, head.content)
        if write.policy == "last_write_wins":
            version = self._next(write)
            same_major = _parsed(version).major == _parsed(head.version).major
            action = "accepted_with_divergence" if same_major else "accepted"
            return self._commit(write, version, action)
        base = _text(session, write.base)
        if base is None and write.read_base and write.read_base[0] == session.born:
            base = write.read_base[1]
        text = merged_text(base, head.content, write.content)
        if text is None:
            return self._conflict(session, write)
        action = "accepted" if text == head.content else "merged"
        return self._accept(replace(write, content=text), action)

    def _conflict(self, session: Session, write: Write) -> Outcome:
        """The machine files the pending revision, whose name the store gave."""
        if write.named:
            session.operations[write.named] = "conflict"
        self._note(write.session, "conflicted", write.agent, session.head)
        pending = Pending(write.content, write.base, session.head, write.agent)
        return Outcome("merge_required", session.head, session.newest.content, pending)

    def _accept_or_begin(self, write: Write, text: str) -> Outcome:
        if write.session not in self.sessions:
            return self.write(write)
        return self._accept(replace(write, content=text), "accepted")

    def _accept(self, write: Write, action: str) -> Outcome:
        session = self.sessions[write.session]
        head = session.newest
        version = self._next(write)
        new_metadata = write.metadata is not None and write.metadata != head.metadata
        if write.content != head.content or write.explicit is not None or new_metadata:
            return self._commit(write, version, action)
        session.end_conflict(write.resolves)
        session.authors[write.agent] = head.version
        if write.named:
            session.operations[write.named] = head.version
        self._note(write.session, self._audited(write, "accepted"), write.agent, head.version)
        return Outcome("accepted", head.version, head.content)

    def _commit(self, write: Write, version: str, action: str) -> Outcome:
        session = self.sessions[write.session]
        head = session.versions.get(session.head)
        metadata = write.metadata
        if metadata is None:
            metadata = head.metadata if head else {}
        session.versions[version] = Version(
            version, write.content, session.head or None, write.base or None, write.agent, action,
            write.operation, write.named, write.source, metadata,
        )  # fmt: skip
        session.head = version
        session.authors[write.agent] = version
        session.end_conflict(write.resolves)
        if write.named:
            session.operations[write.named] = version
        audited = self._audited(write, action)
        if head is None and audited in ("updated", "appended"):
            audited = "created"
        self._note(write.session, audited, write.agent, version)
        return Outcome(action, version, write.content)

    def find_done(self, write: Write) -> Outcome | None:
        """What a write of that name was answered before."""
        session = self.sessions.get(write.session)
        done = session.operations.get(write.named) if session and write.named else None
        return None if done is None else self._done(session, write, done)

    def _done(self, session: Session, write: Write, done: str) -> Outcome:
        """A write of that name was answered before; what was collected since is not told."""
        if done == "conflict":
            return Outcome("merge_required", session.head, session.newest.content)
        found = session.versions.get(done)
        if found is None:
            return Outcome("accepted", done, "")
        action = found.action if found.operation_id == write.named else "accepted"
        return Outcome(action, done, found.content)

    def _require_conflict(self, write: Write, conflict_id: str) -> Session:
        """What a resolution needs that has looked at its conflict already."""
        session = self.get(write.session)
        self.waiting(write.session, conflict_id)
        return session

    def _marked(self, name: str, version: str) -> Session:
        session = self.get(name)
        if version not in session.versions:
            raise VersionNotFoundError(version)
        return session

    def _next(self, write: Write) -> str:
        head = _parsed(self.sessions[write.session].head)
        return str(next_version(head, _parsed(write.explicit), write.bump))

    def _audited(self, write: Write, action: str) -> str:
        return "merged" if action == "merged" else _AUDITED[write.operation]

    def _note(self, name: str, operation: str, agent: str, version: str) -> None:
        self.audit.setdefault(name, []).append((operation, agent, version))


def merged_text(base: str | None, ours: str, theirs: str, favour: str | None = None) -> str | None:
    """As the store combines texts; None where they conflict: all of it, where the base has gone."""
    if base is None:
        return {"ours": ours, "theirs": theirs, None: None}[favour]
    appended = merge_appends(base, ours, theirs)
    return merge_text(base, ours, theirs, favour=favour).text if appended is None else appended


def _text(session: Session, version: str) -> str | None:
    found = session.versions.get(version)
    return None if found is None else found.content


def _parsed(version: str | None):
    return None if version is None else parse_version(version)
