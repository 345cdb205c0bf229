"""JSON merges: per path, conflicts with pointers, resolvers, strict input, stable output."""

import json

import pytest

from baton.errors import ContextTooLargeError, InvalidInputError, InvalidTextError
from baton.merge import strict_json
from baton.merge.conflicts import ABSENT, UNRESOLVED, JsonConflict
from baton.merge.documents import JsonMerge, merge_json
from baton.merge.resolvers import (
    counter,
    last_write_wins,
    list_by_key,
    maximum,
    minimum,
    set_union,
)


def merge(base, ours, theirs, resolvers=None):
    return merge_json(*(json.dumps(side) for side in (base, ours, theirs)), resolvers)


def merged(base, ours, theirs, resolvers=None):
    result = merge(base, ours, theirs, resolvers)
    assert result.conflicts == ()
    return json.loads(result.text)


def conflicts(base, ours, theirs, resolvers=None):
    result = merge(base, ours, theirs, resolvers)
    assert result.text is None
    return list(result.conflicts)


def test_members_merge_one_by_one():
    """Edits, additions and deletions of different members combine at any depth."""
    base = {"a": 1, "b": {"c": 1, "d": 2}, "gone": 0}
    ours = {"a": 2, "b": {"c": 1, "d": 2, "e": 3}, "gone": 0}
    theirs = {"a": 1, "b": {"c": 9, "d": 2}, "new": {"x": None}}
    assert merged(base, ours, theirs) == {"a": 2, "b": {"c": 9, "d": 2, "e": 3}, "new": {"x": None}}


def test_objects_added_by_both_merge():
    """Two objects added at one place combine where their members do."""
    assert merged({}, {"a": {"x": 1}}, {"a": {"y": 2}}) == {"a": {"x": 1, "y": 2}}
    assert conflicts({}, {"a": {"x": 1}}, {"a": {"x": 2}}) == [JsonConflict("/a/x", ABSENT, 1, 2)]


def test_conflicts_name_pointer_and_three_values():
    """Two values, edit against deletion, two types: each a conflict; pointers are escaped."""
    base = {"a/b": 1, "~": {"x": [1], "": 2}, "t": 1}
    ours = {"a/b": 2, "~": {"x": [1, 2]}, "t": "1"}
    theirs = {"a/b": 3, "~": {"x": {}, "": 3}, "t": [1]}
    assert conflicts(base, ours, theirs) == [
        JsonConflict("/a~1b", 1, 2, 3),
        JsonConflict("/~0/x", [1], [1, 2], {}),
        JsonConflict("/~0/", 2, ABSENT, 3),
        JsonConflict("/t", 1, "1", [1]),
    ]
    assert conflicts(1, 2, 3) == [JsonConflict("", 1, 2, 3)]


@pytest.mark.parametrize(
    ("favour", "expected"),
    [
        ("ours", {"a/b": 2, "~": {"x": [1, 2]}, "t": "1", "o": 0, "n": 0}),
        ("theirs", {"a/b": 3, "~": {"x": {}, "": 3}, "t": [1], "o": 0, "n": 0}),
    ],
)
def test_favour_decides_each_conflict_and_nothing_else(favour, expected):
    """Each place in conflict is the favoured side's, its deletions too; additions of both stay."""
    base = {"a/b": 1, "~": {"x": [1], "": 2}, "t": 1}
    ours = {"a/b": 2, "~": {"x": [1, 2]}, "t": "1", "o": 0}
    theirs = {"a/b": 3, "~": {"x": {}, "": 3}, "t": [1], "n": 0}
    merge = merge_json(*map(json.dumps, (base, ours, theirs)), favour=favour)
    assert (json.loads(merge.text), merge.conflicts, merge.favoured) == (expected, (), 4)


@pytest.mark.parametrize(("favour", "middle"), [("ours", ["o", "p"]), ("theirs", ["t"])])
def test_favour_decides_the_stretch_of_a_list_that_conflicts(favour, middle):
    """Insertions at one place are the favoured side's; what either changed elsewhere stays."""
    base = [1, {"x": 1, "y": 1}, 3, 4, 5]
    ours = [0, 1, {"x": 2, "y": 1}, 3, "o", "p", 4, 5]
    theirs = [1, {"x": 1, "y": 2}, 3, "t", 4]
    merge = merge_json(*map(json.dumps, (base, ours, theirs)), favour=favour)
    assert json.loads(merge.text) == [0, 1, {"x": 2, "y": 2}, 3, *middle, 4]
    assert merge.favoured == 1


