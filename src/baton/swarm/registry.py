"""The agent registry: who takes part, since when, and who was heard of lately.

The index decides: an agent exists while its id is in `agents:index`, and one script on that key
settles each race. The record (`agents:{id}`) only describes the agent. As the two keys may lie
on different servers, each operation writes them in an order that makes a crash in between
harmless:

- register writes the record, then enters the index. A crash leaves a record that nobody can
  see, under an id that nobody was told; it expires.
- heartbeat writes the index, then prolongs the record. A crash leaves a record that lives one
  retention (weeks) from an earlier heartbeat.
- removal leaves the index, then deletes the record. A crash leaves a record that nobody can see.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from redis.exceptions import ResponseError

from baton.clock import utc_from_ms
from baton.errors import (
    AgentNotFoundError,
    InvalidIdError,
    InvalidInputError,
    UnexpectedAnswerError,
    UnsupportedFormatError,
)
from baton.ids import check_id, new_agent_id, new_operation_id, new_session_id
from baton.redis_client import redis_errors, redis_now_ms, require_binary
from baton.scripts import Script
from baton.swarm.keys import INDEX, agent_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    import redis

MAX_ROLE_LENGTH: Final = 119  # an agent's id adds `_` and 8 digits, and ends at 128
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_METADATA_DEPTH: Final = 32  # far below where a reader's JSON parser gives up
MAX_CAPACITY: Final = 2**53 - 1
MAX_SECONDS: Final = 3650 * 86_400
RETENTION_SECONDS: Final = 38 * 86_400

logger = logging.getLogger(__name__)

_FORMAT: Final = b"1"
_PAGE: Final = 500

_RECORD: Final = Script("baton.swarm", "record")
_ENTER: Final = Script("baton.swarm", "enter")
_HEARTBEAT: Final = Script("baton.swarm", "heartbeat")
_ACTIVE: Final = Script("baton.swarm", "active")
_SILENT: Final = Script("baton.swarm", "silent")
_MARK_DEAD: Final = Script("baton.swarm", "mark_dead")
_FORGET: Final = Script("baton.swarm", "forget")


@dataclass(frozen=True, slots=True)
class Agent:
    """A registered participant, as it was when read.

    `context_capacity` is in tokens. `state` becomes `dead` when a sweep finds the agent silent,
    and `active` again with its next heartbeat. Instants are aware UTC, by Redis' clock.
    """

    agent_id: str
    role: str
    session_id: str
    parent_id: str | None
    context_capacity: int
    metadata: dict[str, Any] = field(hash=False)
    registered_at: datetime
    last_heartbeat_at: datetime
    state: Literal["active", "dead"]


class AgentRegistry:
    """Agents in Redis. Every method is one to three round trips and safe from many threads.

    Any method raises StoreUnavailableError if Redis does not answer, and InvalidIdError for an
    id that could not be an agent's.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        *,
        dead_after_seconds: float = 120.0,
        retention_seconds: float = RETENTION_SECONDS,
    ) -> None:
        """`retention_seconds` is how long an agent that is never heard of again can be read.

        Raises:
            InvalidInputError: a time is not positive, or the client decodes its answers.
        """
        self._redis = require_binary(redis_client)
        self._client = redis_client
        self._dead_after_ms = _milliseconds(dead_after_seconds, "dead_after_seconds")
        self._retention_ms = _milliseconds(retention_seconds, "retention_seconds")

    def register(
        self,
        role: str,
        *,
        context_capacity: int,
        parent_id: str | None = None,
        session_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Agent:
        """Add an agent under a new id. A child joins its parent's session.

        Args:
            role: the first part of its id.
            context_capacity: tokens it can hold, at least 1.
            parent_id: the agent that spawned it.
            session_id: the session of a root; None makes a new one.
            metadata: a JSON object of at most 16 KiB and 32 levels; not for secrets.

        Raises:
            AgentNotFoundError: there is no such parent.
            InvalidInputError: an argument is malformed, or `session_id` is not the parent's.
        """
        fields: dict[str, str | bytes] = {
            "format": _FORMAT,
            "role": _role(role),
            "context_capacity": _capacity(context_capacity),
            "metadata": _metadata_json(metadata),
            "session_id": self._session_of(parent_id, session_id),
            "parent_id": parent_id or "",
        }
        with redis_errors(self._redis):
            agent_id = self._record(role, fields)
            _ENTER(self._redis, [INDEX], [agent_id, self._retention_ms])
        return self.get(agent_id)

    def get(self, agent_id: str) -> Agent:
        """The agent called `agent_id`, active or dead.

        Raises:
            AgentNotFoundError: it was never registered, or was removed.
            UnsupportedFormatError, UnexpectedAnswerError: its record is of another Baton, or none.
        """
        agent = self.find(agent_id)
        if agent is None:
            raise _not_found(agent_id)
        return agent

    def find(self, agent_id: str) -> Agent | None:
        """As `get`, but None if there is no such agent."""
        key = agent_key(agent_id)
        with redis_errors(self._redis):
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zscore(INDEX, agent_id)
            pipeline.hgetall(key)
            score, record = pipeline.execute()
        return None if score is None or not record else _agent(agent_id, score, record)

    def heartbeat(self, agent_id: str) -> Agent:
        """Note that the agent is alive, now; the agent as it is then. A dead one is active again.

        Raises:
            AgentNotFoundError: it was never registered, or was removed.
            UnsupportedFormatError, UnexpectedAnswerError: as `get`; the heartbeat is noted.
        """
        key = agent_key(agent_id)
        with redis_errors(self._redis):
            if not _HEARTBEAT(self._redis, [INDEX], [agent_id, self._retention_ms]):
                raise _not_found(agent_id)
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.pexpire(key, self._retention_ms)
            pipeline.zscore(INDEX, agent_id)
            pipeline.hgetall(key)
            _, score, record = pipeline.execute()
        if score is None or not record:
            raise _not_found(agent_id)
        return _agent(agent_id, score, record)

    def list_active(self) -> list[Agent]:
        """Agents heard of within `dead_after_seconds`, the newest heartbeat first.

        As in every list, one whose record cannot be read is left out, and logged.
        """
        with redis_errors(self._redis):
            answer = _ACTIVE(self._redis, [INDEX], [self._dead_after_ms])
            scores = [(member, float(score)) for member, score in _pairs(answer)]
            return self._read(scores)

    def count_active(self) -> int:
        """How many those are. Needs no more than the right to read."""
        with redis_errors(self._redis):
            since_ms = redis_now_ms(self._client) - self._dead_after_ms
            count: Any = self._client.zcount(INDEX, since_ms, "+inf")
        return int(count)

    def live_among(self, agent_ids: Collection[str]) -> set[str]:
        """Those of `agent_ids` that are registered and not marked dead."""
        if not agent_ids:
            return set()
        ids = list(agent_ids)
        with redis_errors(self._redis):
            scores = self._redis.zmscore(INDEX, ids)
        return {
            agent_id
            for agent_id, score in zip(ids, scores, strict=True)
            if score is not None and score > 0
        }

    def list_all(self) -> list[Agent]:
        """Every agent, dead ones included, the newest heartbeat first."""
        with redis_errors(self._redis):
            return self._read(self._redis.zrevrange(INDEX, 0, -1, withscores=True))

    def children(self, agent_id: str) -> list[Agent]:
        """The agents that `agent_id` spawned, the newest heartbeat first; reads all agents."""
        parent_id = check_id(agent_id, "agent_id")
        return [agent for agent in self.list_all() if agent.parent_id == parent_id]

    def sweep_dead(self, limit: int = 1_000) -> list[str]:
        """Mark agents dead that were silent for `dead_after_seconds`; at most `limit` a call.

        Returns the ids newly dead, the longest silent first. They stay readable. Two sweeps at
        once may both return an id; a heartbeat that comes first keeps its agent active.

        Raises:
            InvalidInputError: `limit` is below 1.
        """
        if limit < 1:
            raise InvalidInputError("limit", "1 or more", limit)
        marked: list[str] = []
        with redis_errors(self._redis):
            while len(marked) < limit:
                page = min(_PAGE, limit - len(marked))
                silent = _SILENT(self._redis, [INDEX], [self._dead_after_ms, "0", page])
                if not silent:
                    break
                marked += _ids(_MARK_DEAD(self._redis, [INDEX], [self._dead_after_ms, *silent]))
        return marked

    def remove_stale(self, max_age_seconds: float) -> list[str]:
        """Remove agents, dead or not, whose last heartbeat is older than `max_age_seconds`.

        Returns their ids. Idempotent; of a removal and a heartbeat at once the first wins: the
        agent stays, or `heartbeat` raises AgentNotFoundError.

        Raises:
            InvalidInputError: `max_age_seconds` is negative or above ten years.
        """
        age_ms = _milliseconds(max_age_seconds, "max_age_seconds", least=0)
        removed: list[str] = []
        with redis_errors(self._redis):
            while silent := _SILENT(self._redis, [INDEX], [age_ms, "1", _PAGE]):
                gone = _ids(_FORGET(self._redis, [INDEX], [age_ms, *silent]))
                self._delete_records(gone)
                removed += gone
        return removed

    def _session_of(self, parent_id: str | None, session_id: str | None) -> str:
        if session_id is not None:
            check_id(session_id, "session_id")
        if parent_id is None:
            return session_id or new_session_id()
        inherited = self.get(parent_id).session_id
        if session_id not in (None, inherited):
            raise InvalidInputError("session_id", f"the parent's, {inherited}", session_id)
        return inherited

    def _record(self, role: str, fields: dict[str, str | bytes]) -> str:
        """Write the record under an id that no other agent has; return that id."""
        operation_id = new_operation_id()
        pairs = [part for pair in fields.items() for part in pair]
        while True:
            agent_id = new_agent_id(role)
            arguments = [operation_id, self._retention_ms, *pairs]
            if _RECORD(self._redis, [agent_key(agent_id)], arguments) is not None:
                return agent_id

    def _read(self, scores: Iterable[tuple[bytes, float]]) -> list[Agent]:
        """The agents of index entries; one whose record was deleted meanwhile is left out."""
        newest_first = sorted(scores, key=lambda entry: (-abs(entry[1]), entry[0]))
        agents: list[Agent] = []
        for start in range(0, len(newest_first), _PAGE):
            page = newest_first[start : start + _PAGE]
            pipeline = self._redis.pipeline(transaction=False)
            for member, _ in page:
                pipeline.hgetall(agent_key(member.decode()))
            records = pipeline.execute(raise_on_error=False)
            found = (
                self._readable(member.decode(), score, record)
                for (member, score), record in zip(page, records, strict=True)
                if record
            )
            agents += [agent for agent in found if agent is not None]
        return agents

    def _readable(
        self, agent_id: str, score: float, record: dict[bytes, bytes] | ResponseError
    ) -> Agent | None:
        """The agent, or None if its record is none; one bad record must not hide all others."""
        try:
            with redis_errors(self._redis):
                if isinstance(record, ResponseError):
                    raise record
            return _agent(agent_id, score, record)
        except (UnexpectedAnswerError, UnsupportedFormatError) as error:
            logger.warning("agent %s is left out of a list: %s", agent_id, error)
            return None

    def _delete_records(self, agent_ids: list[str]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for agent_id in agent_ids:
            pipeline.unlink(agent_key(agent_id))
        pipeline.execute()


def _agent(agent_id: str, score: float, record: dict[bytes, bytes]) -> Agent:
    stored_format = record.get(b"format")
    if stored_format != _FORMAT:
        raise UnsupportedFormatError(
            f"agent {agent_id} has format {stored_format!r}; this Baton reads {_FORMAT!r}. "
            "Upgrade Baton to read it."
        )
    try:
        return Agent(
            agent_id=agent_id,
            role=record[b"role"].decode(),
            session_id=record[b"session_id"].decode(),
            parent_id=record[b"parent_id"].decode() or None,
            context_capacity=int(record[b"context_capacity"]),
            metadata=json.loads(record[b"metadata"]),
            registered_at=utc_from_ms(int(record[b"registered_at"])),
            last_heartbeat_at=utc_from_ms(abs(score)),
            state="dead" if score < 0 else "active",
        )
    except (KeyError, ValueError, OverflowError, OSError, RecursionError) as error:
        raise UnexpectedAnswerError(
            f"agent {agent_id}: its record is damaged ({error!r:.100}); "
            "does its key hold what Baton did not put there?"
        ) from error


def _role(value: object) -> str:
    role = check_id(value, "role")
    if len(role) > MAX_ROLE_LENGTH:
        raise InvalidIdError("role", f"at most {MAX_ROLE_LENGTH} characters", role)
    return role


def _capacity(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_CAPACITY:
        raise InvalidInputError("context_capacity", "a whole number of tokens from 1", value)
    return str(value)


def _metadata_json(metadata: object) -> bytes:
    expected = (
        f"a JSON object of at most {MAX_METADATA_BYTES} bytes and {MAX_METADATA_DEPTH} levels"
    )
    if metadata is None:
        return b"{}"
    if not isinstance(metadata, dict):
        raise InvalidInputError("metadata", expected, f"<{type(metadata).__name__}>")
    try:
        data = json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError("metadata", expected, f"<{error}>") from error
    if len(data) > MAX_METADATA_BYTES:
        raise InvalidInputError("metadata", expected, f"<{len(data)} bytes>")
    if not _nests_within(metadata, MAX_METADATA_DEPTH):
        raise InvalidInputError("metadata", expected, "<more levels>")
    return data


def _nests_within(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list | tuple):
        return True
    members = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_nests_within(member, levels - 1) for member in members)


def _milliseconds(seconds: float, name: str, *, least: int = 1) -> int:
    """Whole milliseconds: what scores and expiries count in."""
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not least <= seconds * 1000 <= MAX_SECONDS * 1000:
        expected = f"{least / 1000:g} to {MAX_SECONDS} seconds"
        raise InvalidInputError(name, expected, seconds)
    return round(seconds * 1000)


def _not_found(agent_id: str) -> AgentNotFoundError:
    return AgentNotFoundError(
        f"Agent {agent_id} is not registered; it was never, or it was cleaned up."
    )


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _ids(members: list[bytes]) -> list[str]:
    return [member.decode() for member in members]
