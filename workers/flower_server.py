"""`python -m workers.flower_server`: Flower behind a password, with the pages that work here.

Workers take no remote control, so of Flower's pages and API only what lives from events and from
the broker's queues is served; nothing that changes anything is.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hmac
import logging
import re
import secrets
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, unquote

from flower.app import Flower
from flower.options import default_options
from flower.urls import settings as page_settings
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from baton.errors import BatonError
from workers import lifeline
from workers.app import app
from workers.flower_history import Journal, RememberedEvents
from workers.flower_login import Login, find_login, flower_folder
from workers.reporting import report_flower

if TYPE_CHECKING:
    from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest

    from config.settings import AppSettings

logger = logging.getLogger(__name__)

USAGE: Final = 2
FAILED: Final = 4

_OPEN: Final = "/healthcheck"  # says that it answers, and nothing else
_SERVED: Final = re.compile(
    r"/|/workers|/tasks|/tasks/datatable|/task/[^/]+|/broker|/metrics|/healthcheck|/static/.+"
    r"|/api/tasks|/api/task/types|/api/task/info/[^/]+|/api/queues/length"
)
_WORKER: Final = re.compile(r"/worker/([^/]+)")
# The tasks page asks by POST, as its questions are long. It changes nothing.
_ASKED_BY_POST: Final = "/tasks/datatable"
_STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = ()


_REFUSED: Final = _Answer(
    401,
    "Access denied\n",
    (("WWW-Authenticate", 'Basic realm="Flower of Baton", charset="UTF-8"'),),
)
_NOT_SERVED: Final = _Answer(
    404, "Not here: workers take no remote control, and task results are not shown.\n"
)
_NOT_ALLOWED: Final = _Answer(405, "Only reading is allowed.\n", (("Allow", "GET, HEAD"),))


class GuardedFlower(Flower):  # type: ignore[misc]  # Flower has no types
    """Flower, of which nothing is served without the password, its metrics included."""

    def __init__(self, *args: Any, login: Login, **options: Any) -> None:
        self._credentials = f"{login.user}:{login.password}".encode()
        super().__init__(*args, **options)

    def find_handler(self, request: HTTPServerRequest, **options: Any) -> HTTPMessageDelegate:
        """Who answers `request`: Flower, where it is admitted and asks for what works."""
        answer = self._answer(request)
        if answer is None:
            found = super().find_handler(request, **options)
        else:
            found = self.get_handler_delegate(request, _Short, {"answer": answer})
        return cast("HTTPMessageDelegate", found)

    def update_workers(self, workername: str | None = None) -> None:
        """Workers cannot be asked: their remote control is off."""

    def _admits(self, request: HTTPServerRequest) -> bool:
        kind, _, sent = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            credentials = base64.b64decode(sent.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(credentials, self._credentials)

    def _answer(self, request: HTTPServerRequest) -> _Answer | None:
        """Ours, where Flower is not to be asked."""
        if request.path != _OPEN and not self._admits(request):
            return _REFUSED
        worker = _WORKER.fullmatch(request.path)
        if worker is not None:
            # Flower's page of one worker asks that worker. Its tasks are known from events.
            name = quote(unquote(worker[1]), safe="")
            return _Answer(302, "See its tasks.\n", (("Location", f"/tasks?worker={name}"),))
        if not _SERVED.fullmatch(request.path):
            return _NOT_SERVED
        return None if request.method in _methods(request.path) else _NOT_ALLOWED


class _Short(RequestHandler):
    """One answer, whatever the method."""

    def initialize(self, answer: _Answer) -> None:
        """Tornado's constructor."""
        self._answer = answer

    def prepare(self) -> None:
        """Answer before Tornado looks for a method."""
        self.set_status(self._answer.status)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        for name, value in self._answer.headers:
            self.set_header(name, value)
        self.finish(self._answer.text)

    def check_xsrf_cookie(self) -> None:
        """Nothing changes here."""


def _methods(path: str) -> tuple[str, ...]:
    return ("GET", "HEAD", "POST") if path == _ASKED_BY_POST else ("GET", "HEAD")


def build(settings: AppSettings, login: Login) -> GuardedFlower:
    """Flower as `settings` want it, listening nowhere yet."""
    options = default_options
    options.address, options.port = settings.flower_address, settings.flower_port
    # Flower's own check, behind ours: without one it closes its API.
    options.basic_auth = [f"{login.user}:{login.password}"]
    options.read_only = True
    options.max_tasks = settings.flower_max_tasks
    options.tasks_columns = "name,uuid,state,args,received,runtime,worker"
    options.purge_offline_workers = 600
    # Of this process only: there are no sessions that should outlive it.
    page_settings["cookie_secret"] = secrets.token_urlsafe(48)
    folder = flower_folder(settings.state_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    loop = IOLoop.current()
    events = RememberedEvents(
        app, io_loop=loop, journal=Journal(folder), max_tasks=settings.flower_max_tasks
    )
    return GuardedFlower(
        options=options, capp=app, events=events, io_loop=loop, login=login, **page_settings
    )


def serve(settings: AppSettings, hostname: str) -> None:
    """Serve until a signal, known to the pool board as `hostname`.

    Raises:
        BatonError: there is no password, or what it would need is missing.
        OSError: the address is in use.
    """
    login = find_login(settings)
    flower = build(settings, login)
    flower.start_http_server()
    logger.info("Flower listens on http://%s:%d", settings.flower_address, settings.flower_port)
    loop = flower.io_loop
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.add_callback_from_signal(flower.stop))
    report_flower(app, hostname)
    flower.start()


def main() -> int:
    """Run Flower. Returns 0 stopped, 2 wrong settings, 4 could not run."""
    parser = argparse.ArgumentParser(prog="python -m workers.flower_server", description="Flower.")
    parser.add_argument("--hostname", default="flower", help="its name on the pool board")
    hostname = parser.parse_args().hostname
    try:
        settings = app.settings
    except BatonError as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE
    if settings.lifeline_fd is not None:
        lifeline.watch(settings.lifeline_fd, then_exit_seconds=_STOP_SECONDS)
    app.log.setup(logging.getLevelNamesMapping()[settings.log_level], colorize=False)
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    try:
        serve(settings, hostname)
    except (BatonError, OSError) as error:
        logger.error("Flower does not start: %s", error)  # noqa: TRY400 - its text says it all
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