def test_favour_comes_after_resolvers():
    """A resolver is asked first; what it leaves open goes to the favoured side."""
    rules = {"/n": counter, "/s": counter}
    sides = ({"n": 1, "s": "a"}, {"n": 2, "s": "b"}, {"n": 3, "s": "c"})
    merge = merge_json(*map(json.dumps, sides), rules, favour="theirs")
    assert (json.loads(merge.text), merge.favoured) == ({"n": 4, "s": "c"}, 1)


def test_favour_that_names_no_side_is_refused_for_documents():
    """Even where nothing conflicts."""
    with pytest.raises(InvalidInputError, match=r"^favour: expected 'ours', 'theirs' or None"):
        merge_json("1", "1", "1", favour="")


def test_json_conflict_as_plain_json():
    """An absent value has no member; null is a value."""
    shown = [conflict.as_dict() for conflict in conflicts({"a": None}, {"a": 1, "b": 1}, {"b": 2})]
    assert shown == [
        {"kind": "json", "pointer": "/a", "base": None, "ours": 1},
        {"kind": "json", "pointer": "/b", "ours": 1, "theirs": 2},
    ]
    assert json.loads(json.dumps(shown)) == shown


def test_numbers_keep_their_type_and_size():
    """`1`, `1.0` and `true` are three values, -0.0 is not 0.0, big integers are exact."""
    big = 12345678901234567890123456789
    assert merge_json('{"n": 1, "b": 0}', '{"n": 1.0, "b": 0}', f'{{"n": 1, "b": {big}}}').text == (
        f'{{"n": 1.0, "b": {big}}}'
    )
    assert conflicts([1], [1.0], [True]) == [JsonConflict("/0", 1, 1.0, True)]
    assert merge_json("0.0", "0.0", "-0.0").text == "-0.0"


def test_key_order_is_that_of_the_side_that_changed_it():
    """`ours` leads, unless only `theirs` moved keys; new keys follow the key they stood behind."""
    assert list(merged({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"b": 2, "a": 1})) == ["b", "a"]
    assert list(merged({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3})) == ["b", "a"]
    assert list(merged({"a": 1, "z": 2}, {"a": 1, "o": 0, "z": 2}, {"a": 1, "t": 0, "z": 2})) == [
        "a", "o", "t", "z",
    ]  # fmt: skip


def test_lists_merge_as_sequences():
    """Insertions and deletions apart from each other combine, in order."""
    assert merged([1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 2, 3, 4, 5]) == [0, 1, 2, 3, 4, 5]
    assert merged([1, 2, 3, 4], [2, 3, 4], [1, 2, 3]) == [2, 3]
    assert merged([{"a": 1}, 2, 3], [{"a": 1}, 2, 3, 4], [{"a": 2}, 2, 3]) == [{"a": 2}, 2, 3, 4]


def test_list_elements_edited_in_place_merge_with_each_other():
    """Elements that keep their place merge as values, beside insertions elsewhere in the list."""
    base = [{"id": 1, "x": 0, "y": 0}, {"id": 2}, "end"]
    ours = [{"id": 1, "x": 1, "y": 0}, {"id": 2}, "end", 1]
    theirs = [{"id": 1, "x": 0, "y": 1}, {"id": 2, "z": 2}, "end"]
    assert merged(base, ours, theirs) == [{"id": 1, "x": 1, "y": 1}, {"id": 2, "z": 2}, "end", 1]
    # An insertion that touches the edits leaves open which element is which.
    ours = ["first", *ours]
    assert conflicts(base, ours, theirs) == [JsonConflict("", base, ours, theirs)]


def test_a_conflict_inside_a_list_counts_as_ours_does():
    """The pointer into a list resolves in `ours`."""
    base = ["a", "b", {"n": 0}]
    ours = ["new", "a", "b", {"n": 1}]
    theirs = ["a", "b", {"n": 2}]
    assert conflicts(base, ours, theirs) == [JsonConflict("/3/n", 0, 1, 2)]


def test_insertions_at_one_place_conflict_as_one_list():
    """Touching insertions and deletions are one conflict for the whole list."""
    base, ours, theirs = {"l": [1]}, {"l": [1, 2]}, {"l": [1, 3]}
    assert conflicts(base, ours, theirs) == [JsonConflict("/l", [1], [1, 2], [1, 3])]


