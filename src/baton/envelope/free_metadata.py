"""A version's metadata in an envelope's fields, and back: any JSON object comes out as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from baton.envelope.model import Count, Dependencies, Identifier, Number, ShortText
from baton.merge.conflicts import ABSENT
from baton.merge.strict_json import same

if TYPE_CHECKING:
    from collections.abc import Mapping

    from baton.envelope.model import EnvelopeHeader

# Fields of the envelope itself.
_ROLE: Final = "agent_role"
_DEPENDENCIES: Final = "dependencies"
_OF_HEADER: Final = (_ROLE, _DEPENDENCIES)
_OURS: Final = "baton"

_TYPES: Final[dict[str, TypeAdapter[Any]]] = {
    _ROLE: TypeAdapter(Identifier),
    _DEPENDENCIES: TypeAdapter(Dependencies),
    "model": TypeAdapter(ShortText | None),
    "temperature": TypeAdapter(Number | None),
    "max_tokens": TypeAdapter(Count | None),
    "top_p": TypeAdapter(Number | None),
}


def metadata_fields(metadata: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a header that carry `metadata`; `ours` stands beside it in `metadata.baton`.

    What has a type there is put there if it is of that type. What is not, or would come back as
    another value (1 as 1.0, no dependencies as nothing said), goes along in
    `metadata.baton.metadata`, which `metadata_of` puts over the rest.
    """
    header: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for name, value in metadata.items():
        back = _as_carried(name, value)
        if back is not ABSENT:
            (header if name in _OF_HEADER else shown)[name] = value
        if not same(back, value):
            kept[name] = value
    shown[_OURS] = {**ours, "metadata": kept} if kept else dict(ours)
    return {**header, "metadata": shown}


def metadata_of(header: EnvelopeHeader) -> dict[str, Any]:
    """The metadata that a header carries; what its own fields say counts above what is open."""
    metadata: dict[str, Any] = header.metadata.model_dump(
        mode="json", exclude_unset=True, exclude={_OURS}
    )
    if header.agent_role is not None:
        metadata[_ROLE] = header.agent_role
    if header.dependencies:
        metadata[_DEPENDENCIES] = [each.model_dump(mode="json") for each in header.dependencies]
    ours = header.metadata.baton
    return metadata if ours is None or ours.metadata is None else metadata | ours.metadata


def _as_carried(name: str, value: Any) -> Any:
    """What comes back of a value in the field of its name; `ABSENT` where none there takes it."""
    if name == _OURS or (name == _DEPENDENCIES and value == []):
        return ABSENT
    kind = _TYPES.get(name)
    if kind is None:
        return value
    try:
        return kind.dump_python(kind.validate_python(value), mode="json")
    except ValidationError:
        return ABSENT
