"""A Redis Cluster of three masters on this machine, and slots of it moved while others work.

A module of its own, as `waiting` is.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.retry import Retry

from waiting import until

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

HOST = "127.0.0.1"
BUS_OFFSET = 10_000
NODES = 3
# The shell holds the server and waits for the end of its own input, which this process holds: so
# the server dies with us, however we die, on any system.
GUARD = '"$@" </dev/null >/dev/null 2>&1 & server=$!; echo $server; cat >/dev/null; kill -9 $server'


class ClusterNode:
    """One redis-server in cluster mode. It keeps an append-only file, so a kill loses nothing."""

    def __init__(self, binary: str, folder: Path, port: int) -> None:
        self.binary = binary
        self.folder = folder
        self.port = port
        self.client = redis.Redis(host=HOST, port=port, retry=Retry(NoBackoff(), 0))
        self.guard: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def start(self) -> None:
        self.guard = subprocess.Popen(
            [
                "/bin/sh", "-c", GUARD, "guard",
                self.binary, "--bind", HOST, "--port", str(self.port), "--cluster-enabled", "yes",
                "--cluster-node-timeout", "5000", "--dir", str(self.folder), "--save", "",
                "--appendonly", "yes", "--maxmemory-policy", "noeviction",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert self.guard.stdout is not None
        self.pid = int(self.guard.stdout.readline())
        until(self.answers, what=f"the node on port {self.port} answering")

    def stop(self) -> None:
        """Kill the server, as a power cut would."""
        if self.guard is not None:
            self.guard.communicate()
            self.guard = None
            until(lambda: not self.answers(), what=f"the node on port {self.port} gone")

    def signal(self, what: signal.Signals) -> None:
        os.kill(self.pid, what)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def info(self) -> dict[str, str]:
        return dict(self.client.execute_command("CLUSTER INFO"))

    @property
    def id(self) -> str:
        return self.client.execute_command("CLUSTER MYID").decode()


class Cluster:
    """Three masters, no replicas; every slot is served."""

    def __init__(self, binary: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="baton-cluster-"))
        self.nodes = []
        for port in free_ports(NODES):
            folder = self.folder / str(port)
            folder.mkdir()
            self.nodes.append(ClusterNode(binary, folder, port))

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def start(self) -> None:
        share = -(-REDIS_CLUSTER_HASH_SLOTS // NODES)
        for number, node in enumerate(self.nodes):
            node.start()
            first = number * share
            slots = range(first, min(first + share, REDIS_CLUSTER_HASH_SLOTS))
            node.client.execute_command("CLUSTER ADDSLOTS", *slots)
            node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.client.execute_command("CLUSTER MEET", HOST, self.nodes[0].port)
        self.settle()

    def settle(self) -> None:
        """Wait until all nodes serve, and agree on who owns what."""
        until(self._agrees, what="a cluster that serves", deadline_seconds=60)

    def _agrees(self) -> bool:
        infos = [node.info() for node in self.nodes if node.answers()]
        healthy = all(info["cluster_state"] == "ok" for info in infos)
        return healthy and len(infos) == NODES and len({self._slots(n) for n in self.nodes}) == 1

    def _slots(self, node: ClusterNode) -> str:
        return repr(sorted(node.client.execute_command("CLUSTER SLOTS")))

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
            node.client.close()
        shutil.rmtree(self.folder)

    def owner(self, slot: int) -> ClusterNode:
        """Who serves the slot, as the first node knows it."""
        for first, last, (_, port, *_), *_ in self.nodes[0].client.execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise LookupError(slot)

    def other(self, node: ClusterNode) -> ClusterNode:
        return next(each for each in self.nodes if each is not node)

    def session_on(self, node: ClusterNode, name: str = "s") -> str:
        """An id of a session that lives on that node."""
        ids = (f"{name}-{number}" for number in range(10_000))
        return next(each for each in ids if self.owner(slot_of(each)) is node)

    def migration(self, slot: int, target: ClusterNode) -> Iterator[str]:
        """Move the slot as an operator does; stops before each key, and before the slot's end."""
        source = self.owner(slot)
        target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        yield "begun"
        while keys := source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
            (key,) = keys
            source.client.execute_command("MIGRATE", HOST, target.port, key, 0, 5000)
            yield "moved"
        for node in (target, source, *self.nodes):
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", target.id)
        yield "done"


def slot_of(session_id: str) -> int:
    """The slot of all keys of a session."""
    return key_slot(session_id.encode())


def free_ports(count: int) -> list[int]:
    """Ports that are free, as are those of their cluster buses; all below the ephemeral ones."""
    found: list[int] = []
    candidates = iter(random.sample(range(12_000, 22_000), 2_000))
    while len(found) < count:
        port = next(candidates)
        if is_free(port) and is_free(port + BUS_OFFSET):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
