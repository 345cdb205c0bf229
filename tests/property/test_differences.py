"""What holds for the difference of any two texts and of any two JSON documents."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from baton.merge.json_patch import diff_json
from baton.merge.text_difference import diff_text

unhurried = settings(deadline=None)

texts = st.builds(
    lambda lines, end: "\n".join(lines) + end,
    st.lists(st.sampled_from(["", "a", "b", "}", "\r", "é\u2028"]), max_size=12),
    st.sampled_from(["", "\n"]),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([1.0, -0.0, "x"]))
keys = st.sampled_from(["a", "b", "c", "a/b", "~1", "", "0", "-"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=15,
)


def applied(document, operations):
    """RFC 6902's add, remove and replace, each refusing what is not there."""
    whole = {"": document}
    for operation in operations:
        *parents, last = [
            token.replace("~1", "/").replace("~0", "~") for token in operation["path"].split("/")
        ]
        target = whole
        for token in parents:
            target = target[int(token)] if isinstance(target, list) else target[token]
        place = int(last) if isinstance(target, list) else last
        if operation["op"] != "add":
            del target[place]
        if operation["op"] == "remove":
            continue
        if isinstance(target, list):
            assert 0 <= place <= len(target)
            target.insert(place, operation["value"])
        else:
            assert place not in target or operation["op"] == "replace"
            target[place] = operation["value"]
    return whole[""]


@unhurried
@given(texts, texts)
def test_text_hunks_turn_the_old_text_into_the_new_one(old, new):
    """Each hunk's bytes hold what it says, and what stands between hunks is common."""
    before, after = old.encode(), new.encode()
    rebuilt, copied = b"", 0
    for hunk in diff_text(old, new).hunks:
        removed, added = hunk.old_range, hunk.new_range
        assert before[removed.start_byte : removed.end_byte].decode() == hunk.removed
        assert after[added.start_byte : added.end_byte].decode() == hunk.added
        assert removed.end_line - removed.start_line == len(hunk.removed.split("\n")) - (
            not hunk.removed or hunk.removed.endswith("\n")
        )
        rebuilt += before[copied : removed.start_byte] + hunk.added.encode()
        copied = removed.end_byte
    assert rebuilt + before[copied:] == after


@unhurried
@given(values, values)
def test_json_patch_turns_the_old_document_into_the_new_one(old, new):
    """Applied in order, to the type of each number; nothing at all for equal documents."""
    patch = diff_json(json.dumps(old), json.dumps(new))
    result = applied(json.loads(json.dumps(old)), json.loads(json.dumps(patch)))
    assert json.dumps(result, sort_keys=True) == json.dumps(new, sort_keys=True)
    assert diff_json(json.dumps(new), json.dumps(new)) == []
