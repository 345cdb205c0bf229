"""The compose file, the image and Redis' configuration; no Docker engine is needed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

import pytest
import redis
import yaml
from pydantic import BaseModel, ConfigDict, Field

from baton.server_binary import SERVER_ENVIRONMENT, find_server_binary
from config.settings import AppSettings
from waiting import until
from workers.pools import beat_command, pools, worker_command

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "0123456789abcdef"  # noqa: S105 - of a server that lives for one test
POOLS = ("agents", "context", "lifecycle", "archive")
# `$$`, `${NAME}`, `${NAME:-default}` and `${NAME:?message}`.
VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::(?P<sign>[-?])(?P<rest>[^}]*))?\})")


class Part(BaseModel):
    """Of compose's schema only what the file uses: a misspelt key must not go unnoticed."""

    model_config = ConfigDict(extra="forbid")


class Healthcheck(Part):
    test: list[str]
    interval: str
    timeout: str
    retries: int
    start_period: str


class Dependency(Part):
    condition: Literal["service_healthy"]


class EnvFile(Part):
    path: str
    required: bool


class Mount(Part):
    source: str
    target: str


class Logging(Part):
    driver: str


class Service(Part):
    image: str
    command: list[str]
    environment: dict[str, str]
    restart: Literal["unless-stopped"]
    read_only: Literal[True]
    tmpfs: list[str]
    cap_drop: list[str]
    security_opt: list[str]
    logging: Logging
    stop_grace_period: str = Field(pattern=r"^\d+s$")
    user: str | None = None
    working_dir: str | None = None
    build: str | None = None
    pull_policy: Literal["build"] | None = None
    init: bool = False
    depends_on: dict[str, Dependency] = {}
    env_file: list[EnvFile] = []
    configs: list[Mount] = []
    volumes: list[str] = []
    healthcheck: Healthcheck | None = None


class ConfigFile(Part):
    file: str


class Compose(Part):
    name: str
    services: dict[str, Service]
    configs: dict[str, ConfigFile]
    volumes: dict[str, dict[str, str]]


class UnsetVariableError(Exception):
    """Compose would refuse to start."""


def compose(**variables: str) -> Compose:
    """The file as compose reads it where `variables` and a password are set."""
    raw = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    named = {key: value for key, value in raw.items() if not key.startswith("x-")}
    return Compose.model_validate(
        interpolate(named, {"BATON_REDIS_PASSWORD": PASSWORD, **variables})
    )


def interpolate(node, variables):
    if isinstance(node, dict):
        return {key: interpolate(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [interpolate(value, variables) for value in node]
    if isinstance(node, str):
        return VARIABLE.sub(lambda match: _value(match, variables), node)
    return node


def _value(match, variables):
    if match["dollar"]:
        return "$"
    value = variables.get(match["name"], "")
    if not value and match["sign"] == "?":
        raise UnsetVariableError(match["name"])
    return value or match["rest"] or ""


def workers(file: Compose) -> dict[str, Service]:
    """The services that run Baton."""
    return {name: service for name, service in file.services.items() if name != "redis"}


def settings_of(service: Service) -> AppSettings:
    """The settings of its process; nothing of them from this process's environment."""
    given = {name.removeprefix("BATON_").lower(): v for name, v in service.environment.items()}
    return AppSettings.model_validate(given)


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch):
    for name in [name for name in os.environ if name.startswith("BATON_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "BATON_AGENTS_THREADS": "7",
            "BATON_CONTEXT_THREADS": "3",
            "BATON_LIFECYCLE_THREADS": "1",
            "BATON_LOG_LEVEL": "DEBUG",
        },
    ],
    ids=["default", "changed"],
)
def test_compose_runs_the_launchers_commands(variables):
    """One service per pool, and beat, with the commands that their settings give the launcher."""
    services = workers(compose(**variables))
    assert set(services) == {*POOLS, "beat"}
    for service in services.values():
        changed = {name: str(getattr(settings_of(service), name[6:].lower())) for name in variables}
        assert changed == variables
    for pool in pools(settings_of(services["agents"])):
        service = services[pool.name]
        expected = worker_command(pool, f"{pool.name}@%h", settings_of(service))
        assert service.command == ["python", *expected[1:]]
    beat = services["beat"]
    assert beat.command == ["python", *beat_command("beat", settings_of(beat))[1:]]


