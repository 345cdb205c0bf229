"""Reads the labelled corpus of redaction, and judges findings against its labels.

`tests/redaction_corpus/README.md` has the form of the files.
"""

from __future__ import annotations

import random
import re
import string
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from baton.redaction import Finding

CORPUS = Path(__file__).parent / "redaction_corpus"
KINDS = {
    "K": "api_key",
    "P": "password",
    "S": "secret",
    "A": "authorization",
    "J": "jwt",
    "R": "private_key",
    "N": "ssn",
    "E": "email",
    "C": "credit_card",
}
_ALPHABETS = {
    "a": string.ascii_letters + string.digits,
    "h": "0123456789abcdef",
    "H": "0123456789ABCDEF",
    "U": string.ascii_uppercase + "234567",
    "b": string.ascii_letters + string.digits + "+/",
    "u": string.ascii_letters + string.digits + "-_",
    "d": string.digits,
    "l": string.ascii_lowercase + string.digits,
}
_CREDENTIALS = frozenset({"api_key", "password", "secret", "authorization", "jwt"})
_SEPARATOR = re.compile(r"^%%(.*)\n", re.MULTILINE)
_RANDOM = re.compile(r"‹([ahHUbudl])(\d+)›")
_MARK = re.compile(r"⟦([KPSAJRNEC]):(.*?)⟧", re.DOTALL)
_SPILL_CHARS = 12


@dataclass(frozen=True)
class Span:
    """Characters of a sample that must go."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Sample:
    """A text and what is sensitive in it; `name` is its file and line."""

    name: str
    content_type: str
    text: str
    spans: tuple[Span, ...]

    @property
    def held_out(self) -> bool:
        return self.name.startswith("heldout_")


def samples() -> list[Sample]:
    """The whole corpus, in the order of its files."""
    return [sample for path in sorted(CORPUS.glob("*.txt")) for sample in _read(path)]


@dataclass
class Score:
    """Counts of one kind, and in which samples it went wrong."""

    expected: int = 0
    found: int = 0
    right: int = 0
    wrong: int = 0
    missed_in: list[str] = field(default_factory=list)
    wrong_in: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return self.found / self.expected if self.expected else 1.0

    @property
    def precision(self) -> float:
        told = self.right + self.wrong
        return self.right / told if told else 1.0


def judge(judged: Iterable[tuple[Sample, Sequence[Finding]]]) -> dict[str, Score]:
    """Scores by kind, and of all under `all`; see `tests/unit/redaction/test_corpus.py`."""
    scores: dict[str, Score] = defaultdict(Score)
    for sample, findings in judged:
        for span in sample.spans:
            hit = _covered(span, findings)
            for score in (scores[span.kind], scores["all"]):
                score.expected += 1
                score.found += hit
                score.missed_in += [] if hit else [f"{sample.name} {_at(sample, span)}"]
        for finding in findings:
            right = _is_right(finding, sample.spans)
            for score in (scores[finding.kind], scores["all"]):
                score.right += right
                score.wrong += not right
                score.wrong_in += [] if right else [f"{sample.name} {_at(sample, finding)}"]
    return dict(scores)


def table(scores: dict[str, Score]) -> str:
    """One line a kind, then each miss and each false finding."""
    lines = [f"{'kind':<16}{'expected':>9}{'recall':>8}{'told':>6}{'precision':>10}"]
    for kind, score in sorted(scores.items()):
        told = score.right + score.wrong
        lines.append(
            f"{kind:<16}{score.expected:>9}{score.recall:>8.3f}{told:>6}{score.precision:>10.3f}"
        )
    lines += [f"missed: {each}" for each in scores["all"].missed_in]
    lines += [f"false: {each}" for each in scores["all"].wrong_in]
    return "\n".join(lines)


def _at(sample: Sample, where: Span | Finding) -> str:
    return f"{where.kind} {sample.text[where.start : where.end]!r:.90}"


def _covered(span: Span, findings: Sequence[Finding]) -> bool:
    left = set(range(span.start, span.end))
    for finding in findings:
        if _same_group(finding.kind, span.kind):
            left.difference_update(range(finding.start, finding.end))
    return not left


def _is_right(finding: Finding, spans: Sequence[Span]) -> bool:
    mine = set(range(finding.start, finding.end))
    inside = 0
    for span in spans:
        if _same_group(finding.kind, span.kind):
            inside += len(mine.intersection(range(span.start, span.end)))
    return inside > 0 and len(mine) - inside <= max(_SPILL_CHARS, inside // 2)


def _same_group(one: str, other: str) -> bool:
    return one == other or {one, other} <= _CREDENTIALS


def _read(path: Path) -> list[Sample]:
    parts = _SEPARATOR.split(path.read_text(encoding="utf-8"))
    found = []
    line = parts[0].count("\n") + 1
    for given_type, body in zip(parts[1::2], parts[2::2], strict=True):
        content_type = given_type.strip() or "text/plain"
        found.append(_labelled(f"{path.stem}:{line}", content_type, body.removesuffix("\n")))
        line += body.count("\n") + 1
    return found


def _labelled(name: str, content_type: str, marked: str) -> Sample:
    rng = random.Random(marked)
    marked = _RANDOM.sub(
        lambda hit: "".join(rng.choices(_ALPHABETS[hit[1]], k=int(hit[2]))), marked
    )
    text, spans, at = "", [], 0
    for hit in _MARK.finditer(marked):
        text += marked[at : hit.start()]
        spans.append(Span(KINDS[hit[1]], len(text), len(text) + len(hit[2])))
        text += hit[2]
        at = hit.end()
    return Sample(name, content_type, text + marked[at:], tuple(spans))
