"""How many tokens a text is: what a counter looks like, and the estimate that needs no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from baton.content.text import encode_text
from baton.content.tokens import estimate_tokens

TokenCounter: TypeAlias = Callable[[str], int]
"""Tokens of a text, 0 or more; the longer the text, the more. Equal texts count the same."""


def estimate_text_tokens(text: str) -> int:
    """About how many tokens `text` is: a quarter of its UTF-8 bytes, which runs low on code.

    Raises:
        InvalidTextError: it holds a lone surrogate.
    """
    size_bytes = len(text) if text.isascii() else len(encode_text(text, "text"))
    return estimate_tokens(size_bytes)
