"""A Redis Cluster as one `redis.Redis`: each command goes to the node that owns its key's slot.

redis-py's own cluster client does not serve here. It refuses EVALSHA within a pipeline, connects
when it is made, raises errors that are no `RedisError`, bounds its retries by their number alone,
and fails on an ASK that names a node it has not heard of. What is used of redis-py is its clients
of single servers, one for each node.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.client import Pipeline
from redis.cluster import RedisCluster
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ResponseError,
    TryAgainError,
)

from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redis.retry import Retry

Address = tuple[str, int]

# What passes: a retry of these, with pauses, is what `ClusterRedis` is to be given.
PASSING_ERRORS: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    TryAgainError,
    ClusterDownError,
)

_MAX_REDIRECTIONS: Final = 8
_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})
_STREAM_READS: Final = frozenset({"XREAD", "XREADGROUP"})
_ANY_NODE: Final = frozenset({"INFO", "PING", "TIME"})
_ABSENT: Final = b":absent"
_OPEN: Final = object()


class ClusterRedis(redis.Redis):
    """The commands of a `redis.Redis`, sent to the masters of a Redis Cluster. Connects lazily.

    A command without a key is refused, but for PING, TIME and INFO, which any node may answer, and
    `scan_iter`, which goes over all nodes. Redirections are followed. A command that failed for a
    passing reason (a node that is gone, a slot on its way) is sent again as long as `retry` allows,
    and then raises that reason; so whatever is sent must bear a repeat, as behind `connect()`.

    Scripts derive keys that Redis is not told of, and a slot migrates key by key: a script might
    stop between two writes, at a key that has left. So each is sent with one more key, which never
    exists: both nodes then refuse it with TRYAGAIN until the slot has moved. Scripts must neither
    count their KEYS nor take them all, and keys that end in `:absent` must not be written.

    Args:
        seeds: where some of its nodes are; the first also serves `pubsub()`.
        make_node: makes the client of one node, without retries of its own and not yet connected.
        retry: begins again after `PASSING_ERRORS`.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        make_node: Callable[[str, int], redis.Redis],
        retry: Retry,
    ) -> None:
        self._slots = _Slots(seeds, make_node)
        self._retry = retry
        super().__init__(connection_pool=self._slots.node(seeds[0]).connection_pool)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command on the node that owns its key.

        Raises:
            RedisError: as a client of a single server.
            InvalidInputError: a command without a key that not just any node can answer.
        """
        command = _Command.of(args, options)
        self.run([command])
        if isinstance(command.answer, Exception):
            raise command.answer
        return command.answer

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ClusterPipeline:
        """A pipeline over any keys, or over those of one slot if it is a transaction."""
        return ClusterPipeline(self, transaction=transaction, shard_hint=shard_hint)

    def scan_iter(
        self,
        match: Any = None,
        count: int | None = None,
        _type: str | None = None,
        **options: Any,
    ) -> Iterator[bytes]:
        """SCAN over all nodes, one after another.

        A key that changes its node meanwhile may come twice, or not at all.
        """
        for address in self._attempt(self._slots.masters):
            cursor: int | None = None
            while cursor != 0:
                page = partial(
                    self._slots.node(address).scan, cursor or 0, match, count, _type, **options
                )
                cursor, keys = self._attempt(page)
                yield from keys

    def masters(self) -> list[redis.Redis]:
        """Clients of the nodes that own slots, for what each has to be asked; not to be closed."""
        addresses: list[Address] = self._attempt(self._slots.masters)
        return [self._slots.node(address) for address in addresses]

    def owner_of(self, key: str) -> redis.Redis:
        """The client of the node that owns the key's slot, as far as is known."""
        slot = key_slot(key.encode())
        owner: Address = self._attempt(lambda: self._slots.owner(slot))
        return self._slots.node(owner)

    def close(self) -> None:
        """Close the connections to all nodes. A command after this connects again."""
        if hasattr(self, "_slots"):  # redis-py closes what is collected, half-made ones as well
            self._slots.close()

    def run(self, commands: Sequence[_Command], *, transaction: bool = False) -> None:
        """Give each command its answer, which may be an error of its own.

        Raises:
            RedisError: no command was answered, for this reason. If some were, the others' answer
                is an error that says why.
        """
        try:
            self._attempt(lambda: self._send_open(commands, transaction=transaction))
        except PASSING_ERRORS as error:
            left = [command for command in commands if command.answer is _OPEN]
            if len(left) == len(commands):
                raise
            # In the place of an answer redis-py's callers expect a ResponseError, nothing else.
            reason = error if isinstance(error, ResponseError) else _down(str(error))
            for command in left:
                command.answer = reason

    def _attempt(self, do: Callable[[], Any]) -> Any:
        return self._retry.call_with_retry(do, self._slots.doubt)

    def _send_open(self, commands: Sequence[_Command], *, transaction: bool) -> None:
        """Send what is not answered yet, and again where that is redirected.

        Raises:
            RedisError: the last of `PASSING_ERRORS` that was met; all nodes had their turn.
        """
        for _ in range(_MAX_REDIRECTIONS):
            obstacle: Exception | None = None
            for (address, asking), group in self._by_node(commands).items():
                send = _transact if transaction else _exchange
                try:
                    answers = send(self._slots.node(address), group, asking=asking)
                except (redis.ConnectionError, redis.TimeoutError) as error:
                    self._slots.suspect(address)
                    obstacle = error
                    continue
                for command, answer in zip(group, answers, strict=True):
                    obstacle = self._settle(command, answer, address) or obstacle
            if obstacle is not None:
                raise obstacle
            if all(command.answer is not _OPEN for command in commands):
                return
        raise TryAgainError("its slot keeps changing nodes", status_code="TRYAGAIN")

    def _by_node(self, commands: Sequence[_Command]) -> dict[tuple[Address, bool], list[_Command]]:
        """Open commands by where they go now, and whether with ASKING; the order is kept."""
        groups: dict[tuple[Address, bool], list[_Command]] = {}
        for command in commands:
            if command.answer is _OPEN:
                asked_of, command.asked_of = command.asked_of, None
                where = (asked_of or self._slots.owner(command.slot), asked_of is not None)
                groups.setdefault(where, []).append(command)
        return groups

    def _settle(self, command: _Command, answer: Any, address: Address) -> Exception | None:
        """Take in a node's answer; what stands in the way, if something does."""
        if isinstance(answer, MovedError):
            command.slot = answer.slot_id
            self._slots.move(answer.slot_id, _redirected(answer, address))
        elif isinstance(answer, AskError):
            command.asked_of = _redirected(answer, address)
        elif isinstance(answer, PASSING_ERRORS):
            return answer
        else:
            command.answer = answer
        return None


