"""What Baton's nodes run in the soak; each execution is noted in a file that no fault reaches."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from baton.agents.runner import ChildTask
from baton.errors import StoreUnavailableError

if TYPE_CHECKING:
    from baton.agents.runner import Assignment


def work(task: Assignment) -> str:
    """Waits, as for a model; `fails` says how many attempts fail first, as a busy model's do."""
    order = json.loads(task.instruction)
    _note(order, task, "start")
    time.sleep(order["seconds"])
    if task.attempt <= order.get("fails", 0):
        raise StoreUnavailableError("the soak asked for another attempt")
    _note(order, task, "end")
    return task.node_id


def family(task: Assignment) -> str:
    """Spawns `children`, each one level further down until `levels` is 0; then joins them."""
    order = json.loads(task.instruction)
    _note(order, task, "start")
    if task.children:
        _note(order, task, "end")
        return f"{task.node_id}({' '.join(child.content for child in task.children)})"
    below = json.dumps(order | {"levels": order["levels"] - 1})
    runner = "soak_family" if order["levels"] > 1 else "soak_work"
    task.spawn([ChildTask(below, runner) for _ in range(order["children"])], then=task.instruction)
    _note(order, task, "end")
    return ""


def poison(task: Assignment) -> str:
    """Takes its process down."""
    _note(json.loads(task.instruction), task, "start")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def _note(order: dict[str, Any], task: Assignment, what: str) -> None:
    step = 1 if task.children else 0
    place = [task.handoff_id, task.node_id, step, task.attempt]
    note(order["ledger"], what, place)


def note(ledger: str, what: str, place: list[Any]) -> None:
    """One line of the ledger, in one write: the file is shared by processes that get killed."""
    line = json.dumps([time.time(), os.getpid(), what, *place]) + "\n"
    fd = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)
