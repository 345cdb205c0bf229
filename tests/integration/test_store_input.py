"""What callers hand to a store, and what it hands to them."""

from __future__ import annotations

import pytest

from baton.errors import ContextTooLargeError, InvalidInputError
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys


@pytest.fixture
def store(redis_client):
    with_limit = ContextStore(redis_client, max_context_bytes=1 << 20, keep_versions=1)
    yield with_limit
    with_limit.close()


@pytest.mark.parametrize("read", ["get", "show"])
def test_metadata_handed_out_is_the_readers_own(store, read):
    """Whoever changes what was read changes no version, old or new."""
    store.put("s", "text\n", agent_id="a", metadata={"deep": {"n": 1}})
    getattr(store, read)("s").metadata["deep"]["n"] = 2
    store.put("s", "other\n", agent_id="a")
    assert store.get("s").metadata == {"deep": {"n": 1}}
    assert store.get("s", "1.0.0").metadata == {"deep": {"n": 1}}


def test_text_of_too_many_characters_is_not_even_encoded(store):
    """What its length alone refuses is refused before it is looked at: here by its surrogate."""
    with pytest.raises(ContextTooLargeError, match="1048577 characters"):
        store.put("s", "\ud800" + "x" * (1 << 20), agent_id="a")
    with pytest.raises(ContextTooLargeError, match="1048577 characters"):
        store.append("s", "\ud800" + "x" * (1 << 20), agent_id="a")
    assert not store.exists("s")


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("compression", {"compression": "lz4"}),
        ("max_context_bytes", {"max_context_bytes": -1}),
        ("max_context_bytes", {"max_context_bytes": 1.5}),
        ("keep_versions", {"keep_versions": 0}),
        ("keep_versions", {"keep_versions": True}),
        ("backstop_seconds", {"backstop_seconds": "5"}),
    ],
    ids=lambda given: "-".join(map(str, given.values())) if isinstance(given, dict) else given,
)
def test_setting_of_a_store_that_is_none_is_refused_by_name(redis_client, field, options):
    with pytest.raises(InvalidInputError, match=field):
        ContextStore(redis_client, **options)


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("limit", lambda store: store.history("s", "3")),
        (
            "byte_position",
            lambda store: store.checkpoint("s", "x", agent_id="a", byte_position=1.5),
        ),
        (
            "token_position",
            lambda store: store.checkpoint("s", "x", agent_id="a", token_position=1.5),
        ),
        ("seconds", lambda store: store.pin("s", "p", "1.0.0", agent_id="a", seconds="5")),
        ("start_byte", lambda store: store.read_range("s", 1.5)),
        ("end_byte", lambda store: store.read_range("s", 0, "3")),
        ("index", lambda store: store.read_chunk("s", "0")),
        ("overlap_tokens", lambda store: store.read_chunk("s", 0, overlap_tokens=1.5)),
    ],
    ids=lambda given: given if isinstance(given, str) else "call",
)
def test_number_of_another_type_is_refused_by_its_fields_name(store, field, call):
    store.put("s", "text\n", agent_id="a")
    with pytest.raises(InvalidInputError, match=field):
        call(store)


def test_document_and_text_combine_only_as_wholes(store):
    """Lines of a JSON document and of a text, merged, would be neither."""
    store.put("s", "one\ntwo\nthree\n", agent_id="a")
    store.put("s", "ONE\ntwo\nthree\n", agent_id="a", base_version="1.0.0")
    commit = store.put(
        "s", '{"n": 1}', agent_id="b", base_version="1.0.0", content_type="application/json"
    )
    assert commit.action == "merge_required"
    assert store.get("s").content_type == "text/plain"
    resolved = store.resolve_conflict("s", commit.conflict_id, agent_id="b", take="theirs")
    found = store.get("s", resolved.version)
    assert (found.content, found.content_type) == ('{"n": 1}', "application/json")
    assert (
        store.put("s", '{"n": 2}', agent_id="b", base_version=resolved.version).action == "accepted"
    )


def test_taking_ours_against_a_document_stays_text(store):
    store.put("s", "one\n", agent_id="a")
    store.put("s", "ONE\n", agent_id="a", base_version="1.0.0")
    commit = store.put(
        "s", '{"n": 1}', agent_id="b", base_version="1.0.0", content_type="application/json"
    )
    store.resolve_conflict("s", commit.conflict_id, agent_id="b", take="ours")
    assert (store.get("s").content, store.get("s").content_type) == ("ONE\n", "text/plain")


def test_session_of_a_document_merges_into_one_of_text_as_a_whole(store):
    store.put("s", "one\n", agent_id="a")
    store.fork("s", "t", agent_id="a")
    store.put("t", '{"n": 1}', agent_id="a", content_type="application/json")
    store.put("s", "ONE\n", agent_id="a")
    assert store.merge("s", "t", agent_id="a").action == "merge_required"


def test_repeat_of_a_conflicting_write_tells_the_conflicts_again(store):
    def write():
        return store.put("s", "b\n", agent_id="b", base_version="1.0.0", operation_id="op")

    store.put("s", "base\n", agent_id="a")
    store.put("s", "a\n", agent_id="a", base_version="1.0.0")
    first = write()
    assert first.conflicts
    assert write() == first


def test_collection_takes_expired_pins_though_no_version_goes(store, redis_client):
    store.put("s", "text\n", agent_id="a")
    for number in range(1_200):
        store.pin("s", f"p{number}", "1.0.0", agent_id="a", seconds=0.001)
    store.pin("s", "lasting", "1.0.0", agent_id="a", seconds=3600)
    found = store.collect("s", agent_id="a", dry_run=True)
    assert found.versions == ()
    assert redis_client.hlen(SessionKeys.of("s").pins) == 1_201
    store.collect("s", agent_id="a")
    assert redis_client.hkeys(SessionKeys.of("s").pins) == [b"lasting"]


def test_living_author_of_very_many_keeps_its_version(redis_client):
    """Their list is read piece by piece."""
    store = ContextStore(redis_client, keep_versions=1, live_agents={"old"}.intersection)
    store.put("s", "first\n", agent_id="old")
    redis_client.hset(
        SessionKeys.of("s").authors, mapping={f"agent{n}": "1.0.0" for n in range(3_000)}
    )
    store.put("s", "second\n", agent_id="new")
    store.put("s", "third\n", agent_id="new")
    assert store.collect("s", agent_id="new").versions == ("1.0.1",)
    assert store.get("s", "1.0.0").content == "first\n"
    store.close()
