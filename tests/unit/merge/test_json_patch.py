"""JSON Patches of two documents: which operations, in which order."""

import json

import pytest

from baton.errors import InvalidInputError
from baton.merge.json_patch import diff_json


def operations(old, new):
    """As `op path value`, one a line."""
    return [
        " ".join(
            [each["op"], each["path"], *([json.dumps(each["value"])] if "value" in each else [])]
        )
        for each in diff_json(json.dumps(old), json.dumps(new))
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1, "b": {"c": 1}}, {"b": {"c": 2}, "d": None},
         ["remove /a", "replace /b/c 2", "add /d null"]),
        ({"a/b": 1, "~": 1, "": 1}, {}, ["remove /a~1b", "remove /~0", "remove /"]),
        ([1, 2, 3, 4], [0, 1, 2, 4], ["remove /2", "add /0 0"]),
        ([1, 2], [], ["remove /1", "remove /0"]),
        ([], [1, 2], ["add /0 1", "add /1 2"]),
        ([{"n": 1}, 2], [{"n": 2}, 2, 3], ["add /2 3", "replace /0/n 2"]),
        ([1, {"n": [1]}, 2], [0, 1, {"n": [1, 2]}, 2], ["add /1/n/1 2", "add /0 0"]),
        ({"a": []}, {"a": {}}, ["replace /a {}"]),
        (1, {}, ["replace  {}"]),
        ([1, True, -0.0], [1.0, 2, 0.0], ["replace /0 1.0", "replace /1 2", "replace /2 0.0"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
    ],
    ids=str,
)  # fmt: skip
def test_operations_name_just_what_changed(old, new, expected):
    """Members one by one, lists from their end on, values of two types as two."""
    assert operations(old, new) == expected


@pytest.mark.parametrize("field", ["old", "new"])
def test_patch_refuses_what_is_not_strict_json(field):
    """By the argument's name."""
    documents = {"old": "{}", "new": "{}", field: '{"a":1,"a":1}'}
    with pytest.raises(InvalidInputError, match=f"^{field}: expected a JSON document"):
        diff_json(**documents)
