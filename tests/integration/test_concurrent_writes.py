"""Concurrent writers: what merges, what waits for a person, what is replaced or refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from baton.errors import (
    ConflictNotFoundError,
    ContextImmutableError,
    ContextNotFoundError,
    InvalidInputError,
    VersionNotFoundError,
)
from baton.merge.resolvers import counter, set_union
from baton.store.cache import ContextCache
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from waiting import until

LINES = "".join(f"line {number}\n" for number in range(40))


@pytest.fixture
def store(redis_client):
    store = ContextStore(redis_client)
    yield store
    store.close()


def edited(text: str, number: int, new: str) -> str:
    return text.replace(f"line {number}\n", f"{new}\n")


def operations(store: ContextStore, session_id: str) -> list[str]:
    return [entry.operation for entry in store.show_audit(session_id)][::-1]


def test_disjoint_edits_of_one_base_are_merged_into_a_new_version(store):
    store.put("s", LINES, agent_id="a")
    store.put("s", edited(LINES, 3, "three"), agent_id="a", base_version="1.0.0")
    commit = store.put("s", edited(LINES, 30, "thirty"), agent_id="b", base_version="1.0.0")
    assert (commit.action, commit.version, commit.conflicts) == ("merged", "1.0.2", ())
    merged = store.get("s")
    assert merged.content == edited(edited(LINES, 3, "three"), 30, "thirty")
    assert merged.content_hash == commit.content_hash
    newest = store.history("s")[0]
    assert (newest.parent, newest.base, newest.action) == ("1.0.1", "1.0.0", "merged")
    assert operations(store, "s") == ["created", "updated", "merged"]


def test_both_sides_appending_keeps_both_in_commit_order(store):
    store.put("s", "log\n", agent_id="a")
    store.put("s", "log\nfirst\n", agent_id="a", base_version="1.0.0")
    commit = store.put("s", "log\nsecond\n", agent_id="b", base_version="1.0.0")
    assert commit.action == "merged"
    assert store.get("s").content == "log\nfirst\nsecond\n"


def test_the_same_edit_by_two_writers_is_one(store):
    store.put("s", LINES, agent_id="a")
    first = store.put("s", edited(LINES, 3, "three"), agent_id="a", base_version="1.0.0")
    second = store.put("s", edited(LINES, 3, "three"), agent_id="b", base_version="1.0.0")
    assert (second.action, second.version) == ("accepted", first.version)


def test_a_writer_that_changed_nothing_gets_the_head(store):
    store.put("s", LINES, agent_id="a")
    head = store.put("s", edited(LINES, 3, "three"), agent_id="a", base_version="1.0.0")
    commit = store.put("s", LINES, agent_id="b", base_version="1.0.0")
    assert (commit.action, commit.version, commit.etag) == ("accepted", head.version, head.etag)


def test_overlapping_edits_leave_the_head_and_keep_both(store):
    store.put("s", LINES, agent_id="a")
    head = store.put("s", edited(LINES, 3, "ours"), agent_id="a", base_version="1.0.0")
    commit = store.put("s", edited(LINES, 3, "theirs"), agent_id="b", base_version="1.0.0")
    assert (commit.action, commit.version, commit.etag) == (
        "merge_required", head.version, head.etag,
    )  # fmt: skip
    (conflict,) = commit.conflicts
    assert (conflict.base, conflict.ours, conflict.theirs) == ("line 3\n", "ours\n", "theirs\n")
    assert store.get("s").content == edited(LINES, 3, "ours")
    assert store.pending_content("s", commit.conflict_id) == edited(LINES, 3, "theirs")
    (waiting,) = store.conflicts("s")
    assert (waiting.conflict_id, waiting.base_version, waiting.head_version, waiting.agent_id) == (
        commit.conflict_id, "1.0.0", "1.0.1", "b",
    )  # fmt: skip
    assert store.explain_conflict("s", commit.conflict_id) == commit.conflicts
    assert operations(store, "s")[-1] == "conflicted"


def test_no_marker_ever_enters_a_context(store):
    store.put("s", LINES, agent_id="a")
    for number in range(5):
        commit = store.put(
            "s", edited(LINES, 3, f"by {number}"), agent_id="a", base_version="1.0.0"
        )
        for text in (store.get("s").content, *_pending_texts(store, commit)):
            assert not any(mark in text for mark in ("<<<<<<<", "=======", ">>>>>>>"))


def _pending_texts(store, commit):
    return [store.pending_content("s", commit.conflict_id)] if commit.conflict_id else []


@pytest.mark.parametrize(("side", "line"), [("ours", "ours"), ("theirs", "theirs")])
def test_resolving_takes_a_side_where_it_conflicts_and_merges_the_rest(store, side, line):
    """A side is taken place by place: nobody's other changes are lost."""
    store.put("s", LINES, agent_id="a")
    ours = edited(edited(LINES, 3, "ours"), 10, "only in ours")
    store.put("s", ours, agent_id="a", base_version="1.0.0")
    theirs = edited(edited(LINES, 3, "theirs"), 30, "only in theirs")
    conflict_id = store.put("s", theirs, agent_id="b", base_version="1.0.0").conflict_id
    commit = store.resolve_conflict("s", conflict_id, agent_id="c", take=side)
    wanted = edited(edited(edited(LINES, 3, line), 10, "only in ours"), 30, "only in theirs")
    assert store.get("s").content == wanted
    assert (commit.action, commit.version) == ("accepted", "1.0.2")
    assert store.conflicts("s") == []
    with pytest.raises(ConflictNotFoundError, match=conflict_id):
        store.resolve_conflict("s", conflict_id, agent_id="c", take=side)
    assert operations(store, "s")[-1] == "resolved"


