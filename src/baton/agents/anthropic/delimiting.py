"""Text of others set between tags that it cannot contain."""

from __future__ import annotations

import hashlib

_TAG_DIGITS = 16


def delimited(kind: str, text: str) -> str:
    """`text` between `<kind-…>` and `</kind-…>`.

    The tag follows from the text alone, so equal texts give equal prompts, and whoever writes the
    text would have to find one that holds a part of its own hash. Should it, another is taken.
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    while digest[:_TAG_DIGITS] in text:
        digest = hashlib.sha256(digest.encode()).hexdigest()
    tag = f"{kind}-{digest[:_TAG_DIGITS]}"
    return f"<{tag}>\n{text}\n</{tag}>"
