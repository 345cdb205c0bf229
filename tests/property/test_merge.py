"""What holds for every merge of text and of JSON documents."""

import json

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from baton.merge.conflicts import ABSENT
from baton.merge.diff import Effort, diff
from baton.merge.documents import JsonMerge, merge_json
from baton.merge.text import TextMerge, merge_appends, merge_text

unhurried = settings(deadline=None)

line_contents = st.one_of(
    st.sampled_from(["", "a", "b", "c", "}", "\r", "é\u2028", "漢\x0c"]),
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=4),
)
texts = st.builds(
    lambda lines, end: "\n".join(lines) + end,
    st.lists(line_contents, max_size=12),
    st.sampled_from(["", "\n"]),
)
sequences = st.lists(st.sampled_from("abcdef"), max_size=40)

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.5, 1.0, -0.0, 10**40, "", "x"])
)
keys = st.sampled_from(["a", "b", "c", "a/b", "~", "", "0"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def edits_apart(draw):
    """A base of distinct lines, two sides, and their merge: each change has a line of its own."""
    count = draw(st.integers(1, 12))
    kinds = draw(st.lists(st.sampled_from(["", "ours", "theirs"]), min_size=count, max_size=count))
    base, sides, both = [], {"ours": [], "theirs": []}, []
    for place, who in enumerate(kinds):
        new = draw(st.sampled_from([[], [f"{who} {place}\n"], [f"{who} {place}\n", "more\n"]]))
        old, guard = [f"old {place}\n"], [f"guard {place}\n"]
        base += old + guard
        for name in sides:
            sides[name] += (new if name == who else old) + guard
        both += (new if who else old) + guard
    return ["".join(lines) for lines in (base, sides["ours"], sides["theirs"], both)]


def resolve(document, pointer):
    """What a JSON pointer (RFC 6901) points to; `-`, a missing key and index are ABSENT."""
    for raw in pointer.split("/")[1:]:
        token = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(document, list):
            document = ABSENT if token == "-" else document[int(token)]  # noqa: S105  # no secret
        else:
            document = document.get(token, ABSENT)
    return document


@given(texts, texts)
def test_text_merged_with_an_unchanged_side_is_the_other_side(base, text):
    """An unchanged side adds nothing; equal sides are one."""
    assert merge_text(base, text, base) == TextMerge(text)
    assert merge_text(base, base, text) == TextMerge(text)
    assert merge_text(base, text, text) == TextMerge(text)


@unhurried
@given(texts, texts, texts)
def test_text_merges_alike_from_either_side(base, ours, theirs):
    """Swapping the sides swaps the names in the conflicts and changes nothing else."""
    forth, back = merge_text(base, ours, theirs), merge_text(base, theirs, ours)
    assert forth.text == back.text
    assert (forth.text is None) == bool(forth.conflicts)
    assert [(c.base, c.ours, c.theirs) for c in forth.conflicts] == [
        (c.base, c.theirs, c.ours) for c in back.conflicts
    ]


@unhurried
@given(texts, texts, texts)
def test_favoured_text_merges_leave_nothing_open(base, ours, theirs):
    """As many regions are decided as would conflict; swapped sides and favour give the same."""
    open_merge = merge_text(base, ours, theirs)
    merge = merge_text(base, ours, theirs, favour="ours")
    assert (len(open_merge.conflicts), merge.conflicts) == (merge.favoured, ())
    assert merge_text(base, theirs, ours, favour="theirs") == merge
    if not merge.favoured:
        assert merge == open_merge


@given(texts, texts, texts)
def test_text_conflicts_name_exact_ranges(base, ours, theirs):
    """A conflict's ranges, in bytes and in lines, cut out just its content."""
    for conflict in merge_text(base, ours, theirs).conflicts:
        for side, content, place in (
            (base, conflict.base, conflict.base_range),
            (ours, conflict.ours, conflict.ours_range),
            (theirs, conflict.theirs, conflict.theirs_range),
        ):
            assert side.encode()[place.start_byte : place.end_byte].decode() == content
            lines = [f"{line}\n" for line in side.split("\n")]
            with_end = content if not content or content.endswith("\n") else f"{content}\n"
            assert "".join(lines[place.start_line : place.end_line]) == with_end


@given(edits_apart())
def test_text_edits_apart_never_conflict(documents):
    """Changes with an unchanged line between merge, each line of both sides exactly once."""
    base, ours, theirs, both = documents
    assert merge_text(base, ours, theirs) == TextMerge(both)


@given(texts, texts, texts)
def test_appends_keep_every_line_in_order(base, head, incoming):
    """Both additions are whole, in commit order, and no two lines have run together."""
    base += "\n"
    joined = merge_appends(base, base + head, base + incoming)
    assume(head != incoming and head and incoming)
    between = "" if head.endswith("\n") else joined[len(base + head) :][: -len(incoming)]
    assert joined == base + head + between + incoming
    assert between in ("", "\n", "\r\n")


@unhurried
@given(sequences, sequences, st.sampled_from([0, 30, 2_000_000]))
def test_diff_turns_one_sequence_into_the_other(old, new, steps):
    """Whatever the effort: right hunks, in order, with something common between two."""
    hunks = diff(old, new, Effort(steps))
    rebuilt, copied, last = [], 0, -1
    for hunk in hunks:
        assert hunk.old_start > last
        assert (hunk.old_start - copied) == (hunk.new_start - len(rebuilt))
        rebuilt += old[copied : hunk.old_start] + new[hunk.new_start : hunk.new_end]
        copied = last = hunk.old_end
    assert rebuilt + old[copied:] == new


@unhurried
@given(values, values)
def test_json_merged_with_an_unchanged_side_is_the_other_side(base, value):
    """An unchanged side adds nothing; equal sides are one: to the byte."""
    old, new = json.dumps(base), json.dumps(value, indent=1)
    assert merge_json(old, new, old) == JsonMerge(new)
    assert merge_json(old, old, new) == JsonMerge(new)
    assert merge_json(old, new, new) == JsonMerge(new)


@unhurried
@given(values, values, values)
def test_json_merges_alike_from_either_side(base, ours, theirs):
    """Swapping the sides swaps the conflicts' values; merged values are equal but for order."""
    documents = [json.dumps(value) for value in (base, ours, theirs)]
    forth = merge_json(*documents)
    back = merge_json(documents[0], documents[2], documents[1])
    assert (forth.text is None) == (back.text is None) == bool(forth.conflicts)
    if forth.text is not None:
        one, other = (json.loads(text) for text in (forth.text, back.text))
        assert json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert len(forth.conflicts) == len(back.conflicts)


@unhurried
@given(values, values, values)
def test_favoured_json_merges_leave_nothing_open(base, ours, theirs):
    """The result is a document, the same from either side, and untouched where none conflicts."""
    documents = [json.dumps(value) for value in (base, ours, theirs)]
    merge = merge_json(*documents, favour="ours")
    back = merge_json(documents[0], documents[2], documents[1], favour="theirs")
    assert _shown(json.loads(merge.text)) == _shown(json.loads(back.text))
    assert (merge.conflicts, merge.favoured) == ((), back.favoured)
    open_merge = merge_json(*documents)
    assert bool(merge.favoured) == bool(open_merge.conflicts)
    if not merge.favoured:
        assert merge == open_merge


@unhurried
@given(values, values, values)
def test_json_conflict_pointers_resolve_in_ours(base, ours, theirs):
    """Each pointer is valid in `ours` and leads to the conflict's own value there."""
    merge = merge_json(*(json.dumps(value) for value in (base, ours, theirs)))
    for conflict in merge.conflicts:
        assert _shown(resolve(ours, conflict.pointer)) == _shown(conflict.ours)
        assert len({_shown(side) for side in (conflict.base, conflict.ours, conflict.theirs)}) == 3


@unhurried
@given(st.dictionaries(keys, st.tuples(values, values, st.sampled_from(["ours", "theirs"]))))
def test_json_members_changed_by_one_side_each_never_conflict(members):
    """Edits of different members combine to all of them."""
    base = {key: old for key, (old, _, _) in members.items()}
    ours = {key: new if who == "ours" else old for key, (old, new, who) in members.items()}
    theirs = {key: new if who == "theirs" else old for key, (old, new, who) in members.items()}
    both = {key: new for key, (_, new, _) in members.items()}
    merge = merge_json(*(json.dumps(value) for value in (base, ours, theirs)))
    assert json.dumps(json.loads(merge.text)) == json.dumps(both)


def _shown(value):
    return "absent" if value is ABSENT else json.dumps(value, sort_keys=True)
