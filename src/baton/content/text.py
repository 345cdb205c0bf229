"""Text to UTF-8 bytes and back, strictly: what cannot make the round trip is refused."""

from __future__ import annotations

from baton.errors import ContextCorruptError, InvalidInputError, InvalidTextError


def encode_text(text: object, field: str = "content") -> bytes:
    """`text` as UTF-8; `field` names it in errors.

    Raises:
        InvalidInputError: `text` is not a str.
        InvalidTextError: it holds a lone surrogate; names the index of its character.
    """
    if not isinstance(text, str):
        raise InvalidInputError(field, "text (str)", f"<{type(text).__name__}>")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        got = f"<a lone surrogate at character {error.start}>"
    # Raised out here because the codec's error holds the whole content.
    raise InvalidTextError(field, "text that UTF-8 can encode", got)


def decode_text(data: bytes | bytearray) -> str:
    """UTF-8 `data` as text.

    Raises:
        ContextCorruptError: it is not UTF-8; names the first wrong byte's offset.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        detail = f"not UTF-8 at byte {error.start}"
    raise ContextCorruptError(detail)
