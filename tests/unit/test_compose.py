"""The compose file, the image and Redis' configuration; no Docker engine is needed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

import pytest
import redis
import yaml
from pydantic import BaseModel, ConfigDict, Field

from baton.access.rules import aclfile, rules
from baton.access.users import users
from baton.server_binary import SERVER_ENVIRONMENT, find_server_binary
from config.settings import AppSettings
from waiting import until
from workers.pools import beat_command, flower_command, pools, worker_command

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "0123456789abcdef"  # noqa: S105 - of a server that lives for one test
POOLS = ("agents", "context", "lifecycle", "archive")
# Whom no container logs in as; without a password there is no such user.
CLIENTS = ("sonnet_coordinator", "haiku_worker", "archive_agent")
SERVERS_USERS = ("admin", *POOLS, "beat", "flower", "scripts", "monitor")
SECRETS = {
    **{f"REDIS_PASSWORD_{user.upper()}": f"{PASSWORD}-{user}" for user in SERVERS_USERS},
    "BATON_MASTER_KEYS": f"first:{'0f' * 32}",
    "BATON_FLOWER_PASSWORD": "correct-horse-battery",
}
# Not Baton's, and what prepares a volume and ends.
OTHERS = {"redis", "chroma", "chroma-folder"}
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
    start_interval: str | None = None


class Dependency(Part):
    condition: Literal["service_healthy", "service_completed_successfully"]


class Build(Part):
    context: str
    target: str
    args: dict[str, str] = {}


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
    environment: dict[str, str] = {}
    restart: Literal["unless-stopped", "on-failure"]
    read_only: Literal[True]
    tmpfs: list[str]
    cap_drop: list[str]
    security_opt: list[str]
    logging: Logging
    stop_grace_period: str = Field(pattern=r"^\d+s$")
    user: str | None = None
    working_dir: str | None = None
    build: Build | None = None
    pull_policy: Literal["build"] | None = None
    init: bool = False
    depends_on: dict[str, Dependency] = {}
    env_file: list[EnvFile] = []
    configs: list[Mount] = []
    volumes: list[str] = []
    networks: list[str] = ["default"]
    network_mode: str | None = None
    ports: list[str] = []
    healthcheck: Healthcheck | None = None


class ConfigFile(Part):
    file: str


class Network(Part):
    internal: bool = False


class Compose(Part):
    name: str
    services: dict[str, Service]
    networks: dict[str, Network]
    configs: dict[str, ConfigFile]
    volumes: dict[str, dict[str, str]]


class UnsetVariableError(Exception):
    """Compose would refuse to start."""


def compose(**variables: str) -> Compose:
    """The file as compose reads it where `variables` and the secrets are set."""
    raw = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    named = {key: value for key, value in raw.items() if not key.startswith("x-")}
    return Compose.model_validate(interpolate(named, SECRETS | variables))


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
    return {name: service for name, service in file.services.items() if name not in OTHERS}


def settings_of(service: Service) -> AppSettings:
    """The settings of its process; nothing of them from this process's environment."""
    return AppSettings.model_validate(given_to(service))


def given_to(service: Service) -> dict[str, str]:
    """Its settings by their fields, without those that it is given empty: they count as unset."""
    return {
        name.removeprefix("BATON_").lower(): value
        for name, value in service.environment.items()
        if name.startswith("BATON_") and value
    }


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
    """One service per pool, beat and Flower, with the commands that the launcher gives them."""
    services = workers(compose(**variables))
    assert set(services) == {*POOLS, "beat", "flower"}
    for service in services.values():
        changed = {name: str(getattr(settings_of(service), name[6:].lower())) for name in variables}
        assert changed == variables
    for pool in pools(settings_of(services["agents"])):
        service = services[pool.name]
        expected = worker_command(pool, f"{pool.name}@%h", settings_of(service))
        assert service.command == ["python", *expected[1:]]
    beat = services["beat"]
    assert beat.command == ["python", *beat_command("beat", settings_of(beat))[1:]]
    assert services["flower"].command == ["python", *flower_command("flower")[1:]]


def test_compose_sets_known_settings_and_leaves_their_defaults():
    """Each BATON_ variable is a field of the settings; those that differ from default are few."""
    of_all = {"redis_url", "redis_plaintext", "embedded_redis", "events"}
    own = {
        **{pool: {"master_keys"} for pool in POOLS},
        "archive": {"master_keys", "chroma_url"},
        "beat": {"scripts_password"},
        "flower": {"flower_address", "flower_password"},
    }
    for name, service in workers(compose()).items():
        fields = set(given_to(service))
        assert fields <= set(AppSettings.model_fields)
        got, default = settings_of(service), AppSettings()
        differing = {field for field in fields if getattr(got, field) != getattr(default, field)}
        assert differing == of_all | own[name]
        assert got.embedded_redis == "never"
        login = f"{name}:{PASSWORD}-{name}"
        assert got.redis_url.get_secret_value() == f"redis://{login}@redis:6379/0"


