"""The estimate of tokens from bytes. For a paid call, count with the model's own API instead."""

from __future__ import annotations

from typing import Final

# The protocol's figure (its section 4.2). Tokenizers of today give 2.5 to 3.5 characters a token
# on code and JSON, so the estimate runs low there.
BYTES_PER_TOKEN: Final = 4


def estimate_tokens(size_bytes: int) -> int:
    """About how many tokens `size_bytes` of UTF-8 text are, rounded down."""
    return size_bytes // BYTES_PER_TOKEN
