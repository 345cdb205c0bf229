"""Text merges: verdicts, exact line ends, conflicts as objects, appends, bounded work."""

import json
import random

import pytest

from baton.errors import InvalidInputError
from baton.merge import lines as lines_module
from baton.merge.conflicts import TextConflict
from baton.merge.diff import Effort, diff
from baton.merge.ranges import TextRange
from baton.merge.text import TextMerge, merge_appends, merge_text


def numbered(count):
    return [f"line {number}\n" for number in range(count)]


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        ("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n", "A\nb\nC\n"),
        ("a\nb\nc\n", "b\nc\n", "a\nb\n", "b\n"),
        ("a\nb\n", "0\na\nb\n", "a\nb\nc\n", "0\na\nb\nc\n"),
        ("a\nb\nc\n", "A\nb\nc\n", "A\nb\nC\n", "A\nb\nC\n"),
        ("a\nb\nc\n", "X\nb\nc\n", "X\nb\nc\n", "X\nb\nc\n"),
        ("", "", "a\n", "a\n"),
        ("a\n", "", "", ""),
        ("", "", "", ""),
        ("a\nb\nc", "A\nb\nc", "a\nb\nC", "A\nb\nC"),
        ("a\nb\nc\n", "A\nb\nc\n", "a\nb\nc", "A\nb\nc"),
    ],
)
def test_changes_with_a_line_between_merge(base, ours, theirs, merged):
    """Changes that an unchanged line keeps apart, and equal ones, merge from either side."""
    assert merge_text(base, ours, theirs) == TextMerge(merged)
    assert merge_text(base, theirs, ours) == TextMerge(merged)


@pytest.mark.parametrize(
    ("base", "ours", "theirs"),
    [
        ("a\nb\nc\n", "A\nb\nc\n", "a\nB\nc\n"),
        ("a\nb\n", "a\nx\nb\n", "a\ny\nb\n"),
        ("a\nb\n", "a\nx\nb\n", "a\nB\n"),
        ("a\n", "", "b\n"),
        ("", "a\n", "b\n"),
        ("a\n", "a", "a\nb\n"),
        ("a\n", "a\r\n", "A\n"),
    ],
)
def test_changes_that_overlap_or_touch_conflict(base, ours, theirs):
    """As in `git merge-file`, changes of neighbouring lines conflict; there is no text then."""
    for one, other in ((ours, theirs), (theirs, ours)):
        merge = merge_text(base, one, other)
        assert merge.text is None
        assert len(merge.conflicts) == 1


def test_conflict_names_lines_and_bytes_of_all_three():
    """A conflict holds each side's lines and where they stand, in lines and UTF-8 bytes."""
    base = "é\nsame\nold\n漢\n"
    ours = "é\nmore\nsame\nours 👩\n漢\n"
    theirs = "é\nsame\ntheirs\nunfinished"
    assert merge_text(base, ours, theirs).conflicts == (
        TextConflict(
            base="old\n漢\n",
            ours="ours 👩\n漢\n",
            theirs="theirs\nunfinished",
            base_range=TextRange(2, 4, 8, 16),
            ours_range=TextRange(3, 5, 13, 27),
            theirs_range=TextRange(2, 4, 8, 25),
        ),
    )


def test_conflict_of_a_deletion_has_an_empty_range():
    """The deleted side of a conflict is an empty range at the place of the deletion."""
    (conflict,) = merge_text("a\nb\nc\n", "a\nc\n", "a\nB\nc\n").conflicts
    assert conflict.ours == ""
    assert conflict.ours_range == TextRange(1, 1, 2, 2)


@pytest.mark.parametrize("mark", ["\r", "\f", "\v", "\x1c", "\x85", "\u2028", "\u2029"])
def test_only_a_line_feed_ends_a_line(mark):
    """What `str.splitlines` would cut at stays inside a line: two changes beside it conflict."""
    base = f"a{mark}b{mark}c\nd\n"
    assert merge_text(base, f"A{mark}b{mark}c\nd\n", f"a{mark}b{mark}C\nd\n").text is None
    assert merge_text(f"x\n{base}", f"X\n{base}", f"x\n{base}{mark}").text == f"X\n{base}{mark}"


def test_carriage_returns_survive():
    r"""`\r\n` and `\n` are kept line by line."""
    assert merge_text("a\r\nb\nc\r\n", "A\r\nb\nc\r\n", "a\r\nb\nC\r\n").text == "A\r\nb\nC\r\n"


def test_lone_surrogates_do_not_raise():
    """Text that cannot be stored still gets a verdict."""
    assert merge_text("a", "\ud800", "b").conflicts[0].ours_range == TextRange(0, 1, 0, 3)


@pytest.mark.parametrize(
    ("base", "head", "incoming", "both"),
    [
        ("a\n", "a\nb\n", "a\nc\n", "a\nb\nc\n"),
        ("a\n", "a\nb", "a\nc", "a\nb\nc"),
        ("a", "a\nb", "a\nc", "a\nb\nc"),
        ("a", "a\nb\n", "a\nc\n", "a\nb\nc\n"),
        ("a\r\n", "a\r\nb", "a\r\nc\r\n", "a\r\nb\r\nc\r\n"),
        ("a", "a\r\nb", "a\r\nc", "a\r\nb\r\nc"),
        ("", "b", "c", "b\nc"),
        ("a\n", "a\n", "a\nc", "a\nc"),
        ("a\n", "a\nb", "a\n", "a\nb"),
        ("a\n", "a\nb\n", "a\nb\n", "a\nb\n"),
        ("a", "a\n", "a\nb", "a\nb"),
        ("a", "a\nb", "a\r\nc", None),
        ("a", "ab", "a\nc", None),
        ("a", "a\nb", "ac", None),
        ("a\n", "A\nb\n", "a\nc\n", None),
        ("a\n", "a\nb\n", "", None),
    ],
)
def test_appends_follow_each_other_in_commit_order(base, head, incoming, both):
    """Whole lines added behind the base by both: the head's first; any other edit: None."""
    assert merge_appends(base, head, incoming) == both