def test_resolving_by_hand_commits_that_text(store):
    store.put("s", "one\n", agent_id="a")
    store.put("s", "ours\n", agent_id="a", base_version="1.0.0")
    conflict_id = store.put("s", "theirs\n", agent_id="b", base_version="1.0.0").conflict_id
    store.resolve_conflict("s", conflict_id, agent_id="c", content="both\n")
    assert store.get("s").content == "both\n"
    assert store.conflicts("s") == []


def test_resolving_by_hand_merges_with_what_came_since(store):
    store.put("s", LINES, agent_id="a")
    store.put("s", edited(LINES, 3, "ours"), agent_id="a", base_version="1.0.0")
    conflict_id = store.put(
        "s", edited(LINES, 3, "theirs"), agent_id="b", base_version="1.0.0"
    ).conflict_id
    moved_on = edited(edited(LINES, 3, "ours"), 30, "later")
    store.put("s", moved_on, agent_id="a", base_version="1.0.1")
    by_hand = edited(LINES, 3, "ours and theirs")
    store.resolve_conflict("s", conflict_id, agent_id="c", content=by_hand)
    assert store.get("s").content == edited(by_hand, 30, "later")


def test_resolving_to_the_heads_own_text_drops_the_conflict(store):
    store.put("s", "one\n", agent_id="a")
    store.put("s", "ours\n", agent_id="a", base_version="1.0.0")
    conflict_id = store.put("s", "theirs\n", agent_id="b", base_version="1.0.0").conflict_id
    commit = store.resolve_conflict("s", conflict_id, agent_id="c", take="ours")
    assert (commit.action, commit.version) == ("accepted", "1.0.1")
    assert store.conflicts("s") == []


def test_resolving_needs_a_side_or_a_text(store):
    for given in ({}, {"take": "ours", "content": "x"}, {"take": "mine"}):
        with pytest.raises(InvalidInputError, match="take"):
            store.resolve_conflict("s", "c", agent_id="a", **given)


def test_pending_write_expires(redis_client):
    store = ContextStore(redis_client, conflict_seconds=0.3)
    store.put("s", "one\n", agent_id="a")
    store.put("s", "ours\n", agent_id="a", base_version="1.0.0")
    commit = store.put("s", "theirs\n", agent_id="b", base_version="1.0.0")
    until(lambda: store.conflicts("s") == [])
    with pytest.raises(ConflictNotFoundError):
        store.pending_content("s", commit.conflict_id)
    assert store.collect("s", agent_id="a").conflicts == (commit.conflict_id,)
    assert redis_client.hlen(SessionKeys.of("s").pending) == 0


