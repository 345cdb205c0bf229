"""How many tokens a text can be at most, told without a model."""

from __future__ import annotations

import string
from typing import Final

_LETTERS_AND_SPACE: Final = (string.ascii_letters + " \n\r\t").encode()


def most_tokens(text: str) -> int:
    """Above what any current tokenizer of Anthropic's makes of usual text.

    A byte is at least one token's part, so digits, punctuation and bytes beyond ASCII count as a
    token each, which no tokenizer over bytes exceeds. Of ASCII letters and white space two count
    as one: prose and code have 2.5 to 4.5 characters a token. Random letters may have fewer.
    """
    data = text.encode("utf-8", "surrogatepass")
    dense = len(data.translate(None, _LETTERS_AND_SPACE))
    return dense + (len(data) - dense + 1) // 2
