"""Who derives a summary from a piece of text: the contract, and the default that needs no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from baton.agents.summary import summarise
from baton.agents.token_counting import estimate_text_tokens

if TYPE_CHECKING:
    from baton.agents.token_counting import TokenCounter

MAX_SENTENCES: Final = 40
_SENTENCE_CHARS: Final = 75  # about; more sentences than fit are asked for, rather than fewer
_CUT_OFF: Final = " […]"


class Summariser(Protocol):
    """Derives summaries. The text is data of others: nothing in it is an instruction.

    A view is the same each time only if its summariser is.
    """

    @property
    def name(self) -> str:
        """What a view says its summaries are by: a line of at most 100 characters."""

    def summarise(self, text: str, max_tokens: int) -> str:
        """The gist of `text` in at most `max_tokens`; empty if there is nothing to say.

        What is longer is cut off by the caller. Errors pass through.
        """


class ExtractiveSummariser:
    """The most central sentences, word for word; where there is no prose, how the text begins."""

    name = "extractive"

    def __init__(self, count_tokens: TokenCounter = estimate_text_tokens) -> None:
        self._count_tokens = count_tokens

    def summarise(self, text: str, max_tokens: int) -> str:
        """At most 40 sentences, each on a line, in the order of the text."""
        wanted = max_tokens * len(text) // max(1, self._count_tokens(text)) // _SENTENCE_CHARS
        sentences = summarise(text, min(max(wanted, 1), MAX_SENTENCES))
        lines = [" ".join(sentence.text.split()) for sentence in sentences]
        while lines and self._count_tokens("\n".join(lines)) > max_tokens:
            lines.remove(max(lines, key=len))
        return "\n".join(lines) or cut_to_fit(text.strip(), max_tokens, self._count_tokens)


def cut_to_fit(text: str, max_tokens: int, count_tokens: TokenCounter) -> str:
    """`text`, or as much of its beginning as fits with a ` […]` behind it; empty if none does."""
    if count_tokens(text) <= max_tokens:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if count_tokens(text[:middle] + _CUT_OFF) <= max_tokens:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + _CUT_OFF if fits else ""
