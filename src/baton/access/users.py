"""The users of a deployment: one for each pool and program, and one for each kind of client.

What scripts call is taken from their sources, what Python calls is written here. On database 0 lie
contexts and handoffs, on 1 the broker: Redis' rights know no databases, so keys alone keep them
apart.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from baton import routes
from baton.access import objects
from baton.access.grants import Grant, User, to_read, to_use, to_write
from baton.access.scripts import script_commands

ADMIN: Final = "admin"
SCRIPTS: Final = "scripts"
LAUNCHER: Final = "launcher"
BEAT: Final = "beat"
FLOWER: Final = "flower"
COORDINATOR: Final = "sonnet_coordinator"
WORKER: Final = "haiku_worker"
ARCHIVE_AGENT: Final = "archive_agent"
MONITOR: Final = "monitor"

_TRANSACTIONS: Final = frozenset({"multi", "exec", "discard", "time"})
_SEARCH: Final = frozenset({"scan"})
# Whether it keeps what it is given, which whoever starts on it looks at; and its memory.
_SERVER: Final = frozenset({"info"})


def users(*, broker_database: int = 1) -> tuple[User, ...]:
    """All of them. `broker_database` is the one that Celery's events name."""
    events = objects.event_channel(broker_database)
    return (
        User(ADMIN, "people, and `baton acl`", everything=True),
        _agents(events),
        _context(events),
        _lifecycle(events),
        _archive(events),
        _beat(),
        _flower(events),
        _launcher(),
        User(SCRIPTS, "loads scripts, and does nothing else", keyless=frozenset({
            "script|load", "script|exists",
        })),
        _coordinator(),
        User(
            WORKER, "an agent that reads contexts", (*_reading(), *_counting()), _TRANSACTIONS
        ),
        _archive_agent(),
        _monitor(),
    )  # fmt: skip


def _reading() -> tuple[Grant, ...]:
    """A context, its history and marks; who takes part. A note of each read, and nothing else."""
    return (
        to_read(
            "hmget hget hgetall hexists hlen mget pttl zscore zrange zrevrange", *objects.CONTENT
        ),
        to_read("lrange", objects.CHECKPOINTS),
        to_read("get", objects.DATA_KEY),
        to_write("rpushx", objects.ACCESS),
        to_read("zscore zmscore zrevrange hgetall", *objects.AGENTS),
    )


def _writing() -> tuple[Grant, ...]:
    """Commits, marks, deletion. The audit can be appended to, and is given its expiry."""
    commands = script_commands("baton.store") - {"time"}
    plain = "set get mget hget hmget hgetall hexists hlen hscan pttl zscore zrevrange lrange llen"
    return (
        Grant(commands | set(plain.split()), (*objects.CONTENT, objects.ACCESS)),
        to_use("rpush llen pexpireat", objects.AUDIT),
        to_use("hget hmget hset hlen pexpireat", objects.AUDIT_STATE),
        to_use("pexpireat lindex llen", objects.AUDIT_SEALS),
        _scripts_on(objects.SESSION),
    )


def _auditing() -> tuple[Grant, ...]:
    """Reading and sealing the audit."""
    return (
        to_read("lrange", objects.AUDIT),
        to_use("rpush lrange lindex llen", objects.AUDIT_SEALS),
        to_read("exists", objects.AUDIT_STATE),
    )


def _swarming() -> tuple[Grant, ...]:
    """Registering, heartbeats, locks."""
    commands = script_commands("baton.swarm") - {"time"}
    return (
        Grant(
            commands | {"zmscore", "zrevrange", "unlink", "evalsha"},
            (*objects.AGENTS, objects.LOCKS),
        ),
    )


def _measuring() -> tuple[Grant, ...]:
    """Adding up counts, and reading them."""
    commands = script_commands("baton.metrics") - {"time"}
    plain = "evalsha hgetall zadd zrange zremrangebyscore pexpire"
    return (Grant(commands | set(plain.split()), (objects.METRICS,)),)


def _counting() -> tuple[Grant, ...]:
    """Adding to the counts of all clients, which a store does as it reads; on Redis 7 alone."""
    commands = script_commands("baton.metrics") - {"time"} | {"evalsha"}
    index = frozenset({"zadd", "zremrangebyscore", "pexpire"})
    return (
        Grant(commands, (objects.CLIENT_METRICS,), narrow=True),
        Grant(index, (objects.METRICS_INDEX,), narrow=True),
    )