def test_repeat_of_a_named_write_that_conflicted_answers_the_same(store):
    store.put("s", "one\n", agent_id="a")
    store.put("s", "ours\n", agent_id="a", base_version="1.0.0")
    first, again = (
        store.put("s", "theirs\n", agent_id="b", base_version="1.0.0", operation_id="op")
        for _ in range(2)
    )
    assert (again.action, again.conflict_id) == (first.action, first.conflict_id)
    assert len(store.conflicts("s")) == 1


def test_last_write_wins_replaces_and_keeps_the_loser_in_the_history(store):
    store.put("s", "one", agent_id="a")
    store.put("s", "loser", agent_id="a", base_version="1.0.0")
    commit = store.put("s", "winner", agent_id="b", base_version="1.0.0", policy="last_write_wins")
    assert (commit.action, commit.version, commit.replaced) == (
        "accepted_with_divergence", "1.0.2", "1.0.1",
    )  # fmt: skip
    assert store.get("s").content == "winner"
    assert store.get("s", "1.0.1").content == "loser"


def test_last_write_wins_with_a_new_major_version_is_no_divergence(store):
    """The protocol's rule: a major version is meant to be incompatible."""
    store.put("s", "one", agent_id="a")
    store.put("s", "loser", agent_id="a", base_version="1.0.0")
    commit = store.put(
        "s", "winner", agent_id="b", base_version="1.0.0", policy="last_write_wins", bump="major"
    )
    assert (commit.action, commit.version, commit.replaced) == ("accepted", "2.0.0", "1.0.1")


def test_explicit_version_that_a_concurrent_writer_reached_is_bumped_past_it(store):
    store.put("s", LINES, agent_id="a")
    store.put("s", edited(LINES, 3, "x"), agent_id="a", base_version="1.0.0", version="1.1.0")
    commit = store.put(
        "s", edited(LINES, 30, "y"), agent_id="b", base_version="1.0.0", version="1.1.0"
    )
    assert (commit.action, commit.version) == ("merged", "1.1.1")


def test_immutable_session_refuses_every_write_and_says_so_in_the_audit(store):
    store.put("s", "one", agent_id="a")
    store.set_flag("s", "immutable", agent_id="a")
    for write in (
        lambda: store.put("s", "two", agent_id="b"),
        lambda: store.append("s", "two", agent_id="b"),
        lambda: store.rollback("s", "1.0.0", agent_id="b"),
    ):
        with pytest.raises(ContextImmutableError):
            write()
    assert operations(store, "s") == ["created", "flagged", "denied", "denied", "denied"]
    assert store.show("s").flags == ("immutable",)


def test_write_on_a_collected_base_keeps_both_sides(redis_client):
    """Nothing tells any more who changed what, so nothing is merged and nothing lost."""
    store = ContextStore(redis_client, keep_versions=1)
    store.put("s", "one\n", agent_id="a")
    store.put("s", "two\n", agent_id="a", base_version="1.0.0")
    assert store.collect("s", agent_id="a").versions == ("1.0.0",)
    fresh = ContextStore(redis_client)
    commit = fresh.put("s", "mine\n", agent_id="b", base_version="1.0.0")
    assert commit.action == "merge_required"
    (conflict,) = commit.conflicts
    assert (conflict.base, conflict.ours, conflict.theirs) == ("", "two\n", "mine\n")
    fresh.resolve_conflict("s", commit.conflict_id, agent_id="b", take="theirs")
    assert fresh.get("s").content == "mine\n"


def test_base_above_the_head_is_refused(store):
    store.put("s", "one", agent_id="a")
    with pytest.raises(VersionNotFoundError, match=r"1\.0\.7"):
        store.put("s", "two", agent_id="a", base_version="1.0.7")