def test_compose_gives_secrets_to_whom_they_concern():
    """Flower alone has its password, and neither it nor beat has keys, whatever .env holds."""
    services = workers(compose())
    for name, service in services.items():
        assert (service.environment["BATON_FLOWER_PASSWORD"] != "") == (name == "flower")
        assert (service.environment["BATON_MASTER_KEYS"] != "") == (name in POOLS)
    for name in ("beat", "flower"):
        assert services[name].environment["BATON_ANTHROPIC_API_KEY"] == ""
    assert not [name for name in OTHERS if compose().services[name].env_file]


def test_compose_gives_each_container_its_own_redis_password_alone():
    """Whatever .env holds: a variable that a service sets goes before it."""
    everyones = {f"REDIS_PASSWORD_{user.upper()}" for user in (*SERVERS_USERS, *CLIENTS)}
    for name, service in workers(compose()).items():
        assert {key for key in service.environment if key in everyones} == everyones
        own = {name, "scripts"} if name == "beat" else {name}
        given = " ".join(service.environment.values())
        assert {user for user in SERVERS_USERS if f"{PASSWORD}-{user}" in given} == own


def test_compose_has_the_users_of_this_version():
    """`baton acl render --without-passwords -o config/redis/users.acl` makes the file."""
    expected = aclfile((user.name, rules(user, "7")) for user in users())
    assert (ROOT / compose().configs["redis-users"].file).read_text() == expected


@pytest.mark.parametrize("secret", SECRETS)
def test_compose_has_no_default_password(secret):
    """Without a secret, or with an empty one, compose refuses."""
    with pytest.raises(UnsetVariableError, match=secret):
        compose(**{secret: ""})


def test_compose_gives_every_service_few_rights():
    """Read-only, no capabilities, no new privileges, a pinned image, no root; one port, local."""
    file = compose()
    for service in file.services.values():
        assert service.cap_drop == ["ALL"]
        assert service.security_opt == ["no-new-privileges:true"]
        assert service.user in {None, "redis", "10001:10001"}
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    images = {name: service.image for name, service in workers(file).items()}
    assert images.pop("archive") == f"baton-archive:{version[1]}"
    assert {*images.values(), file.services["chroma-folder"].image} == {f"baton:{version[1]}"}
    for name in ("redis", "chroma"):
        assert_pinned(file.services[name].image)
    assert file.services["redis"].user == "redis"
    assert file.services["redis"].volumes == [f"redis:{file.services['redis'].working_dir}"]
    ports = {name: service.ports for name, service in file.services.items() if service.ports}
    assert ports == {"flower": ["127.0.0.1:5555:5555"]}


def test_compose_keeps_chroma_to_the_archive():
    """A server without a login shares a network with the one pool that uses it, and no other."""
    file = compose()
    assert file.networks["archive"].internal
    reach = {name for name, service in file.services.items() if "archive" in service.networks}
    assert reach == {"chroma", "archive"}
    assert file.services["chroma"].networks == ["archive"]
    wanted = re.search(r'"chromadb>=(\d+\.\d+)', (ROOT / "pyproject.toml").read_text())
    assert file.services["chroma"].image.startswith(f"chromadb/chroma:{wanted[1]}.")


def test_compose_checks_the_health_of_every_service():
    """Each that stays has a check; a pool's asks for its own container's worker."""
    file = compose()
    checks = {name: service.healthcheck for name, service in file.services.items()}
    assert {name for name, check in checks.items() if check is None} == {"chroma-folder"}
    for name in POOLS:
        assert checks[name].test == ["CMD", "baton", "status", "--pool", name, "--here"]
    for name in ("beat", "flower"):
        assert checks[name].test == ["CMD", "baton", "status", "--pool", name]


@pytest.mark.parametrize(("old", "new", "code"), [("", "", 0), ("healthcheck:", "healthchek:", 1)])
def test_compose_file_obeys_the_official_schema(tmp_path, old, new, code):
    """The schema of compose-spec takes the file as it is, and would not take a misspelt key."""
    copy = tmp_path / "docker-compose.yml"
    copy.write_text((ROOT / "docker-compose.yml").read_text().replace(old, new, 1))
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", copy],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout


