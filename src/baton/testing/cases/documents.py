"""Cases: contexts that are JSON documents (H12)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from baton.errors import InvalidInputError
from baton.merge.resolvers import counter, set_union
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("documents")


@case
def documents_merge_by_path(kit: Kit) -> None:
    """Changes of different places combine, though they are on one line."""
    session_id, store = kit.session(), kit.store
    base = {"a": 1, "b": [1, 2], "c": {"x": True}}
    _begin(kit, session_id, base)
    store.put(session_id, json.dumps({**base, "a": 2}), agent_id="a", base_version="1.0.0")
    changed = json.dumps({**base, "c": {"x": False}})
    commit = store.put(session_id, changed, agent_id="b", base_version="1.0.0")
    expect_equal(commit.action, "merged", "the action")
    merged = json.loads(store.get(session_id).content)
    expect_equal(merged, {"a": 2, "b": [1, 2], "c": {"x": False}}, "the document")


@case
def document_conflict_names_its_pointer(kit: Kit) -> None:
    """Who has to decide learns the place and the three values."""
    session_id, store = kit.session(), kit.store
    _begin(kit, session_id, {"a": {"b": 1}})
    store.put(session_id, '{"a": {"b": 2}}', agent_id="a", base_version="1.0.0")
    commit = store.put(session_id, '{"a": {"b": 3}}', agent_id="b", base_version="1.0.0")
    expect_equal(commit.action, "merge_required", "the action")
    found = [each.as_dict() for each in commit.conflicts]
    wanted = {"kind": "json", "pointer": "/a/b", "base": 1, "ours": 2, "theirs": 3}
    expect_equal(found, [wanted], "the conflicts")


@case
def text_that_is_no_json_is_refused_as_a_document(kit: Kit) -> None:
    """A document takes nothing but JSON, at first and later."""
    session_id, store = kit.session(), kit.store
    with expect_error(InvalidInputError, "content"):
        store.put(session_id, "{not json", agent_id="a", content_type="application/json")
    expect(not store.exists(session_id), "nothing to be stored")
    _begin(kit, session_id, {})
    for wrong in ("{not json", "", "{} {}", "{'a': 1}"):
        with expect_error(InvalidInputError, "content"):
            store.put(session_id, wrong, agent_id="a", base_version="1.0.0")
    expect_equal(store.get(session_id).content, "{}", "the document")


@case
def json_tricks_are_refused_by_type(kit: Kit) -> None:
    """NaN, keys given twice, depth without end: a typed error, never a crash (H12)."""
    session_id = kit.session()
    for wrong in (
        "[NaN]",
        "[Infinity]",
        "[1e999]",
        '{"a": 1, "a": 2}',
        "[" * 100_000 + "]" * 100_000,
        '["\\ud800"]',
    ):
        with expect_error(InvalidInputError, "content"):
            kit.store.put(session_id, wrong, agent_id="a", content_type="application/json")
    expect(not kit.store.exists(session_id), "nothing to be stored")


@case
def counters_add_up_and_sets_unite(kit: Kit) -> None:
    """With resolvers, two who count from 1 to 2 have counted to 3."""
    session_id = kit.session()
    store = kit.open_store(resolvers={"/n": counter, "/tags": set_union})
    _begin(kit, session_id, {"n": 1, "tags": []})
    for name in ("x", "y"):
        changed = json.dumps({"n": 2, "tags": [name]})
        commit = store.put(session_id, changed, agent_id=name, base_version="1.0.0")
        expect(commit.action in ("accepted", "merged"), f"{name} to be in, not {commit.action}")
    merged = json.loads(store.get(session_id).content)
    expect_equal((merged["n"], sorted(merged["tags"])), (3, ["x", "y"]), "the document")


@case
def nothing_is_appended_to_a_document(kit: Kit) -> None:
    """Text behind a document would break it."""
    session_id = kit.session()
    _begin(kit, session_id, {"a": 1})
    with expect_error(InvalidInputError, "session"):
        kit.store.append(session_id, "more", agent_id="a")
    expect_equal(json.loads(kit.store.get(session_id).content), {"a": 1}, "the document")


@case
def difference_of_documents_is_a_json_patch(kit: Kit) -> None:
    """Two versions of a document differ by RFC 6902 operations."""
    session_id = kit.session()
    _begin(kit, session_id, {"a": 1, "b": [1]})
    kit.store.put(session_id, '{"a": 2, "b": [1]}', agent_id="a")
    patch = kit.store.diff(session_id, "1.0.0", "1.0.1").patch
    expect_equal(patch, [{"op": "replace", "path": "/a", "value": 2}], "the patch")


@case
def document_keeps_its_spelling(kit: Kit) -> None:
    """What was written is what is read: order, spaces and big numbers."""
    session_id, text = kit.session(), '{ "z":1,\n\t"a" : 12345678901234567890, "e":1.50 }\n'
    kit.store.put(session_id, text, agent_id="a", content_type="application/json")
    context = kit.open_store().get(session_id)
    expect_equal(context.content, text, "the document")
    expect_equal(context.content_type, "application/json", "the content type")


def _begin(kit: Kit, session_id: str, document: Any) -> None:
    text = json.dumps(document)
    kit.store.put(session_id, text, agent_id="a", content_type="application/json")
