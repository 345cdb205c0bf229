"""The envelope's fields, as pydantic models; a wrong one is refused by its path.

Every object refuses fields that it does not know, save `metadata`, which is open: what we do not
know there is carried as it is. Baton's own additions stand in `metadata.baton`, so that other
readers of the protocol accept our envelopes. An optional scalar may be null, which says the same
as leaving it out.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from baton.clock import iso_utc
from baton.errors import InvalidInputError, UnsupportedFormatError
from baton.ids import check_id
from baton.merge.strict_json import check_json
from baton.versions import parse_version

PROTOCOL_VERSION: Final = "1.0.0"
SCHEMA_ID: Final = "https://infrafabric.local/schemas/context-envelope/v1.0.json"
ROOT: Final = "context_envelope"

WireCodec = Literal["gzip", "brotli", "none"]

MAX_CHECKPOINTS: Final = 10_000
MAX_DEPENDENCIES: Final = 10_000
_MAX_SHORT_CHARACTERS: Final = 256
_MAX_LABEL_CHARACTERS: Final = 1_000
# The largest integer that every JSON reader takes exactly.
_MAX_COUNT: Final = 2**53 - 1

_ID_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
_VERSION_PATTERN: Final = r"^(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}$"
_INSTANT: Final = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}")

# Where pydantic speaks of Python rather than of JSON.
_EXPECTED: Final = {
    "extra_forbidden": "no such field",
    "missing": "a value",
    "model_type": "an object",
    "string_unicode": "text that UTF-8 can encode",
    "tuple_type": "a list",
    "union_tag_not_found": "an object that says its kind",
}

M = TypeVar("M", bound=BaseModel)


def check_protocol_version(value: str, field: str = "") -> str:
    """`value`, if it is a version of the protocol that we read: 1.0.x.

    Raises:
        InvalidVersionError: it is not `MAJOR.MINOR.PATCH`.
        UnsupportedFormatError: it is another version.
    """
    version = parse_version(value, field)
    if (version.major, version.minor) != (1, 0):
        raise UnsupportedFormatError(
            f"the envelope has format {version}; this Baton reads 1.0.x. Upgrade Baton to read it."
        )
    return value


def _context_version(value: str) -> str:
    return str(parse_version(value, ""))


def _utc(value: object) -> datetime:
    """ISO 8601 text, or a datetime that knows its zone; text without one is UTC, as CMCSP says."""
    expected = "an ISO 8601 instant such as '2025-11-30T14:23:45.123Z'"
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        text = value if value[-1] == "Z" or value[-6] in "+-" else f"{value}Z"
    elif isinstance(value, datetime) and value.tzinfo is not None:
        text = value.isoformat()
    else:
        raise InvalidInputError("", expected, shown(value))
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):  # February 30th; an offset that leaves the calendar
        raise InvalidInputError("", expected, shown(value)) from None


def _free_json(value: dict[str, Any]) -> dict[str, Any]:
    check_json(value, "")
    try:
        json.dumps(value)
    except ValueError:
        expected = "integers that Python writes"
        raise InvalidInputError("", expected, "<one of more digits>") from None
    return value


def _iso(instant: datetime) -> str:
    """The protocol's milliseconds; microseconds where they would be lost."""
    if instant.microsecond % 1000:
        return instant.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return iso_utc(instant)


