"""Headless Chromium, driven over the pipe of its DevTools protocol; no driver, no WebSocket."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("chromium", "chromium-browser", "google-chrome")
DEADLINE_SECONDS = 60.0
FLAGS = (
    "--headless=new",
    # It loads pages of ours alone, and its sandbox needs rights that a container does not give.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--window-size=1440,740",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """One browser with one page. `credentials` answer a login dialog; None cancels it.

    `dialogs` counts the login dialogs that it would have shown.
    """

    def __init__(self, binary: str) -> None:
        self.credentials: tuple[str, str] | None = None
        self.dialogs = 0
        self._profile = tempfile.mkdtemp(prefix="baton-chromium-")
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._received = b""
        self._pid, self._write, self._read = _start(binary, self._profile)
        self._session: str | None = None

    def __enter__(self) -> Self:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime"):
            self._call(f"{domain}.enable")
        self._call("Fetch.enable", handleAuthRequests=True)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        os.close(self._read)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        shutil.rmtree(self._profile, ignore_errors=True)

    def go(self, url: str) -> None:
        """Load a page; whether it is there yet, its text tells."""
        self._call("Page.navigate", url=url)

    def text(self) -> str:
        """What the page shows."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def html(self) -> str:
        return self.evaluate("document.documentElement.outerHTML")

    def evaluate(self, expression: str) -> Any:
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def click(self, selector: str) -> bool:
        """Click the first such element; False where there is none."""
        found = f"document.querySelector({json.dumps(selector)})"
        return bool(self.evaluate(f"{found} ? ({found}.click(), true) : false"))

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._send(method, parameters)
        self._follow(lambda: number in self._answers, what=method)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        return self._number

    def _follow(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + DEADLINE_SECONDS
        while not done():
            readable, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert readable, f"Chromium gave no answer to {what}"
            data = os.read(self._read, 1 << 20)
            assert data, f"Chromium ended before it answered {what}"
            *messages, self._received = (self._received + data).split(b"\0")
            for message in messages:
                self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
        elif message["method"] == "Fetch.requestPaused":
            self._send("Fetch.continueRequest", {"requestId": message["params"]["requestId"]})
        elif message["method"] == "Fetch.authRequired":
            self.dialogs += 1
            answer = {"response": "CancelAuth"}
            if self.credentials is not None:
                user, password = self.credentials
                answer = {
                    "response": "ProvideCredentials",
                    "username": user,
                    "password": password,
                }
            request_id = message["params"]["requestId"]
            self._send(
                "Fetch.continueWithAuth",
                {"requestId": request_id, "authChallengeResponse": answer},
            )


def _start(binary: str, profile: str) -> tuple[int, int, int]:
    """Chromium with the pipes it wants: 3 to hear us, 4 to answer. Its pid, and our ends."""
    their_read, write = os.pipe()
    read, their_write = os.pipe()
    # Above 4, lest one of them is overwritten before it is put in its place.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (their_read, their_write)]
    nowhere = os.open(os.devnull, os.O_RDWR)
    places = [*((nowhere, fd) for fd in (0, 1, 2)), (high[0], 3), (high[1], 4)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": profile}
    pid = os.posix_spawn(
        binary,
        [binary, f"--user-data-dir={Path(profile) / 'data'}", *FLAGS],
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for fd, place in places],
        setsid=True,
    )
    for fd in (their_read, their_write, *high, nowhere):
        os.close(fd)
    return pid, write, read