@pytest.mark.parametrize(
    ("resolver", "base", "ours", "theirs", "result"),
    [
        (set_union, ["a", "b"], ["a", "b", "c"], ["b", "d"], ["b", "c", "d"]),
        (set_union, [1], [1, True], [1, 1.0], [1, True, 1.0]),
        (counter, 5, 7, 4, 6),
        (counter, 5, 6, 6, 7),
        (counter, 10**30, 10**30 + 1, 10**30 + 2, 10**30 + 3),
        (counter, 1, 1.5, 3, 3.5),
        (maximum, 1, 3, 2, 3),
        (minimum, 5, 3, 2, 2),
        (maximum, "2026-01-01", "2026-03-01", "2026-02-01", "2026-03-01"),
        (last_write_wins, 1, 2, 3, 3),
        (last_write_wins, 1, {"a": 1}, [1], [1]),
        (lambda base, ours, theirs: [base, ours, theirs], 1, 2, 3, [1, 2, 3]),
    ],
)
def test_resolvers_decide_where_both_changed(resolver, base, ours, theirs, result):
    """Each resolver combines two changes of its place."""
    found = merged({"v": base}, {"v": ours}, {"v": theirs}, {"/v": resolver})["v"]
    assert json.dumps(found) == json.dumps(result)


@pytest.mark.parametrize(
    ("resolver", "base", "ours", "theirs"),
    [
        (set_union, [1], "x", [2]),
        (counter, 1, "2", 3),
        (counter, False, 2, True),
        (counter, 0, 1e308, 1.1e308),
        (counter, 0, 10**400, 1.5),
        (maximum, 1, "a", 2),
        (minimum, 1, None, 2),
        (list_by_key("id"), [], [{"id": 1}], [{"id": 1.5}]),
        (list_by_key("id"), [], [{"id": 1}, {"id": 1, "x": 1}], [{"id": 2}]),
        (list_by_key("id"), [], [1], [2]),
        (lambda *_: UNRESOLVED, 1, 2, 3),
    ],
)
def test_values_that_a_resolver_does_not_fit_conflict(resolver, base, ours, theirs):
    """A resolver that cannot decide leaves a conflict with all three values."""
    found = conflicts({"v": base}, {"v": ours}, {"v": theirs}, {"/v": resolver})
    assert found == [JsonConflict("/v", base, ours, theirs)]


def test_resolvers_see_absent_values():
    """A place that a side lacks is ABSENT; a resolver may return it to delete the place."""
    assert merged({}, {"n": 2}, {"n": 3}, {"/n": counter}) == {"n": 5}
    assert merged({"n": 1}, {}, {"n": 3}, {"/n": lambda _b, ours, _t: ours}) == {}
    assert conflicts({"n": 1}, {}, {"n": 3}, {"/n": counter}) == [JsonConflict("/n", 1, ABSENT, 3)]
    assert merged({"n": 1}, {"n": 2}, {}, {"/n": last_write_wins}) == {}


def test_equal_steps_of_a_counter_are_two_steps():
    """Both sides counting by one make two, in objects and in lists, even in equal documents."""
    rules = {"/*/hits": counter}
    assert merged([{"hits": 1}, 0], [{"hits": 2}, 0], [{"hits": 2}, 0], rules) == [{"hits": 3}, 0]
    assert merged({"a": {"hits": 1}}, *[{"a": {"hits": 2}}] * 2, rules) == {"a": {"hits": 3}}


def test_lists_by_key_merge_their_elements():
    """Elements are matched by key: added, removed, edited and counted each by itself."""
    base = [{"id": "a", "n": 1}, {"id": "b", "n": 1}, {"id": 3}]
    ours = [{"id": "new"}, {"id": "a", "n": 2}, {"id": "b", "n": 1}]
    theirs = [{"id": "b", "n": 5}, {"id": "a", "n": 4}, {"id": 3}, {"id": "3"}]
    rules = {"": list_by_key("id"), "/*/n": counter}
    assert merged(base, ours, theirs, rules) == [
        {"id": "new"}, {"id": "a", "n": 5}, {"id": "3"}, {"id": "b", "n": 5},
    ]  # fmt: skip


def test_a_deleted_element_of_a_keyed_list_is_the_pointer_dash():
    """RFC 6901's `-` names an element that `ours` no longer has."""
    base, ours, theirs = [{"id": 1}], [], [{"id": 1, "x": 1}]
    found = conflicts(base, ours, theirs, {"": list_by_key("id")})
    assert found == [JsonConflict("/-", {"id": 1}, ABSENT, {"id": 1, "x": 1})]


