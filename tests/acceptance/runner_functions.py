"""Runner functions for the pools of the acceptance tests; found by PYTHONPATH."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from baton import Assignment

# The value of BATON_RUNNER_FUNCTIONS that makes them known.
NAMES = (
    "shout", "length", "fail", "garbage", "hang", "gated", "family", "suicide", "stay_apart",
    "pause",
)  # fmt: skip


def shout(task: Assignment) -> str:
    task.progress(f"shouting {task.instruction}")
    return task.instruction.upper()


def length(task: Assignment) -> str:
    return str(len(task.context))


def fail(task: Assignment) -> str:
    raise KeyError(f"no such thing as {task.instruction}")


def garbage(task: Assignment) -> object:
    return {"not": "text"}


def hang(task: Assignment) -> str:
    threading.Event().wait()
    return "never"


def suicide(task: Assignment) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def pause(task: Assignment) -> str:
    """Long enough to be at work when a neighbour kills the process."""
    threading.Event().wait(1.0)
    return task.instruction


def stay_apart(task: Assignment) -> str:
    """Kill two workers; then note the process in a folder (the instruction), and hold it."""
    if task.attempt <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    (Path(task.instruction) / "apart").write_text(str(os.getpid()))
    threading.Event().wait()
    return "never"


def gated(task: Assignment) -> str:
    """Note the start in a folder (the instruction), wait for its gate, say who did it."""
    folder = Path(task.instruction)
    with (folder / f"starts-{task.node_id}").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    while not (folder / "gate").exists() and not task.cancelled:
        threading.Event().wait(0.02)
    return f"{task.node_id} by attempt {task.attempt}"


def family(task: Assignment) -> str:
    """`family N`: N generations below, two children each; `then` on every other level."""
    if task.children:
        return f"{task.node_id}({' '.join(child.content for child in task.children)})"
    generations = int(task.instruction.split()[-1])
    if generations == 0:
        return f"{task.node_id}:{len(task.context)}"
    task.spawn([f"family {generations - 1}"] * 2, then="gather")
    return f"draft of {task.node_id}"


def greedy(task: Assignment) -> str:
    """Allocate as many bytes as the instruction says."""
    return str(len(bytearray(int(task.instruction))))