class ClusterPipeline(Pipeline):
    """A pipeline of a `ClusterRedis`: one round trip to each node that owns a key of it.

    Commands of one slot are run in the order queued, those of several nodes one node after
    another; answers come in the order queued. A transaction is one slot's. WATCH is refused.
    """

    def __init__(self, client: ClusterRedis, *, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client
        self._is_transaction = transaction

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Run all that is queued, and return the answers.

        Raises:
            RedisError: as `ClusterRedis.run`; with `raise_on_error` also the first that a command
                was answered with.
            InvalidInputError: a transaction over several slots; nothing was sent.
        """
        queued, self.command_stack = self.command_stack, []
        commands = [_Command.of(args, options) for args, options in queued]
        if self._is_transaction:
            _bind_to_one_slot(commands)
        self._client.run(commands, transaction=self._is_transaction)
        answers = [command.answer for command in commands]
        if raise_on_error:
            self.raise_first_error(queued, answers)  # type: ignore[no-untyped-call]
        return answers

    def immediate_execute_command(self, *args: Any, **_options: Any) -> Any:
        """Refuse: what comes here, such as WATCH, needs one connection for several calls."""
        raise InvalidInputError("pipeline", "commands that can be queued", str(args[0]))


def _bind_to_one_slot(commands: Sequence[_Command]) -> None:
    """Send what any node can answer, such as TIME, to where the keys are.

    Raises:
        InvalidInputError: the keys are of several slots.
    """
    slots = {command.slot for command in commands if command.slot is not None}
    if len(slots) > 1:
        raise InvalidInputError("pipeline", "keys of one slot in a transaction", "<several>")
    for command in commands:
        command.slot = next(iter(slots), None)


@dataclass(slots=True)
class _Command:
    """A command on its way. `slot`: None if any node will do. `asked_of`: where an ASK sent it."""

    arguments: tuple[Any, ...]
    options: dict[str, Any]
    slot: int | None
    answer: Any = _OPEN
    asked_of: Address | None = None

    @classmethod
    def of(cls, arguments: tuple[Any, ...], options: dict[str, Any]) -> _Command:
        """The command of these arguments.

        Raises:
            InvalidInputError: it has no key, and not just any node can answer it.
        """
        name = str(arguments[0]).upper()
        if name in _SCRIPTS:
            return cls._script(arguments, options)
        if name in RedisCluster.COMMAND_FLAGS and name not in _ANY_NODE:
            raise InvalidInputError("command", "one with a key, or PING, TIME, INFO", name)
        if name in _ANY_NODE or len(arguments) == 1:
            return cls(arguments, options, None)
        # Where the first argument is no key, the node's MOVED tells the slot.
        position = 1 if name not in _STREAM_READS else arguments.index(b"STREAMS") + 1
        return cls(arguments, options, key_slot(_encoded(arguments[position])))

    @classmethod
    def _script(cls, arguments: tuple[Any, ...], options: dict[str, Any]) -> _Command:
        """A script's call with a key that never exists; why, `ClusterRedis` says."""
        count = int(arguments[2])
        if count == 0:
            return cls(arguments, options, None)
        key = _encoded(arguments[3])
        slot = key_slot(key)
        # Without a tag in it, no other key is derived from it, and its own move is atomic.
        if key_slot(key + _ABSENT) == slot:
            keys, rest = arguments[3 : 3 + count], arguments[3 + count :]
            arguments = (*arguments[:2], count + 1, *keys, key + _ABSENT, *rest)
        return cls(arguments, options, slot)


class _Slots:
    """Which node owns which slot, as far as is known, and the clients of the nodes.

    Holds no lock: each step is one change of a dict or a list, so that threads at worst learn the
    same twice, and a fork finds nothing locked.
    """

    def __init__(
        self, seeds: Sequence[Address], make_node: Callable[[str, int], redis.Redis]
    ) -> None:
        self._seeds = frozenset(seeds)
        self._make_node = make_node
        self._nodes: dict[Address, redis.Redis] = {}
        self._owners: list[Address | None] = []
        self._stale = True
        self._suspects: set[Address] = set()

    def node(self, address: Address) -> redis.Redis:
        """The client of that node."""
        found = self._nodes.get(address)
        return found or self._nodes.setdefault(address, self._make_node(*address))

    def owner(self, slot: int | None) -> Address:
        """Who owns the slot; of no slot, any node.

        Raises:
            ClusterDownError: nobody does.
            RedisError: the node that was asked did not answer.
        """
        if slot is None:
            return random.choice(self.masters())  # noqa: S311
        address = self._known()[slot]
        if address is None:
            raise _down(f"no node serves slot {slot}")
        return address

    def masters(self) -> list[Address]:
        """Every node that owns a slot. Errors: as `owner`."""
        masters = [each for each in dict.fromkeys(self._known()) if each]
        if not masters:
            raise _down("no node serves any slot")
        return masters

    def move(self, slot: int, address: Address) -> None:
        """Note what a MOVED tells."""
        self._owners[slot] = address

    def suspect(self, address: Address) -> None:
        """Note that the node did not answer: the next to be asked for the slots is another."""
        self._suspects.add(address)

    def doubt(self, error: Exception) -> None:
        """Learn the slots anew before the next command, if `error` may come of old ones."""
        if not isinstance(error, TryAgainError):
            self._stale = True

    def close(self) -> None:
        """Close all connections."""
        for node in list(self._nodes.values()):
            node.close()

    def _known(self) -> list[Address | None]:
        """The owners by slot. Who doubted them learns them anew; others go on with the old."""
        if self._stale or not self._owners:
            self._stale = False  # before it asks: a doubt that comes meanwhile counts
            try:
                self._owners = self._learn()
            except redis.RedisError:
                self._stale = True
                raise
        return self._owners

    def _learn(self) -> list[Address | None]:
        """Ask one node. If it does not answer, the caller's retry asks another."""
        known = self._seeds.union(self._nodes)
        trusted = list(known - self._suspects)
        if not trusted:
            trusted = list(known)
            self._suspects.clear()
        asked = random.choice(trusted)  # noqa: S311
        try:
            answer = self.node(asked).execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.TimeoutError):
            self.suspect(asked)
            raise
        owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in answer:
            owners[first : last + 1] = [_address(host, port, asked)] * (last + 1 - first)
        for gone in set(self._nodes) - self._seeds - set(owners):
            self._nodes.pop(gone, None)
        return owners


