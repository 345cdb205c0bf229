"""A view of a context: what it shows, and pointers to what it leaves out.

A view is plain data that travels as JSON. Its text is made from the data where it is needed, so
the two cannot differ. It names its context by reference and hash: a summary never takes the place
of what it was derived from.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from baton.agents.excerpt import fenced
from baton.errors import InvalidInputError
from baton.ids import check_id
from baton.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Sequence

TAG_PREFIX_PATTERN: Final = "[A-Z][A-Z0-9]{0,15}"

Count = Annotated[int, Field(strict=True, ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ContextReference(_Frozen):
    """A session's context at a version; `content_hash` is the protocol's, of all its bytes."""

    session_id: Annotated[str, AfterValidator(lambda value: check_id(value, "session_id"))]
    version: Annotated[str, AfterValidator(lambda value: str(parse_version(value, "version")))]
    content_hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size_bytes: Count


class _Range(_Frozen):
    start_byte: Count
    end_byte: Count

    @property
    def size_bytes(self) -> int:
        """How long the range is."""
        return self.end_byte - self.start_byte

    @property
    def place(self) -> str:
        """`[bytes 1204-1890]`."""
        return f"[bytes {self.start_byte}-{self.end_byte}]"


class ShownPart(_Range):
    """A range of the context, word for word: `text` is what those bytes say."""

    text: str
    pinned: bool

    @property
    def rendered(self) -> str:
        """As it stands in the view's text."""
        return f"{self.place}{' pinned' if self.pinned else ''}\n{fenced(self.text)}"


class Pointer(_Range):
    """A range that is left out: `tag` stands for it, `summary`, which may be empty, is its gist."""

    tag: Annotated[str, Field(pattern=rf"^@{TAG_PREFIX_PATTERN}-\d{{3,9}}$")]
    summary: str

    @property
    def rendered(self) -> str:
        """As it stands in the view's text."""
        said = f"{self.tag} {self.place} {self.size_bytes} bytes left out"
        return f"{said}. Summary:\n{fenced(self.summary)}" if self.summary else f"{said}."


class View(_Frozen):
    """What fits of a context. Each of its bytes is in exactly one of `shown` and `left_out`.

    Both ascend. `size_tokens` is the view's text and `source_tokens` the whole context, by the
    counter it was built with; `summariser` names who wrote the summaries.
    """

    source: ContextReference
    shown: tuple[ShownPart, ...]
    left_out: tuple[Pointer, ...]
    summariser: Annotated[str, Field(max_length=100, pattern=r"^[^\r\n]*$")]
    size_tokens: Count
    source_tokens: Count

    @model_validator(mode="after")
    def _covers_the_context_once(self) -> View:
        end_byte = 0
        for part in sorted([*self.shown, *self.left_out], key=lambda part: part.start_byte):
            if part.start_byte != end_byte or part.end_byte <= end_byte:
                raise InvalidInputError("view", f"a part from byte {end_byte} on", part.place)
            end_byte = part.end_byte
        if end_byte != self.source.size_bytes:
            raise InvalidInputError("view", f"parts up to byte {self.source.size_bytes}", end_byte)
        for part in self.shown:
            if len(part.text.encode()) != part.size_bytes:
                raise InvalidInputError("view", f"{part.size_bytes} bytes of text", part.place)
        if len({pointer.tag for pointer in self.left_out}) < len(self.left_out):
            raise InvalidInputError("view", "a tag of its own for each pointer", "<one twice>")
        return self

    @property
    def whole(self) -> bool:
        """True if nothing is left out: the text is the context's."""
        return not self.left_out

    @property
    def left_out_bytes(self) -> int:
        """How many bytes the pointers stand for."""
        return sum(pointer.size_bytes for pointer in self.left_out)

    @property
    def saved_tokens(self) -> int:
        """What carrying the view instead of the context saves."""
        return self.source_tokens - self.size_tokens

    @cached_property
    def text(self) -> str:
        """What a model reads: the context itself if it is whole.

        Otherwise what is left out, the pinned parts, then the rest in the context's order. What
        comes from the context, or is derived from it, stands in fences that it cannot close.
        """
        return render(self.source, self.shown, self.left_out, self.summariser)


def render(
    source: ContextReference,
    shown: Sequence[ShownPart],
    left_out: Sequence[Pointer],
    summariser: str,
) -> str:
    """The text of a view of these parts; see `View.text`."""
    if not left_out:
        return "".join(part.text for part in shown)
    pinned = [part for part in shown if part.pinned]
    others: list[ShownPart | Pointer] = [*(part for part in shown if not part.pinned), *left_out]
    others.sort(key=lambda part: part.start_byte)
    parts = [_preamble(source, left_out, summariser), *(each.rendered for each in pinned + others)]
    return "\n\n".join(parts) + "\n"


def _preamble(source: ContextReference, left_out: Sequence[Pointer], summariser: str) -> str:
    left_out_bytes = sum(pointer.size_bytes for pointer in left_out)
    summed_up = sum(1 for pointer in left_out if pointer.summary)
    by = f", {summed_up} of them summed up ({summariser})" if summed_up else ""
    return (
        f"> View of {source.session_id}@{source.version}, not the whole of it: {left_out_bytes} "
        f"of {source.size_bytes} bytes are left out, in {len(left_out)} parts{by}. Expand a "
        "part's @tag to read its exact text. Bytes are UTF-8 offsets, the end excluded."
    )