def _watching() -> tuple[Grant, ...]:
    """How pools, sweeps, queues, agents and handoffs fare; a probe of its own. No contents."""
    return (
        to_read("zrange hgetall", objects.POOLS),
        to_read("get hmget hgetall exists pttl zcard zcount zrange", *objects.SWEEPS),
        to_read("llen lindex exists", *objects.QUEUES),
        replace(
            to_read("hlen zcard zcount zrange", *objects.UNACKED, *objects.UNACKED_OF_ARCHIVE),
            narrow=True,
        ),
        to_read("zscore zmscore zrevrange zrevrangebyscore zrangebyscore zrange zcard zcount "
                "hgetall", *objects.AGENTS),
        to_use("evalsha", objects.AGENTS_INDEX),  # a script that only reads; its calls need rights
        to_read("zrevrange zrange zcard zcount", *objects.HANDOFF_LISTS),
        to_read("hgetall zrange", objects.METRICS),
        to_read("get", objects.ARCHIVE_REPORT),
        Grant(frozenset({"set", "getdel"}), (objects.PROBES,), narrow=True),
    )  # fmt: skip


def _handing_off() -> tuple[Grant, ...]:
    """All that becomes of a handoff."""
    return (Grant(_handoff_commands() | {"evalsha"}, objects.HANDOFFS),)


def _submitting() -> tuple[Grant, ...]:
    """Opening, watching, cancelling and retrying handoffs; results are there to read."""
    return (
        Grant(_handoff_commands() | {"evalsha"}, objects.HANDOFF_BUT_RESULTS),
        to_read("get mget exists pttl", *objects.RESULTS),
        to_write("pexpire", *objects.RESULTS),
    )


def _handoff_commands() -> frozenset[str]:
    plain = (
        "zrevrange zcard zremrangebyrank hset pexpire set get mget del rpush hgetall "
        "xrange xread zrem zadd hmget hget hlen hexists exists"
    )
    return script_commands("baton.handoff") - {"time"} | set(plain.split())


def _calling_models() -> tuple[Grant, ...]:
    """Rates, breakers and warm prefixes of models."""
    commands = script_commands("baton.agents") - {"time"}
    return (Grant(commands | {"evalsha"}, (objects.MODELS,)),)


def _reporting(*pools: str) -> tuple[Grant, ...]:
    """A sign of life on the board of these pools; all of them, if none is named."""
    own = [f"pools:{{{pool}}}*" for pool in pools] or [objects.POOLS]
    commands = "evalsha hgetall hset hdel pexpire"
    index = "zadd zremrangebyscore pexpire"
    board = to_read("zrange hgetall", objects.POOLS)  # for `baton status --pool`
    return (to_use(commands, *own), to_use(index, "pools:index"), board)


def _sweeping() -> tuple[Grant, ...]:
    """Claims of periods, how sweeps went, what is due."""
    commands = script_commands("baton.lifecycle") - {"time"}
    plain = (
        "evalsha set get del pexpire hgetall hset hmget hget zadd zrem zrange zrangebyscore "
        "zremrangebyscore zremrangebyrank zcard zcount zscore zrevrange exists"
    )
    return (Grant(commands | set(plain.split()), objects.SWEEPS),)


def _consuming(*queues: str, unacked: tuple[str, ...] = objects.UNACKED) -> tuple[Grant, ...]:
    """Taking messages, acknowledging them, and putting back those of a worker that died.

    What is put back may be any message in the keys that are shared, so its queue is any of theirs.
    """
    return (
        to_use("brpop rpop lpush rpush llen exists", *queues),
        to_use(
            "zadd zrem zrange zrevrangebyscore zrangebyscore hset hdel hget watch set get pttl "
            "pexpire del evalsha",
            *unacked,
        ),
        to_use("sadd smembers srem exists", objects.BINDINGS),
    )


def _results() -> tuple[Grant, ...]:
    """States of tasks, and the counters of chords."""
    return (
        to_use(
            "evalsha get mget set setex del expire pexpire exists incr rpush llen lrange zadd "
            "zcount zrange sadd sismember pttl",
            *objects.TASK_RESULTS,
        ),
    )


def _enqueueing(*queues: str) -> tuple[Grant, ...]:
    return (
        to_use("lpush llen exists", *queues),
        to_use("sadd smembers", objects.BINDINGS),
    )


def _scripts_on(*keys: str) -> Grant:
    return to_use("evalsha", *keys)


_TREE_QUEUES: Final = (routes.AGENTS, routes.CONTEXT, routes.LIFECYCLE)
_PUBSUB: Final = frozenset({"publish", "subscribe", "unsubscribe", "psubscribe", "punsubscribe"})


def _worker(name: str, purpose: str, events: str, *grants: Grant) -> User:
    return User(
        name,
        purpose,
        (*grants, *_reporting(name), *_results(), *_measuring()),
        _TRANSACTIONS | _PUBSUB | _SERVER | {"unwatch"},
        (events, objects.RESULT_CHANNEL),
    )


def _agents(events: str) -> User:
    return _worker(
        routes.AGENTS,
        "the pool that runs nodes",
        events,
        *_reading(),
        *_handing_off(),
        *_calling_models(),
        *_consuming(*_TREE_QUEUES),
    )