def test_first_matching_pattern_wins():
    """Patterns are tried in order; `*` is one token; escapes are read as in pointers."""
    rules = {"/a~1b/x": minimum, "/*/x": maximum}
    base, ours, theirs = ({"a/b": {"x": n}, "c": {"x": n}} for n in (1, 2, 3))
    assert merged(base, ours, theirs, rules) == {"a/b": {"x": 2}, "c": {"x": 3}}


@pytest.mark.parametrize("pattern", ["a", "/a~2", "/~"])
def test_malformed_patterns_are_refused(pattern):
    """A pattern that is no JSON pointer is an error, not a rule that never matches."""
    with pytest.raises(InvalidInputError, match="resolvers"):
        merge({}, {}, {}, {pattern: counter})


@pytest.mark.parametrize("value", [object(), float("nan"), {1: 2}, ["\ud800"], (1,)])
def test_what_a_resolver_returns_must_be_json(value):
    """A custom resolver's slip is named by its place, and nothing is merged."""
    with pytest.raises(InvalidInputError, match="resolver at '/v'"):
        merge({"v": 1}, {"v": 2}, {"v": 3}, {"/v": lambda *_: value})


def test_a_document_cannot_be_resolved_away():
    """ABSENT for the whole document is refused."""
    with pytest.raises(InvalidInputError, match="a document"):
        merge(1, 2, 3, {"": lambda *_: ABSENT})


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[1,]", "NaN", "[Infinity]", "-Infinity", "1e400", '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}', "'a'", '"\t"', "\ufeff{}", "1" * 5_000, "[" * 100_000,
        "[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101, "[0" + ",0" * 1_000_000 + "]",
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_documents_that_are_not_strict_json_are_refused(text):
    """What readers could read differently, and what is too deep or large, is a typed error."""
    for place, field in enumerate(("base", "ours", "theirs")):
        sides = ["{}", "{}", "{}"]
        sides[place] = text
        with pytest.raises(InvalidInputError) as caught:
            merge_json(*sides)
        assert caught.value.field == field
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ['"\\ud800"', '"\ud800"', '{"\\udc00x":1}', '["\\udc00\\ud800"]'])
def test_lone_surrogates_are_refused(text):
    """Strings that UTF-8 cannot encode are refused, escaped or not; pairs are characters."""
    with pytest.raises(InvalidTextError, match="lone surrogate"):
        merge_json(text, "1", "2")
    assert merge_json('"\\ud83d\\ude00"', '"😀"', "1").text == "1"


def test_oversized_documents_are_refused_before_they_are_parsed(monkeypatch):
    """The size limit holds before memory is spent on values."""
    monkeypatch.setattr(strict_json, "MAX_CHARACTERS", 10)
    with pytest.raises(ContextTooLargeError, match="at most 10 characters"):
        merge_json("[" * 11, "1", "2")


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ('{"a":2,"l":[1]}', '{"a":2,"l":[1],"é":1}'),
        ('{"a": 2, "l": [1]}\n', '{"a": 2, "l": [1], "é": 1}\n'),
        ('{\n  "a": 2,\n  "l": [1]\n}\n', '{\n  "a": 2,\n  "l": [\n    1\n  ],\n  "é": 1\n}\n'),
        ('{\r\n\t"a":2,"l":[1]}', '{\r\n\t"a":2,\r\n\t"l":[\r\n\t\t1\r\n\t],\r\n\t"é":1\r\n}'),
    ],
)
def test_output_has_the_layout_of_ours(ours, expected):
    """Indentation, colon, line ends and the final one are those of `ours`."""
    assert merge_json('{"a":1,"l":[1]}', ours, '{"a":1,"l":[1],"\\u00e9":1}').text == expected


def test_a_side_that_already_is_the_result_is_returned_as_written():
    """Where the merged value is a side's, its text is kept to the byte: 1.10 stays 1.10."""
    base, ours, theirs = '{"a": 1.10, "b": 1}', '{"a":1.10,  "b":2}', '{ "b":2, "a": 1.10 }'
    assert merge_json(base, ours, base) == JsonMerge(ours)
    assert merge_json(base, base, theirs) == JsonMerge(theirs)
    assert merge_json(base, '{"a": 1.10,   "b": 1}', theirs).text == theirs
