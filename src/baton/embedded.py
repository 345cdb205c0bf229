"""A private Redis server in a folder, shared by the processes that attach to it.

Who lives is told by locks the kernel drops at a process's death, never by a pid file:

- `start.lock`: held while a server is started or stopped; one at a time.
- `users.lock`: held shared by everyone attached. Who leaves and gets it exclusively was the last,
  and stops the server.
- `server.lock`: inherited and held by the server itself. Free means that no server is left;
  taken, that one lives whatever became of its parent.

So a parent that is killed leaves a server which the next one to attach finds, uses and, as its
last user, stops. No signal is ever sent to a process id: the server is stopped through its own
socket, so a number that has passed to a stranger hurts nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from baton.errors import EmbeddedRedisError
from baton.server_binary import (
    SERVER_ENVIRONMENT,
    ServerBinary,
    ServerVersion,
    find_server_binary,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["EmbeddedRedis", "ServerBinary", "find_server_binary", "running_url", "server_folder"]

_SOCKET_PATH_BYTES: Final = 100  # 104 on macOS, 108 on Linux, the final NUL included
_ANSWER_SECONDS: Final = 30.0
_LOADING_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
_LOG_BYTES: Final = 1024 * 1024
_SOCKET_NAME: Final = "redis.sock"
_FORMAT: Final = 1

_CONFIG: Final = """\
# Written by Baton at each start; changes here are lost.
port 0
unixsocket {socket}
unixsocketperm 700
daemonize yes
pidfile {pid_file}
dir {data}
logfile {log}
loglevel notice
databases 16
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
"""


def server_folder(state_dir: Path) -> Path:
    """Where the embedded server of a state folder lives."""
    return state_dir / "redis"


def running_url(folder: Path) -> str | None:
    """The `unix://` URL of a server that runs in `folder` and answers; None without one.

    Starts, creates and locks nothing.
    """
    files = _Files(folder.resolve())
    socket = files.find_socket()
    if socket is None or not _is_held(files.server_lock) or _ask(socket) is None:
        return None
    return _url(socket)


class EmbeddedRedis:
    """The server of one folder, started if need be. Not for use by several threads at once.

    `with EmbeddedRedis(folder) as url:` attaches and detaches.
    """

    def __init__(self, folder: Path, *, binary: ServerBinary | None = None) -> None:
        self._files = _Files(folder.resolve())
        self._binary = binary
        self._users: int | None = None

    def __enter__(self) -> str:
        return self.attach()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._files.log

    def attach(self) -> str:
        """Use the folder's server, starting it if none runs; returns its `unix://` URL.

        Waits for a start or stop under way elsewhere, and for the data to be loaded. Attaching
        twice is attaching once.

        Raises:
            EmbeddedRedisError: no server binary; data of a newer server; a server that will not
                start, with its last log lines (the data stays as it is); a folder not our own.
        """
        _make_private(self._files.folder)
        with _locked(self._files.start_lock):
            if self._users is None:
                self._users = _open_lock(self._files.users_lock)
                fcntl.flock(self._users, fcntl.LOCK_SH)
            try:
                return self._ensure_server()
            except EmbeddedRedisError:
                self._leave()
                raise
            except BaseException:  # Ctrl-C: what we started must not stay behind
                self._leave_or_stop()
                raise

    def ensure_running(self) -> None:
        """Start the server again if it died while attached.

        Raises:
            EmbeddedRedisError: as `attach`.
        """
        if not _is_held(self._files.server_lock):
            with _locked(self._files.start_lock):
                self._ensure_server()

    def detach(self) -> None:
        """Stop using the server; the last to do so stops it, with all it holds on disk.

        Raises:
            EmbeddedRedisError: it did not stop in time; names the process.
        """
        if self._users is None:
            return
        with _locked(self._files.start_lock):
            self._leave_or_stop()

    def _leave_or_stop(self) -> None:
        try:
            if self._users is not None and _try_lock(self._users, fcntl.LOCK_EX):
                self._stop()
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None

    def _ensure_server(self) -> str:
        socket = self._files.find_socket()
        if socket is None or not self._settled(socket):
            socket = self._files.make_socket()
            log_bytes = _rotate(self._files.log)
            self._start(socket)
            if not self._settled(socket):
                raise self._refused(log_bytes)
        return _url(socket)

    def _start(self, socket: Path) -> None:
        binary = self._binary or find_server_binary()
        self._claim_data(binary.version)
        # Safe: without the server's lock no server lives, so what lies there is a dead one's.
        socket.unlink(missing_ok=True)
        self._files.pid_file.unlink(missing_ok=True)
        self._files.write_config(socket)
        lock = _open_lock(self._files.server_lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            started = subprocess.run(
                [str(binary.path), str(self._files.config)],
                env=SERVER_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=(lock,),
                check=False,
            )
        except OSError as error:
            raise EmbeddedRedisError(f"{binary.path} did not start ({error})") from error
        finally:
            os.close(lock)  # closed, not unlocked: the server holds the same open file
        if started.returncode != 0:
            said = (started.stderr or started.stdout).decode(errors="replace").strip()
            raise EmbeddedRedisError(f"{binary.path} refused its configuration ({said})")

    def _claim_data(self, version: ServerVersion) -> None:
        """Refuse data that this server would not load, or worse, would overlook."""
        self._files.data.mkdir(mode=0o700, exist_ok=True)
        written_by = self._files.read_writer()
        if written_by is not None and not version.can_read(written_by):
            raise EmbeddedRedisError(
                f"The data in {self._files.data} was written by {written_by}, which {version} "
                f"cannot read; install {written_by} or newer, or set BATON_STATE_DIR to a new "
                "folder. Nothing was changed."
            )
        self._files.write_writer(version)

    def _settled(self, socket: Path) -> bool:
        """Wait until the server answers (True) or is no more (False).

        Raises:
            EmbeddedRedisError: it lives and does not answer.
        """
        begin = time.monotonic()
        limit = _ANSWER_SECONDS
        while _is_held(self._files.server_lock):
            info = _ask(socket)
            if info is not None and not info.get("loading"):
                return True
            if info is not None:
                limit = _LOADING_SECONDS
            if time.monotonic() - begin > limit:
                raise EmbeddedRedisError(
                    f"The Redis server of {self._files.folder} (process {self._files.read_pid()}) "
                    f"runs but did not answer for {limit:.0f} s; see {self._files.log}"
                )
            time.sleep(_POLL_SECONDS)
        return False

    def _refused(self, log_bytes: int) -> EmbeddedRedisError:
        with self._files.log.open("rb") as log:
            log.seek(log_bytes)
            lines = log.read().decode(errors="replace").splitlines()
        last = "\n  ".join(lines[-8:])
        return EmbeddedRedisError(
            f"The Redis server of {self._files.folder} stopped while starting; its data was left "
            f"as it is. The end of {self._files.log}:\n  {last}"
        )

    def _stop(self) -> None:
        socket = self._files.find_socket()
        if socket is not None and _is_held(self._files.server_lock):
            _shut_down(socket)
        end = time.monotonic() + _STOP_SECONDS
        while _is_held(self._files.server_lock):
            if time.monotonic() > end:
                raise EmbeddedRedisError(
                    f"The Redis server of {self._files.folder} (process {self._files.read_pid()}) "
                    f"did not stop within {_STOP_SECONDS:.0f} s; see {self._files.log}"
                )
            time.sleep(_POLL_SECONDS)
        self._files.drop_socket()


@dataclass(frozen=True, slots=True)
class _Files:
    """What lies where in the server's folder."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "redis.conf"

    @property
    def log(self) -> Path:
        return self.folder / "redis.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / "redis.pid"

    @property
    def start_lock(self) -> Path:
        return self.folder / "start.lock"

    @property
    def users_lock(self) -> Path:
        return self.folder / "users.lock"

    @property
    def server_lock(self) -> Path:
        return self.folder / "server.lock"

    @property
    def _writer(self) -> Path:
        return self.folder / "written-by.json"

    @property
    def _socket_pointer(self) -> Path:
        return self.folder / "socket-folder"

    def find_socket(self) -> Path | None:
        """The socket's path; None where it would be too long and no short one is set up."""
        here = self.folder / _SOCKET_NAME
        if len(os.fsencode(here)) <= _SOCKET_PATH_BYTES:
            return here
        try:
            elsewhere = Path(self._socket_pointer.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return elsewhere / _SOCKET_NAME if _is_private(elsewhere) else None

    def make_socket(self) -> Path:
        """As `find_socket`, setting up a private folder of a short path where it is needed."""
        found = self.find_socket()
        if found is not None:
            return found
        elsewhere = tempfile.mkdtemp(prefix="baton-")
        _write(self._socket_pointer, elsewhere)
        return Path(elsewhere) / _SOCKET_NAME

    def drop_socket(self) -> None:
        """Remove the short-path folder, if there is one. The server removed its socket."""
        socket = self.find_socket()
        if socket is not None and socket.parent != self.folder:
            socket.unlink(missing_ok=True)
            socket.parent.rmdir()
            self._socket_pointer.unlink()

    def write_config(self, socket: Path) -> None:
        """Write the server's configuration for a socket at `socket`."""
        text = _CONFIG.format(
            socket=_quoted(socket),
            pid_file=_quoted(self.pid_file),
            data=_quoted(self.data),
            log=_quoted(self.log),
        )
        _write(self.config, text)

    def read_writer(self) -> ServerVersion | None:
        """Which server the data was last opened by; None for a new folder."""
        try:
            record = json.loads(self._writer.read_bytes())
            if record["format"] == _FORMAT:
                major, minor, patch = record["version"]
                return ServerVersion(record["name"], (int(major), int(minor), int(patch)))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise EmbeddedRedisError(f"{self._writer} cannot be read ({error})") from error
        raise EmbeddedRedisError(f"{self._writer} has format {record['format']}; upgrade Baton")

    def write_writer(self, version: ServerVersion) -> None:
        """Record, before it opens the data, the server that will."""
        record = {"format": _FORMAT, "name": version.name, "version": version.version}
        _write(self._writer, json.dumps(record))

    def read_pid(self) -> str:
        """The server's process id, for messages only."""
        try:
            return self.pid_file.read_text(encoding="ascii").strip()
        except OSError:
            return "unknown"


def _ask(socket: Path) -> dict[str, object] | None:
    """The server's INFO; None where nothing answers."""
    with contextlib.closing(_client(socket)) as client:
        try:
            info: dict[str, object] = client.info("persistence")
        except (redis.ConnectionError, redis.TimeoutError):
            return None
    return info


def _shut_down(socket: Path) -> None:
    with contextlib.closing(_client(socket)) as client:
        try:
            client.shutdown()
        except (redis.ConnectionError, redis.TimeoutError):
            return  # it hung up, as it should, or is frozen, as the caller will see
        except redis.RedisError as error:
            raise EmbeddedRedisError(f"Redis at {socket} refused to stop ({error})") from error


def _client(socket: Path) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(socket), socket_timeout=2.0, retry=Retry(NoBackoff(), 0)
    )