def test_appends_never_join_two_lines():
    """A head without a final line end does not run into the first incoming line."""
    assert "bc" not in str(merge_appends("a\n", "a\nb", "a\nc"))


def test_windows_decide_as_the_whole_text_does(monkeypatch):
    """Long texts are compared by windows; with tiny windows the merges of edits stay the same."""
    rng = random.Random(1)
    for _ in range(30):
        base = numbered(400)
        ours, theirs = base.copy(), base.copy()
        for side in (ours, theirs):
            for place in sorted(rng.sample(range(395), 6), reverse=True):
                side[place : place + rng.randint(0, 3)] = numbered(2_000)[-rng.randint(1, 3) :]
        texts = ["".join(side) for side in (base, ours, theirs)]
        whole = merge_text(*texts)
        monkeypatch.setattr(lines_module, "_WHOLE_CHARACTERS", 0)
        monkeypatch.setattr(lines_module, "_FIRST_WINDOW_CHARACTERS", 256)
        assert merge_text(*texts) == whole
        monkeypatch.undo()


def test_long_texts_merge_around_large_moves():
    """A large insertion, a large deletion and a small edit far apart merge in a long text."""
    base = numbered(40_000)
    ours = [*base[:5_000], *(f"new {n}\n" for n in range(9_000)), *base[5_000:]]
    theirs = [*base[:20_000], *base[30_000:35_000], "edit\n", *base[35_001:]]
    merged = [*ours[:29_000], *base[30_000:35_000], "edit\n", *base[35_001:]]
    assert merge_text("".join(base), "".join(ours), "".join(theirs)).text == "".join(merged)


@pytest.mark.parametrize(
    ("favour", "merged"), [("ours", "A\nb\nC1\nd\nE2\n"), ("theirs", "A\nb\nC2\nd\nE2\n")]
)
def test_favour_decides_conflicts_and_nothing_else(favour, merged):
    """The region in conflict is the favoured side's; changes of either side elsewhere stay."""
    texts = ("a\nb\nc\nd\ne\n", "A\nb\nC1\nd\ne\n", "a\nb\nC2\nd\nE2\n")
    assert merge_text(*texts, favour=favour) == TextMerge(merged, favoured=1)
    assert merge_text(*texts[:2], texts[0], favour=favour) == TextMerge(texts[1])


def test_favour_that_names_no_side_is_refused():
    """Even where nothing conflicts: a slip must not show only at the first conflict."""
    with pytest.raises(InvalidInputError, match=r"^favour: expected 'ours', 'theirs' or None"):
        merge_text("a", "a", "a", favour="mine")


def test_text_conflict_as_plain_json():
    """Kind, the three contents and their ranges, all of it JSON."""
    (conflict,) = merge_text("a\né\n", "a\nB\n", "a\n").conflicts
    shown = conflict.as_dict()
    assert json.loads(json.dumps(shown)) == shown
    assert shown == {
        "kind": "text",
        "base": "é\n",
        "ours": "B\n",
        "theirs": "",
        "base_range": {"start_line": 1, "end_line": 2, "start_byte": 2, "end_byte": 5},
        "ours_range": {"start_line": 1, "end_line": 2, "start_byte": 2, "end_byte": 4},
        "theirs_range": {"start_line": 1, "end_line": 1, "start_byte": 2, "end_byte": 2},
    }


def test_hopeless_texts_become_one_conflict():
    """Shuffled against reversed ends after a fixed amount of work, in one conflict over all."""
    base = numbered(20_000)
    shuffled = random.Random(2).sample(base, len(base))
    texts = ["".join(side) for side in (base, shuffled, base[::-1])]
    (conflict,) = merge_text(*texts).conflicts
    assert len(conflict.base) > 0.9 * len(texts[0])


def test_diff_without_effort_is_coarse_but_right():
    """With no work left the hunks still turn the old sequence into the new one."""
    rng = random.Random(3)
    old, new = (rng.choices("abcd", k=300) for _ in range(2))
    for effort in (Effort(0), Effort(500), Effort()):
        rebuilt = old.copy()
        for hunk in reversed(diff(old, new, effort)):
            rebuilt[hunk.old_start : hunk.old_end] = new[hunk.new_start : hunk.new_end]
        assert rebuilt == new


def test_diff_cuts_long_boxes_at_anchors(monkeypatch):
    """Where the search gives up on a box, elements that occur once still align."""
    from baton.merge import diff as diff_module

    monkeypatch.setattr(diff_module, "_BOX_STEPS", 50)
    old = [f"{number}" for number in range(200)]
    new = [item for item in old if int(item) % 3] + old[:100:7]
    kept = sum(hunk.old_end - hunk.old_start for hunk in diff(old, new, Effort()))
    assert kept == sum(1 for item in old if not int(item) % 3)
