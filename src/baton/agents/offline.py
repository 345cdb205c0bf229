"""The offline runner: extracts from the context what the instruction asks for, with no model."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.agents.counting import COUNTERS, count_term
from baton.agents.excerpt import Excerpt, byte_range, excerpts, fenced
from baton.agents.instruction import RegexRequest, Request, read_instruction
from baton.agents.line_regex import LineRegex
from baton.agents.matching import LinePattern, LiteralPattern, matching_lines
from baton.agents.memo import Memo
from baton.agents.outline import find_headings
from baton.agents.ranking import PassageIndex
from baton.agents.runner import RunnerResult
from baton.agents.summary import summarise
from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from baton.agents.runner import Assignment, ChildResult

MAX_PASSAGES: Final = 5
MAX_MATCHES: Final = 20
MAX_HEADINGS: Final = 200
MAX_SENTENCES: Final = 5
MAX_CHILD_CHARS: Final = 2_000
MAX_SHOWN_CHARS: Final = 100
INDEX_MEMORY_BYTES: Final = 64 * 1024 * 1024

_ASCII_NOTE: Final = (
    r"Classes such as `\w`, `\d`, `\s`, and `\b`, know ASCII only here; `\pL` is any letter."
)
_INDEX_SHARE: Final = 2  # an index counts as twice its text: the passages, and their terms


class OfflineRunner:
    """Deterministic, needs no key and no network; the same context and instruction, the same text.

    Its result is Markdown that begins by saying that it is extractive. Everything quoted carries
    its exact place in the context's UTF-8 bytes. What it understands: `instruction.Request`.
    """

    name = "offline"

    def __init__(self) -> None:
        self._indexes: Memo[PassageIndex] = Memo(INDEX_MEMORY_BYTES)
        self._summaries: Memo[list[Excerpt]] = Memo(INDEX_MEMORY_BYTES // 16)

    def run(self, assignment: Assignment) -> RunnerResult:
        """Extract what the instruction asks for.

        Raises:
            RunnerError: this Python's SQLite cannot rank text.
            NodeCancelledError: the node was cancelled meanwhile.
        """
        parts = [_preamble(assignment)]
        if assignment.context.strip():
            parts += _Extraction(assignment, self._indexes, self._summaries).parts()
        else:
            parts.append("The context is empty: there is nothing to extract.")
        if assignment.children:
            parts.append(_children(assignment.children))
        return RunnerResult("\n\n".join(parts) + "\n", details={"extractive": True})


@dataclass(frozen=True, slots=True)
class _Extraction:
    """One instruction over one context."""

    assignment: Assignment
    indexes: Memo[PassageIndex]
    summaries: Memo[list[Excerpt]]

    def parts(self) -> Iterator[str]:
        """The result's parts, those that were asked for by name first."""
        request = read_instruction(self.assignment.instruction)
        steps = itertools.chain(
            (self._regex(regex) for regex in request.regexes),
            (self._literal(term) for term in request.literals),
            self._counts(request),
            (self._outline() for _ in range(request.outline)),
            (self._summary() for _ in range(request.summary)),
            (self._passages(query) for query in filter(None, [request.query])),
        )
        for part in steps:
            yield part
            self.assignment.raise_if_cancelled()

    def _regex(self, regex: RegexRequest) -> str:
        written = f"/{regex.pattern}/{'i' if regex.ignore_case else ''}"
        title = f"**Lines matching {_code(written)}**"
        try:
            pattern = LineRegex(regex.pattern, ignore_case=regex.ignore_case)
        except InvalidInputError as refusal:
            return f"{title}\n\nThe pattern was refused: {_one_line(str(refusal), 300)}"
        if pattern.ascii_classes and not self.assignment.context.isascii():
            title += f"\n\n{_ASCII_NOTE}"
        return self._lines(title, pattern)

    def _literal(self, term: str) -> str:
        return self._lines(f"**Lines containing {_code(term)}**", LiteralPattern(term))

    def _lines(self, title: str, pattern: LinePattern) -> str:
        found = matching_lines(
            self.assignment.context,
            pattern,
            limit=MAX_MATCHES,
            check=self.assignment.raise_if_cancelled,
        )
        if not found.total:
            return f"{title}\n\nNo line matches."
        told = f"{_plural(found.total, 'line')} in all{_shown(found.total, len(found.shown))}."
        return f"{title}\n\n{told}\n\n{_quotes(found.shown)}"

    def _counts(self, request: Request) -> Iterator[str]:
        if not request.units and not request.counted_terms:
            return
        text = self.assignment.context
        rows = [f"- {unit}: {COUNTERS[unit](text)}" for unit in request.units]
        rows += [
            f"- occurrences of {_code(term)}: {count_term(text, term)}"
            for term in request.counted_terms
        ]
        yield "**Counts**\n\n" + "\n".join(rows)

    def _outline(self) -> str:
        text = self.assignment.context
        headings = list(find_headings(text))
        if not headings:
            return "**Outline**\n\nThe context has no Markdown headings."
        shown = headings[:MAX_HEADINGS]
        titles = excerpts(text, ((heading.start, heading.end) for heading in shown))
        rows = [
            f"{'  ' * (heading.level - 1)}- {_one_line(title.text, 200)} {byte_range(title)}"
            for heading, title in zip(shown, titles, strict=True)
        ]
        told = f"{_plural(len(headings), 'heading')} in all{_shown(len(headings), len(shown))}."
        return f"**Outline**\n\n{told}\n\n" + "\n".join(rows)

    def _summary(self) -> str:
        text = self.assignment.context
        sentences = self.summaries.get(
            self.assignment.context_hash,
            MAX_SENTENCES * 1_000,
            lambda: summarise(text, MAX_SENTENCES),
        )
        if not sentences:
            return "**Summary**\n\nThe context has no sentences of prose to choose from."
        told = "The most central sentences, in the order of the context."
        return f"**Summary**\n\n{told}\n\n{_quotes(sentences)}"

    def _passages(self, query: str) -> str:
        text = self.assignment.context
        index = self.indexes.get(
            self.assignment.context_hash,
            sys.getsizeof(text) * _INDEX_SHARE,
            lambda: PassageIndex(text),
        )
        passages = index.search(query, MAX_PASSAGES)
        title = f"**Passages most relevant to {_code(_one_line(query, MAX_SHOWN_CHARS))}**"
        if not passages:
            return f"{title}\n\nNo passage of the context holds any of these words."
        told = f"{_plural(len(passages), 'passage')} of {len(index)}, the best first (BM25)."
        return f"{title}\n\n{told}\n\n{_quotes(passages)}"