def _url(socket: Path) -> str:
    return f"unix://{quote(os.fsencode(socket))}?db=0"


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(path: Path) -> bool:
    """Whether a server holds this lock. Asks for a shared one: askers do not see each other."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _make_private(folder: Path) -> None:
    """Make `folder` ours alone: whoever can enter it can open the server's socket and data."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        if owner == os.getuid():
            folder.chmod(0o700)
            return
    except OSError as error:
        raise EmbeddedRedisError(f"{folder} cannot be used ({error})") from error
    raise EmbeddedRedisError(f"{folder} belongs to user {owner}; set BATON_STATE_DIR to your own")


def _is_private(folder: Path) -> bool:
    """Whether a folder that others could have put there is truly ours, and no link."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and stat.S_IMODE(found.st_mode) == 0o700
        and found.st_uid == os.getuid()
    )


def _rotate(log: Path) -> int:
    """Start a new log when the old one is long; returns the size of the one in use."""
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        log.touch(mode=0o600)
        return 0
    if size <= _LOG_BYTES:
        return size
    log.replace(log.with_suffix(".log.1"))
    log.touch(mode=0o600)
    return 0


def _write(path: Path, text: str) -> None:
    """Replace a file at once: a reader sees the old or the new."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(os.fsencode(text))
    new.chmod(0o600)
    new.replace(path)


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
