"""The handoff package: all that its receiver needs to go on, as one validated JSON document.

It is plain data, of bounded size, and refers to contexts by session and version. What it demands
is in `preconditions`; `baton.handoff.validation` holds it to them.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, model_validator

from baton.agents.preconditions import KINDS, ContextVersion, Precondition
from baton.agents.view import View  # noqa: TC001 - pydantic reads it
from baton.envelope.model import (
    Count,
    Flag,
    Identifier,
    Instant,
    Number,
    ShortText,
    validated,
)
from baton.errors import ContextTooLargeError, InvalidInputError, UnsupportedFormatError
from baton.ids import check_id, new_handoff_id
from baton.merge.strict_json import parse_json

FORMAT: Final = 1
SCHEMA_ID: Final = "https://infrafabric.local/schemas/handoff-package/v1.json"
MAX_ITEMS: Final = 1_000
MAX_PRECONDITIONS: Final = 100
MAX_PACKAGE_BYTES: Final = 4 * 1_048_576
_MAX_NOTE_CHARACTERS: Final = 4_000
_MAX_GOAL_CHARACTERS: Final = 20_000

_LANGUAGE: Final = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,7}$"
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)?")
# pydantic puts the kind into the path of what is wrong within a precondition.
_KIND_IN_PATH: Final = re.compile(rf"^(preconditions\[\d+\])\.(?:{'|'.join(KINDS)})(?=\.|$)")


def _format(value: int) -> int:
    if value != FORMAT:
        raise UnsupportedFormatError(
            f"the handoff package has format {value}; this Baton reads {FORMAT}. "
            "Upgrade Baton to read it."
        )
    return value


def _checkpoint(value: str) -> str:
    return value if _INSTANT.fullmatch(value) else check_id(value, "")


Note = Annotated[str, Field(strict=True, min_length=1, max_length=_MAX_NOTE_CHARACTERS)]
Notes = Annotated[tuple[Note, ...], FailFast(), Field(max_length=MAX_ITEMS)]
Step = Annotated[ShortText, Field(min_length=1)]
Steps = Annotated[tuple[Step, ...], FailFast(), Field(max_length=MAX_ITEMS)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SessionContext(_Part):
    """Where the sender stood: its session, and how full its model's window was.

    `version` is the context's; without one, validation fills in the head. `context_position` is
    the percentage of the window in use, `available_tokens` what is left of it. `view` is what is
    carried instead of the context where that was condensed: it refers to the original, which stays.
    """

    session_id: Identifier
    version: ContextVersion | None = None
    model: ShortText | None = None
    context_position: Annotated[Number, Field(ge=0, le=100)]
    available_tokens: Count
    user_language: Annotated[str, Field(strict=True, pattern=_LANGUAGE)] | None = None
    view: View | None = None


class TaskContext(_Part):
    """What is being done, what has been decided, and what comes next.

    `do_not_redo` is what the receiver must leave as it is; `acceptance` is how it knows that it is
    done.
    """

    spec_id: Identifier | None = None
    current_phase: ShortText | None = None
    completed_steps: Steps = ()
    next_step: Step
    goal: Annotated[str, Field(strict=True, max_length=_MAX_GOAL_CHARACTERS)] = ""
    decisions: Notes = ()
    open_questions: Notes = ()
    do_not_redo: Notes = ()
    acceptance: Notes = ()


class RecoveryInfo(_Part):
    """How to go on should the receiver fail.

    `last_checkpoint` is a checkpoint's id, which is held to exist, or the instant of one, which is
    information.
    """

    last_checkpoint: (
        Annotated[str, Field(strict=True, max_length=128), AfterValidator(_checkpoint)] | None
    ) = None
    recovery_tokens_reserved: Count = 0
    session_fork_available: Flag = False

    @property
    def checkpoint_id(self) -> str | None:
        """The checkpoint's id, if that is what `last_checkpoint` is."""
        named = self.last_checkpoint
        return None if named is None or _INSTANT.fullmatch(named) else named


class HandoffPackage(_Part):
    """A handoff as it travels. `from_agent` and `to_agent` are agents' ids, or roles."""

    format: Annotated[int, Field(strict=True), AfterValidator(_format)] = FORMAT
    handoff_id: Identifier
    created_at: Instant | None = None
    from_agent: Identifier
    to_agent: Identifier
    session_context: SessionContext
    task_context: TaskContext
    recovery_info: RecoveryInfo = RecoveryInfo()
    preconditions: Annotated[
        tuple[Precondition, ...], FailFast(), Field(max_length=MAX_PRECONDITIONS)
    ] = ()

    @model_validator(mode="after")
    def _view_is_of_the_context(self) -> HandoffPackage:
        context = self.session_context
        if context.view is None:
            return self
        source = context.view.source
        if (source.session_id, source.version) != (context.session_id, context.version):
            raise InvalidInputError(
                "session_context.view.source",
                f"{context.session_id}@{context.version}",
                f"{source.session_id}@{source.version}",
            )
        return self

    @property
    def digest(self) -> str:
        """The same for the same package, in hex."""
        return hashlib.sha256(package_json(self).encode()).hexdigest()


def make_package(**fields: object) -> HandoffPackage:
    """A validated package; `handoff_id` is a new one if it is not given.

    Raises:
        InvalidInputError: names the first wrong field by its path, such as
            `task_context.decisions[2]` or `preconditions[0].checkpoint_id`.
        UnsupportedFormatError: it has another format.
    """
    return _validated({"handoff_id": new_handoff_id(), **fields})


def read_package(text: str) -> HandoffPackage:
    """The package that a JSON text holds; nothing is filled in.

    Raises:
        InvalidInputError: it is not strict JSON, or a field is wrong; names it by its path.
        ContextTooLargeError: it is longer than 4 MiB.
        UnsupportedFormatError: it has another format.
    """
    if len(text) > MAX_PACKAGE_BYTES:
        limit = f"at most {MAX_PACKAGE_BYTES} bytes"
        raise ContextTooLargeError("package", limit, f"<{len(text)} characters>")
    value = parse_json(text, "package")
    if not isinstance(value, dict):
        raise InvalidInputError("package", "an object", f"<{type(value).__name__}>")
    return _validated(value)


def package_json(package: HandoffPackage) -> str:
    """The package as JSON, for `read_package`; the same text for the same package."""
    return package.model_dump_json(exclude_none=True)


def _validated(value: dict[str, Any]) -> HandoffPackage:
    try:
        package = validated(HandoffPackage, value, "")
    except InvalidInputError as error:
        field = _KIND_IN_PATH.sub(r"\1", error.field) or "package"
        refusal = type(error)(field, error.expected, error.got)
    else:
        size_bytes = len(package_json(package).encode())
        if size_bytes <= MAX_PACKAGE_BYTES:
            return package
        limit = f"at most {MAX_PACKAGE_BYTES} bytes"
        refusal = ContextTooLargeError("package", limit, f"<{size_bytes} bytes>")
    raise refusal
