"""Builds the view of a context that fits a budget: what was pinned, then summaries with pointers.

One chain of drafts, each longer than the one before, leads from the least that a view can be to
the whole context; the longest that fits is found by bisection. What is given out was counted as
it is, so it is within the budget whatever the counter does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.agents.byte_ranges import ByteRange, gaps, union
from baton.agents.pinning import pinned_ranges
from baton.agents.sections import cut_sections
from baton.agents.summariser import ExtractiveSummariser, cut_to_fit
from baton.agents.token_counting import estimate_text_tokens
from baton.agents.view import (
    TAG_PREFIX_PATTERN,
    ContextReference,
    Pointer,
    ShownPart,
    View,
    render,
)
from baton.content.digests import content_hash
from baton.content.text import encode_text
from baton.errors import InvalidInputError, ViewBudgetError
from baton.ids import check_id
from baton.versions import parse_version
from baton.whole_numbers import check_whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from baton.agents.pinning import Pin
    from baton.agents.summariser import Summariser
    from baton.agents.token_counting import TokenCounter

MIN_SECTION_BYTES: Final = 4_096
SUMMARY_SHARE: Final = 0.3  # of the section it is derived from
_POINTERS_PER_SECTION: Final = 6  # a section's part of the budget, in lengths of its pointer
_SHOWN_ANYWAY_BYTES: Final = 24  # what its pointer would be longer than


def build_view(
    text: str,
    budget_tokens: int,
    *,
    session_id: str,
    version: str,
    pinned: Sequence[Pin] = (),
    count_tokens: TokenCounter = estimate_text_tokens,
    summariser: Summariser | None = None,
    tag_prefix: str = "TAG",
) -> View:
    """The view of `text`, the context of `session_id` at `version`, that fits the budget.

    A text within the budget is shown whole. Otherwise the pinned parts are shown and the rest is
    cut into sections. Each gets a pointer, then a summary, then is shown itself, the last section
    first, as far as the budget reaches. The same arguments give the same view.

    Args:
        text: the context.
        budget_tokens: what `count_tokens` may give for the view's text at most.
        session_id: where `text` came from; the view refers to it there.
        version: the version that `text` is.
        pinned: what must be shown, as titles of headings or as ranges of UTF-8 bytes.
        count_tokens: called with the whole text once, with drafts of the view some ten times, and
            with small pieces a few times for each section; so not a remote call.
        summariser: called once for each section; the extractive one by default.
        tag_prefix: the tags are `@{tag_prefix}-001` and on.

    Raises:
        ViewBudgetError: the pinned parts and the pointers around them are above the budget; says
            how many tokens would do.
        InvalidInputError: a pin is not in the text, or another argument is not as said.
        InvalidTextError: the text or a summary holds a lone surrogate.
    """
    check_whole_number(budget_tokens, "budget_tokens")
    if not re.fullmatch(TAG_PREFIX_PATTERN, tag_prefix):
        raise InvalidInputError("tag_prefix", "1 to 16 of A-Z and 0-9, a letter first", tag_prefix)
    data = encode_text(text, "text")
    source = ContextReference(
        session_id=check_id(session_id, "session_id"),
        version=str(parse_version(version, "version")),
        content_hash=content_hash(data),
        size_bytes=len(data),
    )
    building = _Building(
        source=source,
        data=data,
        source_tokens=count_tokens(text),
        budget_tokens=budget_tokens,
        pinned=pinned_ranges(text, data, pinned),
        count_tokens=count_tokens,
        summariser=summariser or ExtractiveSummariser(count_tokens),
        tag_prefix=tag_prefix,
    )
    return building.view()


@dataclass(frozen=True, slots=True)
class _Draft:
    """The parts of a view that may be too long."""

    shown: Sequence[ShownPart]
    left_out: Sequence[Pointer]


@dataclass(frozen=True, slots=True)
class _Sections:
    """What is not pinned, ascending, and the summary of each, empty if there is none."""

    ranges: Sequence[ByteRange]
    summaries: Mapping[ByteRange, str]


@dataclass(frozen=True, slots=True)
class _Building:
    """One context on its way to a view."""

    source: ContextReference
    data: bytes
    source_tokens: int
    budget_tokens: int
    pinned: Sequence[ByteRange]
    count_tokens: TokenCounter
    summariser: Summariser
    tag_prefix: str

    def view(self) -> View:
        """The longest view within the budget."""
        around = gaps(self.source.size_bytes, self.pinned)
        if self.source_tokens <= self.budget_tokens:
            return self._finished(_Draft(self._shown(around), []))
        least = self._draft(around)
        least_tokens = self._tokens(least)
        if least_tokens > self.budget_tokens:
            raise ViewBudgetError(min(least_tokens, self.source_tokens), self.budget_tokens)
        return self._finished(self._longest(least, self._sections(around, least_tokens)))

    def _longest(self, least: _Draft, sections: _Sections) -> _Draft:
        best, fits, too_long = least, -1, 2 * len(sections.ranges) + 1
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            draft = self._draft_after(sections, middle)
            if self._tokens(draft) <= self.budget_tokens:
                best, fits = draft, middle
            else:
                too_long = middle
        return best

    def _draft_after(self, sections: _Sections, steps: int) -> _Draft:
        """With as many sections, from the last on, summed up and, after that, shown."""
        latest_first = sections.ranges[::-1]
        summed_up = latest_first[:steps]
        shown = latest_first[: max(0, steps - len(latest_first))]
        summaries = {each: sections.summaries[each] for each in summed_up}
        return self._draft(sections.ranges, summaries, frozenset(shown))

    def _draft(
        self,
        ranges: Iterable[ByteRange],
        summaries: Mapping[ByteRange, str] | None = None,
        shown: frozenset[ByteRange] = frozenset(),
    ) -> _Draft:
        summaries = summaries or {}
        in_full: list[ByteRange] = []
        pointers: list[Pointer] = []
        for each in ranges:
            start, end = each
            if each in shown or end - start <= _SHOWN_ANYWAY_BYTES:
                in_full.append(each)
            else:
                tag = f"@{self.tag_prefix}-{len(pointers) + 1:03}"
                summary = summaries.get(each, "")
                pointers.append(Pointer(tag=tag, start_byte=start, end_byte=end, summary=summary))
        return _Draft(self._shown(in_full), pointers)

    def _shown(self, ranges: Iterable[ByteRange]) -> list[ShownPart]:
        """The pinned ranges and these, ascending; those of these that touch become one."""
        marked = [(each, True) for each in self.pinned] + [(each, False) for each in union(ranges)]
        return [
            ShownPart(start_byte=start, end_byte=end, text=self._text(start, end), pinned=pinned)
            for (start, end), pinned in sorted(marked)
        ]

    def _sections(self, around: Sequence[ByteRange], least_tokens: int) -> _Sections:
        """What is around the pinned parts in as many sections as the budget can sum up."""
        room_tokens = self.budget_tokens - least_tokens
        pointer_tokens = self._pointer_tokens()
        size_bytes = sum(end - start for start, end in around)
        count = max(1, room_tokens // (_POINTERS_PER_SECTION * pointer_tokens))
        target_bytes = max(MIN_SECTION_BYTES, -(-size_bytes // count))
        ranges = [part for gap in around for part in cut_sections(self.data, gap, target_bytes)]
        summaries = {}
        for each in ranges:
            section_bytes = each.end_byte - each.start_byte
            share = room_tokens * section_bytes // size_bytes - pointer_tokens
            own = self.source_tokens * section_bytes / self.source.size_bytes
            summaries[each] = self._summary(each, min(share, int(SUMMARY_SHARE * own)))
        return _Sections(ranges, summaries)

    def _summary(self, section: ByteRange, max_tokens: int) -> str:
        if max_tokens < 1:
            return ""
        summary = self.summariser.summarise(self._text(*section), max_tokens)
        encode_text(summary, "summary")
        return cut_to_fit(summary.strip(), max_tokens, self.count_tokens)

    def _pointer_tokens(self) -> int:
        end = self.source.size_bytes
        longest = Pointer(tag=f"@{self.tag_prefix}-0000", start_byte=end, end_byte=end, summary=".")
        return max(1, self.count_tokens(longest.rendered))

    def _text(self, start_byte: int, end_byte: int) -> str:
        return self.data[start_byte:end_byte].decode()

    def _tokens(self, draft: _Draft) -> int:
        text = render(self.source, draft.shown, draft.left_out, self.summariser.name)
        return self.count_tokens(text)

    def _finished(self, draft: _Draft) -> View:
        return View(
            source=self.source,
            shown=tuple(draft.shown),
            left_out=tuple(draft.left_out),
            summariser=self.summariser.name,
            size_tokens=self._tokens(draft),
            source_tokens=self.source_tokens,
        )
