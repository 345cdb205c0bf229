"""An assignment that a test makes itself, as the engine would."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from baton.errors import NodeCancelledError


@dataclass
class PlainAssignment:
    """Satisfies `baton.agents.runner.Assignment` without an engine."""

    instruction: str
    context: str
    children: tuple = ()
    handoff_id: str = "handoff_1"
    node_id: str = "0"
    session_id: str = "session_1"
    context_version: str = "1.0.0"
    attempt: int = 1
    seconds_left: float = 60.0
    cancelled: bool = False
    package: object = None
    told: list = field(default_factory=list)

    @property
    def context_hash(self):
        return "sha256:" + hashlib.sha256(self.context.encode()).hexdigest()

    def raise_if_cancelled(self):
        if self.cancelled:
            raise NodeCancelledError(f"Node {self.node_id} was cancelled; stop and return.")

    def spawn(self, tasks, *, then=None):
        raise AssertionError("not spawned here")

    def progress(self, text):
        self.told.append(text)