def test_compose_waits_for_running_tasks():
    """Docker kills a worker only after its warm shutdown is over."""
    for service in workers(compose()).values():
        grace_seconds = int(service.stop_grace_period.removesuffix("s"))
        assert grace_seconds > settings_of(service).warm_shutdown_seconds


def test_compose_names_only_what_exists():
    """Dependencies, volumes, networks, stages of the image and configuration files are there."""
    file = compose()
    for service in file.services.values():
        assert set(service.depends_on) <= set(file.services)
        assert {mount.source for mount in service.configs} <= set(file.configs)
        assert {volume.partition(":")[0] for volume in service.volumes} <= set(file.volumes)
        assert set(service.networks) <= set(file.networks)
        if service.build is not None:
            assert service.build.target in stages()
    for config in file.configs.values():
        assert (ROOT / config.file).is_file()


def test_image_runs_as_a_user_on_pinned_images_with_all_of_the_application():
    """No image runs as root, bases are pinned, .dockerignore lets through what is copied."""
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines() if line]
    for base in stages().values():
        if base not in stages():
            assert_pinned(base)
    assert {name: stages()[name] for name in ("archive", "pools")} == {
        "archive": "base",
        "pools": "base",
    }
    assert list(stages())[-1] == "pools", "the default is without torch"
    assert [line[1] for line in lines if line[0] == "USER"][-1] == "10001:10001"
    copies = [line[1:-1] for line in lines if line[0] == "COPY" and "--from" not in line[1]]
    copied = {name for names in copies for name in names}
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert copied >= {"beat_schedule.py", "config", "src", "tasks", "workers"}
    assert all((ROOT / name).exists() for name in copied)


def stages() -> dict[str, str]:
    """The Dockerfile's stages and what each begins with."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return {line.split()[3]: line.split()[1] for line in lines if line.startswith("FROM ")}


def assert_pinned(image: str) -> None:
    """It has a tag with a minor version at least."""
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+[\w.-]*", image), image


@pytest.fixture
def folder():
    """A private folder with a path short enough for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="baton-test-") as name:
        yield Path(name)


def test_redis_starts_with_its_configuration_and_users(folder):
    """Compose's own command, on a socket here: durable, refusing to evict, closed to strangers."""
    service = compose().services["redis"]
    binary = shlex.quote(str(find_server_binary().path))
    socket = folder / "redis.sock"
    shell, flags, script = service.command
    # First: this checkout, or the server, may be somewhere in /tmp itself.
    script = script.replace("/tmp/", f"{folder}/")  # noqa: S108
    for mount in service.configs:
        file = shlex.quote(str(ROOT / compose().configs[mount.source].file))
        script = script.replace(mount.target, file)
    script = script.replace("redis-server", f"{binary}", 1)
    script = f"{script.rstrip()} --port 0 --unixsocket {socket}"
    environment = {**os.environ, **SERVER_ENVIRONMENT, **service.environment}
    process = subprocess.Popen(
        [shell, flags, script], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    admin = {"username": "admin", "password": f"{PASSWORD}-admin"}
    try:
        with redis.Redis(unix_socket_path=str(socket), **admin) as client:
            until(lambda: _answers(client), what="redis-server answering")
            got = client.config_get("append*", "maxmemory-policy", "save", "protected-mode")
            known = set(client.acl_users())
        with (
            redis.Redis(unix_socket_path=str(socket)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
    finally:
        process.terminate()
        process.wait(timeout=20)
    assert process.returncode == 0, "the signal reaches the server itself, which ends in order"
    assert known == {"default", *SERVERS_USERS}
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


def test_chroma_starts_with_its_command_and_is_found_healthy(tmp_path):
    """Compose's own command and health check, on a port and folder of the test."""
    chroma = compose().services["chroma"]
    binary = Path(sys.executable).with_name("chroma")
    bash = shutil.which("bash")
    if not binary.exists() or bash is None:
        if os.environ.get("CI"):
            pytest.fail("chroma or bash is missing; CI must have them")
        pytest.skip("chroma or bash is missing")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    here = {"0.0.0.0": "127.0.0.1", "8000": port, "/data": str(tmp_path)}  # noqa: S104
    command = [str(binary), *(here.get(word, word) for word in chroma.command)]
    kind, shell, flag, script = chroma.healthcheck.test
    assert (kind, shell, flag) == ("CMD", "bash", "-c")
    check = [bash, flag, script.replace("8000", port)]

    def healthy() -> bool:
        return subprocess.run(check, capture_output=True, check=False).returncode == 0

    assert not healthy()
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        until(healthy, what="a healthy Chroma")
    finally:
        process.terminate()
        process.wait(timeout=20)
    assert list(tmp_path.iterdir())
    assert not healthy()