def test_documents_merge_by_path(store):
    base = {"a": 1, "b": [1, 2], "c": {"x": True}}
    store.put("s", json.dumps(base), agent_id="a", content_type="application/json")
    store.put("s", json.dumps({**base, "a": 2}), agent_id="a", base_version="1.0.0")
    commit = store.put(
        "s", json.dumps({**base, "c": {"x": False}}), agent_id="b", base_version="1.0.0"
    )
    assert commit.action == "merged"
    assert json.loads(store.get("s").content) == {"a": 2, "b": [1, 2], "c": {"x": False}}
    assert store.show("s").content_type == "application/json"


def test_document_conflict_names_its_pointer(store):
    store.put("s", '{"a": {"b": 1}}', agent_id="a", content_type="application/json")
    store.put("s", '{"a": {"b": 2}}', agent_id="a", base_version="1.0.0")
    commit = store.put("s", '{"a": {"b": 3}}', agent_id="b", base_version="1.0.0")
    assert commit.action == "merge_required"
    assert [(c.pointer, c.base, c.ours, c.theirs) for c in commit.conflicts] == [("/a/b", 1, 2, 3)]


def test_document_that_is_no_json_is_refused_at_the_door(store):
    with pytest.raises(InvalidInputError, match="content"):
        store.put("s", "{not json", agent_id="a", content_type="application/json")
    assert not store.exists("s")
    store.put("s", "{}", agent_id="a", content_type="application/json")
    with pytest.raises(InvalidInputError, match="content"):
        store.put("s", "{not json", agent_id="a", base_version="1.0.0")
    with pytest.raises(InvalidInputError, match="session"):
        store.append("s", "more", agent_id="a")


def test_counters_count_equal_steps_twice(redis_client):
    """Two agents that both count to 2 have made 3 of 1, not 2."""
    stores = [ContextStore(redis_client, resolvers={"/n": counter}) for _ in range(3)]
    stores[0].put("s", '{"n": 1}', agent_id="a", content_type="application/json")
    for number, each in enumerate(stores):
        each.put("s", '{"n": 2}', agent_id=f"w{number}", base_version="1.0.0")
    assert json.loads(stores[0].get("s").content) == {"n": 4}


def test_counters_and_sets_survive_many_writers(redis_client):
    resolvers = {"/n": counter, "/tags": set_union}
    stores = [ContextStore(redis_client, resolvers=resolvers) for _ in range(4)]
    stores[0].put("s", '{"n": 0, "tags": []}', agent_id="a", content_type="application/json")

    def write(number):
        for step in range(10):
            head = stores[number].get("s")
            document = json.loads(head.content)
            document["n"] += 1
            document["tags"].append(f"{number}-{step}")
            commit = stores[number].put(
                "s", json.dumps(document), agent_id=f"w{number}", base_version=head.version
            )
            assert commit.action in ("accepted", "merged")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    document = json.loads(stores[0].get("s").content)
    assert document["n"] == 40
    assert len(document["tags"]) == 40


def test_8_writers_lose_no_line_and_every_write_has_one_outcome(redis_client):
    """accepted + merged + conflicts is the number of writes, and what was accepted is there."""
    store = ContextStore(redis_client, cache=ContextCache(1 << 26), keep_versions=1000)
    slots = "".join(f"== {number}\nstart\n\n" for number in range(8))
    store.put("s", slots, agent_id="a")
    writes = 40

    def write(number):
        outcomes = []
        for step in range(writes):
            head = store.get("s")
            marker = f"== {number}\n"
            text = head.content.replace(marker, f"{marker}w{number} step {step}\n")
            commit = store.put("s", text, agent_id=f"w{number}", base_version=head.version)
            outcomes.append((f"w{number} step {step}", commit.action))
        return outcomes

    with ThreadPoolExecutor(8) as pool:
        outcomes = [each for part in pool.map(write, range(8)) for each in part]
    lines = store.get("s").content.splitlines()
    kept = [line for line, action in outcomes if action in ("accepted", "merged")]
    waiting = sum(action == "merge_required" for _, action in outcomes)
    assert len(kept) + waiting == 8 * writes
    assert waiting == len(store.conflicts("s"))
    assert all(lines.count(line) == 1 for line in kept)


