"""Text merges against `git merge-file` on generated triples: same verdict, text and conflicts."""

import os
import random
import shutil
import subprocess

import pytest

from baton.merge.diff import Effort
from baton.merge.lines import diff_lines
from baton.merge.regions import Origin, changed_regions
from baton.merge.text import merge_text

# Few different lines make many equally short alignments; blank ones and braces are the real case.
VOCABULARIES = {
    "distinct": [f"line {number}" for number in range(100_000)],
    "prose": [f"sentence {number}" for number in range(30)] + [""] * 10,
    "code": ["}", "", "  return x"] + [f"statement {number}" for number in range(12)],
    "three": ["a", "b", "c"],
}


@pytest.fixture
def git(tmp_path):
    binary = shutil.which("git")
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("git is missing; CI must have it")
        pytest.skip("git is missing")

    def merge_file(base, ours, theirs, *flags):
        for name, text in (("base", base), ("ours", ours), ("theirs", theirs)):
            (tmp_path / name).write_bytes(text.encode())
        labels = [part for name in ("ours", "base", "theirs") for part in ("-L", name)]
        done = subprocess.run(
            [binary, "merge-file", "-p", "-q", *labels, *flags, "ours", "base", "theirs"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert 0 <= done.returncode < 128, done.stderr
        return done.returncode > 0, done.stdout.decode()

    return merge_file


def triple(rng, vocabulary, lines, edits):
    def some(count):
        return [f"{rng.choice(vocabulary)}\n" for _ in range(count)]

    def edited():
        side = base.copy()
        for _ in range(rng.randint(0, edits)):
            place, size, kind = rng.randint(0, len(side)), rng.randint(0, 3), rng.random()
            if kind < 0.1:
                moved = side[place : place + 5]
                del side[place : place + 5]
                target = rng.randint(0, len(side))
                side[target:target] = moved
            else:
                replaced = 0 if kind < 0.4 else size
                side[place : place + replaced] = some(0 if kind > 0.7 else size)
        return side

    base = some(rng.randint(0, lines))
    texts = ["".join(side) for side in (base, edited(), edited())]
    return [text[:-1] if rng.random() < 0.2 else text for text in texts]


def rendered(base, ours, theirs):
    """Our regions with the markers of `git merge-file --diff3`."""
    pieces, copied = [], 0
    hunks = diff_lines(base, ours, Effort()), diff_lines(base, theirs, Effort())
    for region in changed_regions(ours, theirs, *hunks):
        pieces.append(base[copied : region.base.start])
        copied = region.base.stop
        if region.origin is Origin.CONFLICT:
            sides = ours[region.ours], base[region.base], theirs[region.theirs]
            mine, old, others = (f"{s}\n" if s and s[-1] != "\n" else s for s in sides)
            pieces.append(
                f"<<<<<<< ours\n{mine}||||||| base\n{old}=======\n{others}>>>>>>> theirs\n"
            )
        else:
            from_theirs = region.origin is Origin.THEIRS
            pieces.append(theirs[region.theirs] if from_theirs else ours[region.ours])
    return "".join([*pieces, base[copied:]])


def compare(git, texts):
    """What differs: nothing (None), the verdict, the merged text, or a conflict's extent."""
    conflicted, text = git(*texts)
    merge = merge_text(*texts)
    if conflicted != (merge.text is None):
        return "verdict"
    if not conflicted:
        return None if merge.text == text else "text"
    return None if rendered(*texts) == git(*texts, "--diff3")[1] else "extent"


@pytest.mark.slow
@pytest.mark.parametrize("kind", VOCABULARIES)
def test_merges_are_those_of_git(git, kind):
    """600 short triples of each kind: git's verdict, git's text, git's diff3 conflicts."""
    rng = random.Random(f"short {kind}")
    found = []
    for _ in range(600):
        texts = triple(rng, VOCABULARIES[kind], rng.choice([5, 20, 60]), rng.choice([1, 3, 6]))
        found.append(compare(git, texts))
    differing = [difference for difference in found if difference]
    # Where each line occurs once there is one shortest alignment, and nothing may differ. Where
    # lines repeat there are several: another git may choose otherwise in rare cases.
    assert len(differing) <= (0 if kind == "distinct" else 3), differing


@pytest.mark.slow
@pytest.mark.parametrize("favour", ["ours", "theirs"])
@pytest.mark.parametrize("kind", VOCABULARIES)
def test_favoured_merges_are_those_of_git(git, kind, favour):
    """300 short triples of each kind: git's text of `merge-file --ours` and `--theirs`."""
    rng = random.Random(f"favoured {kind}")
    differing, decided = [], 0
    for _ in range(300):
        texts = triple(rng, VOCABULARIES[kind], rng.choice([5, 20, 60]), rng.choice([1, 3, 6]))
        merge = merge_text(*texts, favour=favour)
        decided += merge.favoured
        if (merge.conflicts, merge.text) != ((), git(*texts, f"--{favour}")[1]):
            differing.append(texts)
    assert decided > 50
    # As above: where lines repeat, git may align otherwise and then take other lines.
    assert len(differing) <= (0 if kind == "distinct" else 3), differing


@pytest.mark.slow
@pytest.mark.parametrize("kind", VOCABULARIES)
def test_long_merges_are_those_of_git_but_for_its_shortcuts(git, kind):
    """Long triples: only alignments through much repeated lines, which git abridges, differ."""
    rng = random.Random(f"long {kind}")
    # Long enough lines to be compared by windows.
    vocabulary = [line and f"{line} {'.' * 80}" for line in VOCABULARIES[kind]]
    found = []
    for _ in range(40):
        texts = triple(rng, vocabulary, 10_000, rng.choice([3, 10, 60]))
        found.append(compare(git, texts))
    differing = [difference for difference in found if difference]
    assert len(differing) <= (0 if kind == "distinct" else 4), differing


def test_adjacent_edits_conflict_as_in_git(git):
    """Edits of neighbouring lines conflict, edits with one line between them merge."""
    base = "a\nb\nc\n"
    for theirs in ("a\nB\nc\n", "a\nb\nC\n", "a\nb\nx\nc\n", "a\nx\nb\nc\n"):
        assert compare(git, (base, "A\nb\nc\n", theirs)) is None
