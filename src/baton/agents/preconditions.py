"""What a handoff package may demand of the world before its work begins: one model for each kind.

These only say what must hold. `baton.handoff.checks` finds out whether it does.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from baton.envelope.model import Count, Identifier, Instant  # noqa: TC001 - pydantic reads them
from baton.errors import InvalidInputError
from baton.versions import parse_version

_VERSION_PATTERN: Final = r"^(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}$"


def _version(value: str, field: str) -> str:
    return str(parse_version(value, field))


ContextVersion = Annotated[
    str,
    Field(strict=True, json_schema_extra={"pattern": _VERSION_PATTERN}),
    AfterValidator(partial(_version, field="")),
]
Usd = Annotated[
    Decimal,
    Field(gt=0, max_digits=16, decimal_places=6, allow_inf_nan=False),
    PlainSerializer(str, return_type=str, when_used="json"),
]


class _Precondition(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ContextAtVersion(_Precondition):
    """The session's head is `version`: nobody has written since. No session: the package's."""

    kind: Literal["context_at_version"] = "context_at_version"
    version: ContextVersion
    session_id: Identifier | None = None


class CheckpointExists(_Precondition):
    """The session has the checkpoint to resume from. No session: the package's."""

    kind: Literal["checkpoint_exists"] = "checkpoint_exists"
    checkpoint_id: Identifier
    session_id: Identifier | None = None


class LockHeld(_Precondition):
    """A lock of the session is held (`baton.swarm.locks`).

    By `agent_id`, or by anybody if that is left out; and still by the claim `fence`, if given, so
    that a lock which was lost and taken again meanwhile does not pass. No session: the package's.
    """

    kind: Literal["lock_held"] = "lock_held"
    name: Identifier
    agent_id: Identifier | None = None
    fence: Count | None = None
    session_id: Identifier | None = None


class BudgetLeft(_Precondition):
    """A handoff's budget has at least so many tokens, or USD, left. No handoff: the package's own.

    A handoff whose budget has no cap on these always has enough left.
    """

    kind: Literal["budget_left"] = "budget_left"
    tokens: Annotated[Count, Field(ge=1)] | None = None
    usd: Usd | None = None
    handoff_id: Identifier | None = None

    @model_validator(mode="after")
    def _demands_something(self) -> BudgetLeft:
        if self.tokens is None and self.usd is None:
            raise InvalidInputError("tokens", "a number of tokens, or of USD in `usd`", "<neither>")
        return self


class NotAfter(_Precondition):
    """It is not later than `at`, by Redis' clock."""

    kind: Literal["not_after"] = "not_after"
    at: Instant


Precondition = Annotated[
    ContextAtVersion | CheckpointExists | LockHeld | BudgetLeft | NotAfter,
    Field(discriminator="kind"),
]
KINDS: Final = ("context_at_version", "checkpoint_exists", "lock_held", "budget_left", "not_after")