def _context(events: str) -> User:
    return _worker(
        routes.CONTEXT,
        "the pool that starts, joins and merges",
        events,
        *_reading(),
        *_writing(),
        *_swarming(),
        *_handing_off(),
        *_consuming(*_TREE_QUEUES),
    )


def _lifecycle(events: str) -> User:
    worker = _worker(
        routes.LIFECYCLE,
        "the pool of sweeps",
        events,
        *_reading(),
        *_writing(),
        *_auditing(),
        *_swarming(),
        *_handing_off(),
        *_sweeping(),
        *_consuming(*_TREE_QUEUES),
        *_enqueueing(routes.ARCHIVE),
        *_watching(),
    )
    return _with(worker, _SEARCH)


def _archive(events: str) -> User:
    worker = _worker(
        routes.ARCHIVE,
        "the pool that writes the cold store",
        events,
        *_reading(),
        *_writing(),
        *_auditing(),
        *_sweeping(),
        to_use("ltrim", objects.AUDIT, objects.AUDIT_SEALS),  # of what it has carried to its folder
        to_use("get del pexpire", objects.ARCHIVE_REQUESTS),
        to_use("zpopmin zrem", objects.ARCHIVE_WAITING),
        to_use("rpush pexpire", objects.ARCHIVE_ANSWERS),
        to_use("set get", objects.ARCHIVE_REPORT),
        *_consuming(routes.ARCHIVE, unacked=objects.UNACKED_OF_ARCHIVE),
    )
    return _with(worker, _SEARCH)


def _beat() -> User:
    grants = (
        *_enqueueing(routes.LIFECYCLE, routes.ARCHIVE),
        *_reporting(BEAT),
        *_sweeping(),
    )
    return User(BEAT, "sends the sweeps", grants, _TRANSACTIONS | _SERVER)


def _flower(events: str) -> User:
    grants = (
        to_read("llen", *objects.QUEUES),
        to_use("evalsha sadd srem smembers zadd zrem zrangebyscore exists del", objects.BINDINGS),
        to_use("del exists llen", "celeryev.*"),
        *_reporting(FLOWER),
    )
    keyless = _TRANSACTIONS | {"psubscribe", "punsubscribe", "subscribe", "unsubscribe"}
    keyless |= {"script|exists"}  # redis-py asks, before a pipeline with a script of kombu's
    return User(FLOWER, "shows tasks as they run", grants, keyless, (events,))


def _launcher() -> User:
    purpose = "supervises the pools of a machine"
    return User(LAUNCHER, purpose, _reporting(), _TRANSACTIONS | _SERVER)


def _coordinator() -> User:
    grants = (
        *_reading(),
        *_writing(),
        to_read("lrange", objects.AUDIT),
        to_read("lrange", objects.AUDIT_SEALS),
        *_swarming(),
        *_submitting(),
        *_calling_models(),
        *_measuring(),
        *_watching(),
        *_enqueueing(routes.AGENTS, routes.CONTEXT, routes.ARCHIVE),
        to_use("get mget del", *objects.TASK_RESULTS),
        to_write("set", objects.ARCHIVE_REQUESTS),
        to_write("zadd pexpire", objects.ARCHIVE_WAITING),
        to_use("blpop", objects.ARCHIVE_ANSWERS),
    )
    keyless = _TRANSACTIONS | _SEARCH | _SERVER | {"subscribe", "unsubscribe"}
    return User(
        COORDINATOR, "an orchestrator: the library, and `baton`", grants, keyless,
        (objects.RESULT_CHANNEL,),
    )  # fmt: skip


def _archive_agent() -> User:
    board = to_read("zrange hgetall", objects.POOLS)  # whether the pool has the archive
    report = to_use("set get", objects.ARCHIVE_REPORT)
    grants = (
        *_reading(), *_writing(), *_auditing(), *_sweeping(), *_measuring(), board, report,
    )  # fmt: skip
    keyless = _TRANSACTIONS | _SEARCH
    return User(ARCHIVE_AGENT, "archives and restores without a running stack", grants, keyless)


def _monitor() -> User:
    grants = (
        to_read("hgetall hget hmget hlen pttl exists type", objects.METADATA),
        to_read("hget hmget pttl exists type", objects.SESSION),
        to_read("llen", objects.AUDIT, objects.ACCESS),
        to_read("hget hmget hgetall", objects.HANDOFF, objects.BUDGET),
        *_watching(),
    )
    keyless = _TRANSACTIONS | _SEARCH | _SERVER
    return User(MONITOR, "status, health and metrics", grants, keyless)


def _with(user: User, keyless: frozenset[str]) -> User:
    return replace(user, keyless=user.keyless | keyless)