def _preamble(assignment: Assignment) -> str:
    return (
        "> Extractive result of the offline runner: quoted word for word, no model was used. "
        f"`[bytes a-b]` are UTF-8 offsets into {assignment.session_id}@"
        f"{assignment.context_version}, the end excluded."
    )


def _children(children: Sequence[ChildResult]) -> str:
    return "**Results of the children**\n\n" + "\n\n".join(map(_child, children))


def _child(child: ChildResult) -> str:
    title = f"- `{child.node_id}` {child.state}: {_one_line(child.instruction, MAX_SHOWN_CHARS)}"
    if child.state != "ok":
        return f"{title}\n\n{fenced(_one_line(child.error or 'no reason given', 500))}"
    left_out = len(child.content) - MAX_CHILD_CHARS
    cut = f"\n\nIts last {_plural(left_out, 'character')} are left out." if left_out > 0 else ""
    return f"{title}\n\n{fenced(child.content[:MAX_CHILD_CHARS])}{cut}"


def _quotes(found: Sequence[Excerpt]) -> str:
    return "\n\n".join(f"{byte_range(item)}\n{fenced(item.text)}" for item in found)


def _shown(total: int, shown: int) -> str:
    return f", the first {shown} shown" if shown < total else ""


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _one_line(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def _code(text: str) -> str:
    """`text` as inline code, whatever backticks it holds."""
    line = _one_line(text, MAX_SHOWN_CHARS)
    return f"`` {line} ``" if "`" in line else f"`{line}`"
