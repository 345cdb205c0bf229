"""From a view's tags back to the exact text they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.content.digests import content_hash
from baton.content.text import decode_text, encode_text
from baton.errors import ContextCorruptError, PointerNotFoundError

if TYPE_CHECKING:
    from baton.agents.view import Pointer, View


class Expander:
    """Expands the tags of one view, from the text of the context it is a view of.

    Holds the text's UTF-8, and hashes it once. Safe for threads.

    Raises:
        ContextCorruptError: `text` is not what the view was built from.
        InvalidTextError: it holds a lone surrogate.
    """

    def __init__(self, view: View, text: str) -> None:
        self._data = encode_text(text, "text")
        found, source = content_hash(self._data), view.source
        if found != source.content_hash:
            raise ContextCorruptError(
                f"Session {source.session_id} version {source.version}: the view is of "
                f"{source.content_hash}, the text is {found}. Nothing was expanded."
            )
        self._pointers: dict[str, Pointer] = {pointer.tag: pointer for pointer in view.left_out}

    def expand(self, tag: str) -> str:
        """The exact text behind `tag`, such as `@TAG-001`.

        Raises:
            PointerNotFoundError: the view has no such tag.
        """
        pointer = self._pointers.get(tag)
        if pointer is None:
            raise PointerNotFoundError(f"The view has no tag {tag[:40]!r}; {self._tags()}")
        return decode_text(self._data[pointer.start_byte : pointer.end_byte])

    def _tags(self) -> str:
        tags = list(self._pointers)
        return f"it has {tags[0]} to {tags[-1]}." if tags else "it leaves nothing out."
