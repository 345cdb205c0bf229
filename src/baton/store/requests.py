"""What Celery messages may ask of the store, checked before anything is done with it."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from baton.errors import InvalidInputError
from baton.settings import KIB
from baton.store.manifest import ContentType  # noqa: TC001 - pydantic reads it
from baton.store.records import Policy  # noqa: TC001 - pydantic reads it
from baton.versions import Bump  # noqa: TC001 - pydantic reads it

# A message stays in the broker's memory until a worker takes it; content belongs in the store.
MAX_MESSAGE_CHARACTERS: Final = 64 * KIB

_Request = TypeVar("_Request", bound=BaseModel)


class StoreRequest(BaseModel):
    """`context.store`: small content, or an envelope, as a session's next version."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    session_id: str
    agent_id: str
    content: str | None = Field(default=None, max_length=MAX_MESSAGE_CHARACTERS)
    envelope: dict[str, JsonValue] | None = None
    base_version: str | None = None
    version: str | None = None
    bump: Bump = "patch"
    policy: Policy = "merge"
    metadata: dict[str, JsonValue] | None = None
    content_type: ContentType | None = None
    sealed: bool = False
    operation_id: str | None = None


class MergeRequest(BaseModel):
    """`context.merge`: one version of a session into the head of another; references only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    session_id: str
    source_session_id: str
    agent_id: str
    source_version: str | None = None
    base_version: str | None = None
    policy: Policy = "merge"
    operation_id: str | None = None


def parse_request(kind: type[_Request], fields: dict[str, Any]) -> _Request:
    """The request in a message's keyword arguments.

    Raises:
        InvalidInputError: a field is missing, unknown or of the wrong type; names it.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "arguments"
        got = f"<{type(first['input']).__name__}>"
        raise InvalidInputError(path, first["msg"], got) from None
