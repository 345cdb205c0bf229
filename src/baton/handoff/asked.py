"""What is asked of a submission: its arguments as one value, and the id that they give it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from baton.agents.runner import ChildTask
from baton.errors import InvalidInputError
from baton.handoff.request import TaskSpec, make_request
from baton.ids import check_id, new_handoff_id

if TYPE_CHECKING:
    from baton.agents.budget import Budget
    from baton.agents.handoff_package import HandoffPackage
    from baton.handoff.request import HandoffRequest, Limits, MergePolicy, OutcomePolicy


@dataclass(frozen=True)
class Asked:
    """The arguments of `Handoffs.submit`, which says what they mean; nothing is looked up here."""

    session_id: str
    tasks: tuple[str | TaskSpec | ChildTask, ...]
    agent_id: str
    context_version: str | None
    merge: MergePolicy
    policy: OutcomePolicy
    limits: Limits
    budget: Budget | None
    idempotency_key: str | None
    package: HandoffPackage | None

    @property
    def repeatable(self) -> bool:
        """Whether the same may have been submitted before."""
        return self.idempotency_key is not None or self.package is not None

    @cached_property
    def handoff_id(self) -> str:
        """The package's, one by the key, or a new one.

        Raises:
            InvalidInputError: other arguments contradict the package, or the key is none.
        """
        if self.package is not None:
            return self._id_of_package(self.package)
        if self.idempotency_key is None:
            return new_handoff_id()
        named = [self.session_id, check_id(self.idempotency_key, "idempotency_key")]
        return f"handoff_{hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]}"

    def request(self, version: str) -> HandoffRequest:
        """What is recorded of it, over that version.

        Raises:
            InvalidInputError: a field is wrong.
        """
        return make_request(
            session_id=self.session_id,
            context_version=version,
            agent_id=self.agent_id,
            tasks=[_task(task) for task in self.tasks],
            merge=self.merge,
            policy=self.policy,
            limits=self.limits,
            budget=self.budget,
            package="" if self.package is None else self.package.digest,
        )

    def _id_of_package(self, package: HandoffPackage) -> str:
        context = package.session_context
        if self.idempotency_key is not None:
            expected = "none beside a package, whose handoff_id is the key"
            raise InvalidInputError("idempotency_key", expected, self.idempotency_key)
        if self.session_id != context.session_id:
            expected = f"the package's, {context.session_id}"
            raise InvalidInputError("session_id", expected, self.session_id)
        if self.context_version not in (None, context.version):
            expected = f"the package's, {context.version or 'or none'}"
            raise InvalidInputError("context_version", expected, self.context_version)
        return package.handoff_id


def _task(task: str | TaskSpec | ChildTask) -> object:
    if isinstance(task, TaskSpec):
        return task
    if isinstance(task, ChildTask):
        return {"instruction": task.instruction, "runner": task.runner}
    return {"instruction": task}
