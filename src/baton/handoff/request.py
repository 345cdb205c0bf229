"""What a handoff asks for: validated before anything is written."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from baton.agents.budget import Budget  # noqa: TC001 - pydantic reads it when the class is made
from baton.errors import InvalidInputError

MAX_INSTRUCTION_CHARACTERS: Final = 100_000
RUNNER_NAME: Final = re.compile(r"[\w.:-]{1,128}")

Instruction = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_INSTRUCTION_CHARACTERS),
]
RunnerName = Annotated[str, StringConstraints(pattern=r"^[\w.:-]{1,128}$")]
# `append` writes a work log behind the newest head, which must be text; `none` merges nothing.
MergePolicy = Literal["append", "none"]
# What a handoff needs lest it fail, and merge nothing: `all` of its nodes ok; `quorum:n`, n of its
# first level; `best_effort`, one of them. `fail_fast` is `all`, and stops the others at the first
# that fails. It is `done` only where all are ok, whatever the policy; `degraded` where that is
# content with less.
OutcomePolicy = Annotated[
    str, StringConstraints(pattern=r"^(all|best_effort|fail_fast|quorum:[1-9][0-9]{0,6})$")
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskSpec(_Frozen):
    """One task of a handoff: what to do, and which runner does it (None: the default)."""

    instruction: Instruction
    runner: RunnerName | None = None


class Limits(_Frozen):
    """Bounds of one handoff; they travel with it."""

    lease_seconds: float = Field(default=30.0, ge=0.5, le=3600)
    node_timeout_seconds: float = Field(default=600.0, ge=0.1, le=86_400)
    max_attempts: int = Field(default=5, ge=1, le=100)
    max_depth: int = Field(default=4, ge=1, le=15)
    max_children: int = Field(default=1_000, ge=1, le=100_000)
    max_nodes: int = Field(default=10_000, ge=1, le=1_000_000)
    # Nodes published at once, so that a large handoff holds up others by no more.
    window: int = Field(default=128, ge=1, le=10_000)
    retention_seconds: int = Field(default=7 * 86_400, ge=60, le=365 * 86_400)


class HandoffRequest(_Frozen):
    """A context at a version, the tasks to do over it, and how their results become one."""

    session_id: str
    context_version: str
    agent_id: str
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    merge: MergePolicy = "append"
    policy: OutcomePolicy = "best_effort"
    limits: Limits = Limits()
    budget: Budget | None = None
    package: str = ""  # the digest of the handoff package that goes with it

    @property
    def digest(self) -> str:
        """The same for the same request, whichever agent's."""
        return hashlib.sha256(self.model_dump_json(exclude={"agent_id"}).encode()).hexdigest()

    @property
    def quorum(self) -> int:
        """How many first-level nodes its policy wants to be ok."""
        return quorum_of(self.policy, len(self.tasks))


def quorum_of(policy: str, first_level: int) -> int:
    """How many of so many first-level nodes a policy wants to be ok, lest the handoff fail."""
    if policy == "best_effort":
        return 1
    kind, _, count = policy.partition(":")
    return int(count) if kind == "quorum" else first_level


def make_request(**fields: object) -> HandoffRequest:
    """A validated request.

    Raises:
        InvalidInputError: names the first wrong field by its path, such as `tasks.2.instruction`.
    """
    try:
        request = HandoffRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(
            path, first["msg"].removeprefix("Input should be "), first["input"]
        ) from None
    if len(request.tasks) > request.limits.max_nodes:
        raise InvalidInputError("tasks", f"at most {request.limits.max_nodes}", len(request.tasks))
    if request.quorum > len(request.tasks):
        raise InvalidInputError(
            "policy", f"a quorum of at most {len(request.tasks)}", fields["policy"]
        )
    return request