def _exchange(node: redis.Redis, commands: Sequence[_Command], *, asking: bool) -> list[Any]:
    """The answers of one node, in one round trip."""
    if len(commands) == 1 and not asking:  # the most frequent case, at two thirds of the cost
        return [_ask(node, commands[0])]
    pipeline: Any = node.pipeline(transaction=False)
    for command in commands:
        if asking:  # it holds for one command
            pipeline.execute_command("ASKING")
        pipeline.execute_command(*command.arguments, **command.options)
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    return answers[1::2] if asking else answers


def _ask(node: redis.Redis, command: _Command) -> Any:
    try:
        return node.execute_command(*command.arguments, **command.options)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        return error


def _transact(node: redis.Redis, commands: Sequence[_Command], *, asking: bool) -> list[Any]:
    """The answers of one node, within MULTI and EXEC. Where it refuses one, it refuses all."""
    pipeline: Any
    with node.pipeline(transaction=True) as pipeline:
        if asking:  # before MULTI it holds up to EXEC
            pipeline.immediate_execute_command("ASKING")
        for command in commands:
            pipeline.execute_command(*command.arguments, **command.options)
        try:
            return list(pipeline.execute(raise_on_error=False))
        except (AskError, TryAgainError, ClusterDownError) as refusal:
            return [refusal] * len(commands)


def _redirected(error: AskError, asked: Address) -> Address:
    return _address(error.host, error.port, asked)


def _address(host: str | bytes | None, port: int, asked: Address) -> Address:
    """A node's address; without a host of its own it is on the host that was asked."""
    text = host.decode() if isinstance(host, bytes) else host
    return (text if text not in {None, "", "?"} else asked[0]), int(port)


def _encoded(key: str | bytes) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()


def _down(reason: str) -> ClusterDownError:
    return ClusterDownError(reason, status_code="CLUSTERDOWN")
