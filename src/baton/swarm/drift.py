"""Finds agents whose index entry and record are not both there."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidIdError
from baton.ids import check_id
from baton.redis_client import redis_errors, require_binary
from baton.swarm.keys import INDEX, agent_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

SLICE: Final = 500
SCAN_COUNT: Final = 500
# A registration writes the record, and then the index.
UNTOUCHED_SECONDS: Final = 3_600

_PATTERN: Final = "agents:{*}"


class AgentDrift:
    """Compares the index with the records. Raises StoreUnavailableError where Redis is away."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._redis = require_binary(redis_client)

    def without_record(self) -> Iterator[str]:
        """Agents in the index that have no record."""
        with redis_errors(self._redis):
            entries = self._redis.zscan_iter(INDEX, count=SLICE)
            while part := [member.decode() for member, _ in islice(entries, SLICE)]:
                known = [agent_id for agent_id in part if _is_id(agent_id)]
                for agent_id, there in zip(known, self._exist(known), strict=True):
                    if not there:
                        yield agent_id

    def unknown_records(self) -> Iterator[str]:
        """Agents with a record that is not in the index, and has not been used for an hour."""
        with redis_errors(self._redis):
            names = self._redis.scan_iter(match=_PATTERN, count=SCAN_COUNT)
            while part := list(islice(names, SLICE)):
                ids = [each for each in (_agent_id(name) for name in part) if _is_id(each)]
                if ids:
                    yield from self._untouched(self._unknown(ids))

    def leave(self, agent_id: str) -> bool:
        """Take an agent out of the index, if its record is still gone."""
        with redis_errors(self._redis):
            if any(self._exist([agent_id])):
                return False
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zrem(INDEX, agent_id)
            return bool(pipeline.execute()[0])

    def delete(self, agent_id: str) -> bool:
        """Delete an agent's record, if the index still does not know it."""
        with redis_errors(self._redis):
            if self._redis.zscore(INDEX, agent_id) is not None:
                return False
            return bool(self._redis.delete(agent_key(agent_id)))

    def _exist(self, agent_ids: list[str]) -> list[bool]:
        pipeline = self._redis.pipeline(transaction=False)
        for agent_id in agent_ids:
            pipeline.exists(agent_key(agent_id))
        return [bool(answer) for answer in pipeline.execute()]

    def _unknown(self, agent_ids: list[str]) -> list[str]:
        scores = self._redis.zmscore(INDEX, agent_ids)
        return [agent_id for agent_id, at in zip(agent_ids, scores, strict=True) if at is None]

    def _untouched(self, agent_ids: list[str]) -> Iterator[str]:
        pipeline = self._redis.pipeline(transaction=False)
        for agent_id in agent_ids:
            pipeline.execute_command("OBJECT", "IDLETIME", agent_key(agent_id))
        answers = pipeline.execute(raise_on_error=False)
        for agent_id, idle_seconds in zip(agent_ids, answers, strict=True):
            if isinstance(idle_seconds, int) and idle_seconds >= UNTOUCHED_SECONDS:
                yield agent_id


def _agent_id(name: bytes) -> str:
    return name.decode("utf-8", "replace").removeprefix("agents:{").removesuffix("}")


def _is_id(text: str) -> bool:
    try:
        check_id(text, "agent_id")
    except InvalidIdError:
        return False
    return True