Count = Annotated[int, Field(strict=True, ge=0, le=_MAX_COUNT)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
ShortText = Annotated[str, Field(strict=True, max_length=_MAX_SHORT_CHARACTERS)]
Label = Annotated[str, Field(strict=True, max_length=_MAX_LABEL_CHARACTERS)]
Identifier = Annotated[
    str,
    Field(strict=True, json_schema_extra={"pattern": _ID_PATTERN}),
    AfterValidator(partial(check_id, field="")),
]
Instant = Annotated[
    datetime,
    BeforeValidator(_utc),
    PlainSerializer(_iso, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
ContentHash = Annotated[str, Field(strict=True, pattern="^sha256:[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BatonMetadata(_Part):
    """What Baton adds: the context's own version, as `version` is the protocol's, and its type.

    `metadata`: what an open name in the metadata around it cannot carry, by name.
    """

    context_version: (
        Annotated[
            str,
            Field(strict=True, json_schema_extra={"pattern": _VERSION_PATTERN}),
            AfterValidator(_context_version),
        ]
        | None
    ) = None
    content_type: Literal["text/plain", "application/json"] | None = None
    metadata: Annotated[dict[str, Any], AfterValidator(_free_json)] | None = None


class Metadata(BaseModel):
    """Parameters of the model that made the context, Baton's additions, and any JSON besides."""

    model_config = ConfigDict(frozen=True, extra="allow")

    model: ShortText | None = None
    temperature: Number | None = None
    max_tokens: Count | None = None
    top_p: Number | None = None
    baton: BatonMetadata | None = None

    @model_validator(mode="after")
    def _check_the_rest(self) -> Metadata:
        _free_json(self.model_extra or {})
        return self


class Checkpoint(_Part):
    """A place to resume from, never inside a character."""

    checkpoint_id: Identifier
    token_position: Count
    byte_position: Count
    label: Label
    timestamp: Instant


class Dependency(_Part):
    """What the context was made from: something that an agent left in another session."""

    session_id: Identifier
    agent_id: Identifier
    content_type: ShortText


Dependencies = Annotated[tuple[Dependency, ...], FailFast(), Field(max_length=MAX_DEPENDENCIES)]


class Flags(_Part):
    """What holds for the session. `encrypted`: the text is a token that the reader must open."""

    immutable: Flag = False
    sensitive: Flag = False
    encrypted: Flag = False
    archived: Flag = False


class Chunk(_Part):
    """One range of the content, overlap included; `content` is Base64 of its compressed bytes."""

    chunk_id: Count
    offset_bytes: Count
    offset_tokens: Count
    size_bytes: Count
    size_tokens: Count
    content: Annotated[str, Field(strict=True, json_schema_extra={"contentEncoding": "base64"})]
    # Not among the envelope's fields, but `chunk_context`, as the protocol lists it, makes it.
    compression_ratio: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = None


class EnvelopeHeader(_Part):
    """All of an envelope but its content: what is known of the context before it is written."""

    version: Annotated[
        str,
        Field(strict=True, json_schema_extra={"pattern": r"^1\.0\.(0|[1-9][0-9]{0,8})$"}),
        AfterValidator(check_protocol_version),
    ]
    schema_id: ShortText | None = None
    session_id: Identifier
    agent_id: Identifier
    agent_role: Identifier | None = None
    created_at: Instant
    updated_at: Instant
    content_hash: ContentHash
    content_size_bytes: Count
    content_size_tokens: Count
    metadata: Metadata = Metadata()
    checkpoints: Annotated[
        tuple[Checkpoint, ...], FailFast(), Field(max_length=MAX_CHECKPOINTS)
    ] = ()
    dependencies: Dependencies = ()
    flags: Flags = Flags()

    @model_validator(mode="after")
    def _check_checkpoints(self) -> EnvelopeHeader:
        seen = set()
        for index, checkpoint in enumerate(self.checkpoints):
            path = f"checkpoints[{index}]"
            if checkpoint.checkpoint_id in seen:
                field = f"{path}.checkpoint_id"
                raise InvalidInputError(field, "one not used before", checkpoint.checkpoint_id)
            seen.add(checkpoint.checkpoint_id)
            _check_place(checkpoint.byte_position, self.content_size_bytes, f"{path}.byte_position")
            _check_place(
                checkpoint.token_position, self.content_size_tokens, f"{path}.token_position"
            )
        return self


class Envelope(EnvelopeHeader):
    """An envelope whole. Without `content_compression`, chunks are gzip or not compressed."""

    content_compression: WireCodec | None = None
    chunk_count: Count
    chunks: tuple[Chunk, ...] = ()


class EnvelopeDocument(_Part):
    """The JSON document: `{"context_envelope": {…}}`."""

    context_envelope: Envelope


def _check_place(position: int, size: int, field: str) -> None:
    if position > size:
        raise InvalidInputError(field, f"a place in the content, at most {size}", position)


def make_header(**fields: object) -> EnvelopeHeader:
    """A validated header of the protocol's version; instants as ISO 8601 text or datetimes.

    Raises:
        InvalidInputError: names the first wrong field by its path, such as
            `checkpoints[2].byte_position`.
        UnsupportedFormatError: a `version` of the protocol that is none of ours.
    """
    ours = {"version": PROTOCOL_VERSION, "schema_id": SCHEMA_ID}
    return validated(EnvelopeHeader, {**ours, **fields}, "")


def validated(model: type[M], value: object, path: str) -> M:
    """`value` as `model`; `path` names it in errors.

    Raises:
        InvalidInputError: the first wrong field; InvalidIdError, InvalidVersionError and
            InvalidTextError where it is one of these.
        UnsupportedFormatError: a version of the protocol that is none of ours.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        refusal = _refusal(error, path)
    # Raised out here because pydantic's error holds the whole value.
    raise refusal


def _refusal(error: ValidationError, path: str) -> InvalidInputError:
    first = error.errors(include_url=False)[0]
    where = path + "".join(map(step, first["loc"]))
    context = first.get("ctx", {})
    cause = context.get("error")
    if first["type"] == "union_tag_invalid":  # of a model that is told by one of its fields
        kinds = f"one of {context['expected_tags']}"
        where += step(context["discriminator"].strip("'"))
        return InvalidInputError(where.lstrip("."), kinds, shown(context["tag"]))
    if isinstance(cause, InvalidInputError):
        named_already = first["loc"] and first["loc"][-1] == cause.field
        where += f".{cause.field}" if cause.field and not named_already else ""
        got = shown(first["input"]) if cause.got == first["input"] else cause.got
        return type(cause)(where.lstrip("."), cause.expected, got)
    expected = _EXPECTED.get(first["type"]) or first["msg"].removeprefix("Input should be ")
    got = "<nothing>" if first["type"] == "missing" else shown(first["input"])
    return InvalidInputError(where.lstrip("."), expected, got)


def step(part: int | str) -> str:
    """One step of a path: `[3]`, `.name`, or the name in quotes where it is not plain."""
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if _PLAIN_NAME.fullmatch(part) else f".{part[:40]!r}"


def shown(value: object) -> object:
    """What an error may show of a value, found without a look at all of it."""
    if isinstance(value, str):
        # What begins with `<` would be shown unescaped, as a description.
        return f"<text {value[:60]!r}>" if value.startswith("<") else value[:100]
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) <= _MAX_COUNT:
        return value
    return f"<{type(value).__name__}>"
