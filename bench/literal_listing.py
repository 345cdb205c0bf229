"""A baseline that is WRONG ON PURPOSE: the protocol's listing of chunking, taken literally.

Written anew from the protocol's sections 4.2 and 4.3, with their flaws kept: byte offsets cut a
`str`; the overlap is applied to the start *and* to the stride, so chunks share 4,000 characters
where the assembler looks for at most 2,000; gzip runs at level 9; the overlap is guessed by
searching for repeated text. Baton's own `chunk_context` and `assemble_context` are what it is
compared with. Use nothing of this.
"""

from __future__ import annotations

import base64
import gzip
from itertools import pairwise
from typing import Any, Final

_CHUNK_BYTES: Final = 1024 * 1024
_OVERLAP_TOKENS: Final = 500
_SEARCH_CHARACTERS: Final = 2000


def chunk(text: str) -> list[dict[str, Any]]:
    """The listing's `chunk_context`, with its default sizes."""
    overlap = _OVERLAP_TOKENS * 4
    chunks: list[dict[str, Any]] = []
    offset = offset_tokens = 0
    while offset < len(text.encode()):
        start = max(0, offset - overlap)
        plain = text[start : min(len(text.encode()), offset + _CHUNK_BYTES)].encode()
        packed = gzip.compress(plain)
        chunks.append(
            {
                "chunk_id": len(chunks),
                "offset_bytes": start,
                "offset_tokens": offset_tokens,
                "size_bytes": len(plain),
                "size_tokens": len(plain) // 4,
                "compression_ratio": len(packed) / len(plain),
                "content": base64.b64encode(packed).decode(),
            }
        )
        offset += _CHUNK_BYTES - overlap
        offset_tokens += len(plain) // 4 - _OVERLAP_TOKENS
    return chunks


def assemble(chunks: list[dict[str, Any]]) -> str:
    """The listing's `assemble_context`."""
    parts = [gzip.decompress(base64.b64decode(each["content"])).decode() for each in chunks]
    text = parts[0]
    for before, part in pairwise(parts):
        text += part[_repeated(before, part) :]
    return text


def _repeated(before: str, part: str) -> int:
    longest = min(len(before), len(part), _SEARCH_CHARACTERS)
    return next((n for n in range(longest, 0, -1) if before[-n:] == part[:n]), 0)
