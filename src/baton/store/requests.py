"""What Celery messages may ask of the store: checked, then done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from baton.errors import ContextNotFoundError, InvalidInputError, SealedError
from baton.settings import KIB
from baton.store.manifest import ContentType  # noqa: TC001 - pydantic reads it
from baton.store.records import Policy  # noqa: TC001 - pydantic reads it
from baton.versions import Bump  # noqa: TC001 - pydantic reads it

if TYPE_CHECKING:
    from baton.store.contexts import ContextStore
    from baton.store.records import Commit

# A message stays in the broker's memory until a worker takes it; content belongs in the store.
MAX_MESSAGE_CHARACTERS: Final = 64 * KIB

# An envelope brings its own version, metadata and content type, and merges or begins a session.
_OF_CONTENT: Final = ("version", "bump", "policy", "metadata", "content_type")
_INSTEAD: Final = (
    "store it where the key is (`ContextStore.put(…, sealed=True)`, `baton context put --sealed`) "
    "and send its session and version"
)

_Request = TypeVar("_Request", bound=BaseModel)


class StoreRequest(BaseModel):
    """`context.store`: small content, or an envelope, as a session's next version.

    It came through the broker in clear, so nothing of it is ever sealed: `sealed` is known only
    to be refused with what to do instead.
    """

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

    @model_validator(mode="after")
    def _check_fields_together(self) -> Self:
        if (self.content is None) == (self.envelope is None):
            raise InvalidInputError("content", "either it or envelope", "<both or none>")
        if self.sealed:
            expected = f"false, as the broker has seen what came in clear; {_INSTEAD}"
            raise InvalidInputError("sealed", expected, self.sealed)
        for name in _OF_CONTENT if self.envelope is not None else ():
            if name in self.model_fields_set and getattr(self, name) is not None:
                expected = "nothing beside an envelope, as it goes with content only"
                raise InvalidInputError(name, expected, "<a value>")
        return self


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
        InvalidInputError: a field is missing, unknown, of the wrong type or in the way of another;
            names it.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        refusal = first.get("ctx", {}).get("error")
        if isinstance(refusal, InvalidInputError):
            raise refusal from None
        path = ".".join(str(part) for part in first["loc"]) or "arguments"
        got = f"<{type(first['input']).__name__}>"
        raise InvalidInputError(path, first["msg"], got) from None


def store_requested(store: ContextStore, request: StoreRequest, operation_id: str | None) -> Commit:
    """Store what a message holds, once under each `operation_id`.

    Raises:
        InvalidInputError: the session is sealed, and the message was not.
        what `ContextStore.put` and `import_envelope` raise.
    """
    _require_unsealed(store, request)
    if request.envelope is not None:
        return store.import_envelope(
            request.envelope,
            session_id=request.session_id,
            agent_id=request.agent_id,
            base_version=request.base_version,
            operation_id=operation_id,
        )
    given = request.model_dump(exclude={"envelope", "operation_id"})
    return store.put(**given, operation_id=operation_id)


def merge_requested(store: ContextStore, request: MergeRequest, operation_id: str | None) -> Commit:
    """Merge what a message names, once under each `operation_id`; raises as `merge` does."""
    given = request.model_dump(exclude={"operation_id"})
    return store.merge(**given, operation_id=operation_id)


def _require_unsealed(store: ContextStore, request: StoreRequest) -> None:
    """Refuse what would look sealed, though the broker has held it in clear."""
    try:
        sealed = "encrypted" in store.show(request.session_id).flags
    except ContextNotFoundError:
        return
    except SealedError:
        sealed = True
    if sealed:
        field = "envelope" if request.content is None else "content"
        expected = f"nothing in clear for session {request.session_id}, which is sealed; {_INSTEAD}"
        raise InvalidInputError(field, expected, "<hidden>")