def test_two_writers_of_a_new_session_without_base_both_stand_in_the_history(store):
    store.put("s", "one", agent_id="a")
    store.put("s", "two", agent_id="b")
    assert [record.author for record in store.history("s")] == ["b", "a"]


def test_append_goes_behind_whatever_head_there_is(store):
    store.append("s", "one\n", agent_id="a")
    store.put("s", "zero\none\n", agent_id="b")
    commit = store.append("s", "two\n", agent_id="a")
    assert (commit.action, store.get("s").content) == ("accepted", "zero\none\ntwo\n")
    assert operations(store, "s") == ["created", "updated", "appended"]


def test_append_sends_the_end_and_nothing_else(redis_client):
    store = ContextStore(redis_client)
    generator_text = "".join(f"{number} some words of a line\n" for number in range(60_000))
    store.put("s", generator_text, agent_id="a")
    before = redis_client.info("stats")["total_net_input_bytes"]
    store.append("s", "one more line\n", agent_id="a")
    sent = redis_client.info("stats")["total_net_input_bytes"] - before
    assert sent < 96 * 1024
    assert store.get("s").content == generator_text + "one more line\n"


def test_appends_cut_as_a_whole_store_would(redis_client):
    """So a text that grew by appends shares its chunks with the same text stored at once."""
    store = ContextStore(redis_client)
    text = "".join(f"{number} some words of a line\n" for number in range(40_000))
    store.put("grown", text[:700_000], agent_id="a")
    for start in range(700_000, len(text), 50_000):
        store.append("grown", text[start : start + 50_000], agent_id="a")
    store.put("whole", text, agent_id="a")
    assert store.get("grown").content_hash == store.get("whole").content_hash


def test_100_appends_by_8_threads_all_arrive(redis_client):
    store = ContextStore(redis_client, cache=ContextCache(1 << 24))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.append("s", f"line {n}\n", agent_id="a"), range(100)))
    lines = store.get("s").content.splitlines()
    assert sorted(lines) == sorted(f"line {n}" for n in range(100))


def test_append_under_a_name_happens_once(store):
    store.append("s", "one\n", agent_id="a")
    first, again = (store.append("s", "two\n", agent_id="a", operation_id="op") for _ in range(2))
    assert (first.version, store.get("s").content) == (again.version, "one\ntwo\n")


def test_fork_merges_back_what_it_changed(store):
    store.put("s", LINES, agent_id="a")
    store.fork("s", "work", agent_id="b")
    store.put("work", edited(LINES, 30, "in the fork"), agent_id="b", base_version="1.0.0")
    store.put("s", edited(LINES, 3, "in the trunk"), agent_id="a", base_version="1.0.0")
    commit = store.merge("s", "work", agent_id="b")
    assert commit.action == "merged"
    assert store.get("s").content == edited(edited(LINES, 3, "in the trunk"), 30, "in the fork")
    assert store.history("s")[0].source == "work@1.0.1"
    with pytest.raises(InvalidInputError, match="base_version"):
        store.merge("work", "s", agent_id="b")
    with pytest.raises(ContextNotFoundError, match="ghost"):
        store.merge("s", "ghost", agent_id="b")


def test_metadata_belongs_to_a_version_and_is_carried_on(store):
    store.put("s", "one", agent_id="a", metadata={"model": "sonnet", "top_p": 0.95})
    store.put("s", "two", agent_id="a", base_version="1.0.0")
    assert store.get("s").metadata == {"model": "sonnet", "top_p": 0.95}
    commit = store.put("s", "two", agent_id="a", base_version="1.0.1", metadata={"model": "haiku"})
    assert (commit.action, commit.version) == ("accepted", "1.0.2")
    assert store.get("s", "1.0.1").metadata == {"model": "sonnet", "top_p": 0.95}
    for wrong in ([1], {"a": float("nan")}, {"a": object()}, {"a": "x" * 70_000}):
        with pytest.raises(InvalidInputError, match="metadata"):
            store.put("s", "three", agent_id="a", metadata=wrong)