def test_compose_sets_known_settings_and_leaves_their_defaults():
    """Each BATON_ variable is a field of the settings; only where Redis is differs from default."""
    for service in workers(compose()).values():
        fields = {name.removeprefix("BATON_").lower() for name in service.environment}
        assert fields <= set(AppSettings.model_fields)
        got, default = settings_of(service), AppSettings()
        differing = {name for name in fields if getattr(got, name) != getattr(default, name)}
        assert differing == {"redis_url", "embedded_redis"}
        assert got.embedded_redis == "never"
        assert got.redis_url.get_secret_value() == f"redis://:{PASSWORD}@redis:6379/0"


def test_compose_has_no_default_password():
    """Without BATON_REDIS_PASSWORD, or with an empty one, compose refuses."""
    with pytest.raises(UnsetVariableError, match="BATON_REDIS_PASSWORD"):
        compose(BATON_REDIS_PASSWORD="")


def test_compose_gives_every_service_few_rights():
    """Read-only, no capabilities, no new privileges, no published port, a pinned image, no root."""
    file = compose()
    for service in file.services.values():
        assert service.cap_drop == ["ALL"]
        assert service.security_opt == ["no-new-privileges:true"]
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {service.image for service in workers(file).values()} == {f"baton:{version[1]}"}
    assert_pinned(file.services["redis"].image)
    assert file.services["redis"].user == "redis"
    assert file.services["redis"].volumes == [f"redis:{file.services['redis'].working_dir}"]


def test_compose_waits_for_running_tasks():
    """Docker kills a worker only after its warm shutdown is over."""
    for service in workers(compose()).values():
        grace_seconds = int(service.stop_grace_period.removesuffix("s"))
        assert grace_seconds > settings_of(service).warm_shutdown_seconds


def test_compose_names_only_what_exists():
    """Dependencies, volumes and configuration files are there."""
    file = compose()
    for service in file.services.values():
        assert set(service.depends_on) <= set(file.services)
        assert {mount.source for mount in service.configs} <= set(file.configs)
        assert {volume.partition(":")[0] for volume in service.volumes} <= set(file.volumes)
    for config in file.configs.values():
        assert (ROOT / config.file).is_file()


def test_image_runs_as_a_user_on_pinned_images_with_all_of_the_application():
    """The last USER is not root, bases are pinned, .dockerignore lets through what is copied."""
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines() if line]
    for line in lines:
        if line[0] == "FROM":
            assert_pinned(line[1])
    assert [line[1] for line in lines if line[0] == "USER"][-1] == "10001:10001"
    copies = [line[1:-1] for line in lines if line[0] == "COPY" and "--from" not in line[1]]
    copied = {name for names in copies for name in names}
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert copied >= {"beat_schedule.py", "config", "src", "tasks", "workers"}
    assert all((ROOT / name).exists() for name in copied)


def assert_pinned(image: str) -> None:
    """It has a tag with a minor version at least."""
    assert re.fullmatch(r"[a-z]+:\d+\.\d+[\w.-]*", image), image


@pytest.fixture
def folder():
    """A private folder with a path short enough for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="baton-test-") as name:
        yield Path(name)


def test_redis_starts_with_its_configuration_and_password(folder):
    """Compose's own command, on a socket here: durable, refusing to evict, closed to strangers."""
    service = compose().services["redis"]
    binary = shlex.quote(str(find_server_binary().path))
    conf = ROOT / compose().configs[service.configs[0].source].file
    socket = folder / "redis.sock"
    here = f"{shlex.quote(str(conf))} --port 0 --unixsocket {socket}"
    shell, flags, script = service.command
    script = script.replace("redis-server", binary, 1).replace(service.configs[0].target, here)
    environment = {**os.environ, **SERVER_ENVIRONMENT, **service.environment}
    process = subprocess.Popen(
        [shell, flags, script], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        with redis.Redis(unix_socket_path=str(socket), password=PASSWORD) as client:
            until(lambda: _answers(client), what="redis-server answering")
            got = client.config_get("append*", "maxmemory-policy", "save", "protected-mode")
        with (
            redis.Redis(unix_socket_path=str(socket)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
    finally:
        process.terminate()
        process.wait(timeout=20)
    assert process.returncode == 0, "the signal reaches the server itself, which ends in order"
    assert got["appendonly"] == "yes"
    assert got["appendfsync"] == "everysec"
    assert got["maxmemory-policy"] == "noeviction"
    assert got["save"] == ""
    assert got["protected-mode"] == "yes"


def _answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False
