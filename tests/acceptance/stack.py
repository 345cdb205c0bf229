"""Baton's own pools as processes: started with their real command lines, killed at will."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import redis
from nodes import HERE, ROOT, ProcessContainer, RedisProcess

from config.settings import AppSettings
from workers.pools import Pool, beat_command, pools, worker_command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class CeleryProcess(ProcessContainer):
    """A worker or beat of `workers.app`."""

    def __init__(
        self, name: str, command: list[str], ready_prompt: str, folder: Path, env: Mapping[str, str]
    ) -> None:
        super().__init__(name, command, folder, env)
        self.ready_prompt = ready_prompt

    def ready(self) -> bool:
        """Whether it has said so since it was started last."""
        return self.status == "running" and self.ready_prompt in self.life_log()


class Stack:
    """Pools, and beat if asked for, over one Redis.

    `env` is added to theirs, e.g. `BATON_LEASE_SECONDS`; nothing called `BATON_…` is inherited.
    Runner functions are found beside the tests (`runner_functions.py`).
    """

    def __init__(self, server: RedisProcess, folder: Path, env: Mapping[str, str]) -> None:
        self.redis = server
        self.folder = folder
        self.state_dir = folder / "state"
        self.env = {
            "BATON_REDIS_URL": server.url,
            "BATON_STATE_DIR": str(self.state_dir),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE))),
            **env,
        }
        self.settings = AppSettings.model_validate(
            {
                key.removeprefix("BATON_").lower(): value
                for key, value in self.env.items()
                if key.startswith("BATON_") and key != "BATON_RUNNER_FUNCTIONS"
            }
        )
        self.processes: dict[str, CeleryProcess] = {}
        self._clients: list[redis.Redis] = []

    @property
    def url(self) -> str:
        """The store's, for a client's `BATON_REDIS_URL`."""
        return self.redis.url

    def client(self) -> redis.Redis:
        """A binary client of the store, closed with the stack."""
        client = redis.Redis.from_url(self.url)
        self._clients.append(client)
        return client

    def start(self, *names: str, beat: bool = False) -> None:
        """Start these pools (all but the archive, if none is named) and wait for all of them."""
        known = {pool.name: pool for pool in pools(self.settings)}
        chosen = names or tuple(name for name in known if name != "archive")
        started = [self._launch_pool(known[name]) for name in chosen]
        if beat:
            command = beat_command("beat@test", self.settings)
            started.append(self._launch("beat", command, "beat: Starting"))
        for process in started:
            process.wait_ready()

    def start_without_waiting(self, name: str) -> None:
        """Start one pool and go on, whether it can work or not."""
        known = {pool.name: pool for pool in pools(self.settings)}
        self._launch_pool(known[name])

    def broker_client(self) -> redis.Redis:
        """A binary client of the broker's database, closed with the stack."""
        client = redis.Redis(unix_socket_path=urlsplit(self.url).path, db=1)
        self._clients.append(client)
        return client

    def kill(self, name: str, how: str | int = "SIGKILL") -> None:
        """Send a signal to a pool (or `beat`); after SIGKILL it is gone when this returns."""
        self.processes[name].kill(how)

    def revive(self, name: str) -> None:
        """Start a pool that has ended, as its supervisor would."""
        self.processes[name].start()

    def restart_redis(self, how: str | int = "SIGTERM") -> None:
        """End Redis by a signal and start it again over the same data (AOF, `everysec`)."""
        self.redis.stop(how)
        self.redis.start()

    def logs(self, name: str | None = None) -> str:
        """What a pool wrote; of all of them if none is named."""
        chosen = [self.processes[name]] if name else self.processes.values()
        return "\n".join(f"==> {each.name} <==\n{each.logs()}" for each in chosen)

    def teardown(self) -> None:
        """Stop everything but Redis; fail if a process did not stop, or left one behind."""
        for client in self._clients:
            client.close()
        failures = []
        for process in reversed(self.processes.values()):
            try:
                process.teardown()
            except AssertionError as failure:
                failures.append(str(failure))
        assert not failures, "\n".join(failures)

    def _launch_pool(self, pool: Pool) -> CeleryProcess:
        node = f"{pool.name}@test"
        return self._launch(pool.name, worker_command(pool, node, self.settings), f"{node} ready.")

    def _launch(self, name: str, command: list[str], ready_prompt: str) -> CeleryProcess:
        # Where there are Redis users, each process has its own, as the launcher has it.
        user = {"BATON_REDIS_USER": name} if "BATON_ACL_DIR" in self.env else {}
        process = CeleryProcess(name, command, ready_prompt, self.folder, {**self.env, **user})
        self.processes[name] = process
        process.launch()
        return process
