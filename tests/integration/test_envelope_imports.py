"""Imports of envelopes: all that comes with the content is checked before it is committed."""

from __future__ import annotations

import json
import logging

import pytest
from cryptography.fernet import Fernet

from baton.errors import CheckpointExistsError, InvalidInputError
from baton.key_providers.file import FileKeyProvider
from baton.store.contexts import ContextStore
from envelopes import INSTANT, header_of, written
from faulty_redis import Died, Faults, faulty_client

TEXT = "eins\nzwei\nдрей 🙂\nvier\n"


@pytest.fixture
def provider(tmp_path):
    return FileKeyProvider.create(tmp_path / "master.keys")


@pytest.fixture
def store(redis_client, provider):
    store = ContextStore(redis_client, key_provider=provider)
    yield store
    store.close()


def checkpoint(name, byte_position=0, label="here"):
    return {
        "checkpoint_id": name,
        "token_position": 0,
        "byte_position": byte_position,
        "label": label,
        "timestamp": INSTANT,
    }


def envelope_of(text, *checkpoints, **fields):
    data = text.encode() if isinstance(text, str) else text
    return written(header_of(data, session_id="s", checkpoints=checkpoints, **fields), data)


def numbered(count, byte_position=0):
    return [checkpoint(f"cp-{number}", byte_position) for number in range(count)]


def placed(store, session_id="s"):
    found = store.checkpoints(session_id)
    return {each.checkpoint_id: (each.version, each.byte_position) for each in found}


def exported(store, session_id="s"):
    return json.loads(b"".join(store.export_envelope(session_id)))["context_envelope"]


# --- marks belong to the content they came with --------------------------------------------------


def test_checkpoints_of_a_merged_import_are_named_and_not_put(store, caplog):
    """The merged text is another: its byte 5 is not the envelope's."""
    store.put("s", "1\n2\n3\n4\n", agent_id="a")
    store.put("s", "eins, zwei\n2\n3\n4\n", agent_id="a")
    envelope = envelope_of("1\n2\n3\nvier\n", checkpoint("cp", 6))
    commit = store.import_envelope(envelope, agent_id="b", base_version="1.0.0")
    assert (commit.action, commit.unplaced_checkpoints) == ("merged", ("cp",))
    assert placed(store) == {}
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.getMessage().startswith("session s: 1 checkpoints of the envelope not put")


def test_checkpoints_of_an_import_that_the_head_has_left_behind_are_not_put(store):
    """What adds nothing to the head is accepted as the head, whose text is another."""
    store.put("s", "1\n2\n3\n4\n", agent_id="a")
    store.put("s", "eins\n2\n3\n4\n", agent_id="a")
    envelope = envelope_of("1\n2\n3\n4\n", checkpoint("cp", 6))
    commit = store.import_envelope(envelope, agent_id="b", base_version="1.0.0")
    assert store.get("s", commit.version).content == "eins\n2\n3\n4\n"
    assert (commit.action, commit.unplaced_checkpoints) == ("accepted", ("cp",))
    assert placed(store) == {}


def test_checkpoints_and_flags_of_an_import_in_conflict_are_not_put(store):
    """They are named; the session stays open to whoever resolves it."""
    store.put("s", "1\n", agent_id="a")
    store.put("s", "eins\n", agent_id="a")
    envelope = envelope_of("one\n", checkpoint("cp", 3), flags={"immutable": True})
    commit = store.import_envelope(envelope, agent_id="b", base_version="1.0.0")
    assert (commit.action, commit.unplaced_checkpoints) == ("merge_required", ("cp",))
    assert placed(store) == {}
    assert store.show("s").flags == ()


@pytest.mark.parametrize("sealed", [False, True], ids=["clear", "sealed"])
def test_checkpoints_of_what_the_head_holds_already_are_put_on_it(store, sealed):
    """Another writer brought the same text: places in it are places in the head."""
    store.put("s", "before", agent_id="a", sealed=sealed)
    store.put("s", TEXT, agent_id="a")
    envelope = envelope_of(TEXT, checkpoint("cp", 5))
    commit = store.import_envelope(envelope, agent_id="b", base_version="1.0.0")
    assert (commit.action, commit.unplaced_checkpoints) == ("accepted", ())
    assert placed(store) == {"cp": (commit.version, 5)}
    assert store.resume("s", "cp").content == TEXT[5:]


def test_places_in_a_fernet_token_are_none_in_its_text(store):
    """They are named and not put, and the session can be exported."""
    key = Fernet.generate_key()
    token = Fernet(key).encrypt(TEXT.encode() * 10)
    envelope = envelope_of(token, checkpoint("cp", len(token)), flags={"encrypted": True})
    commit = store.import_envelope(envelope, agent_id="b", fernet_key=key.decode())
    assert commit.unplaced_checkpoints == ("cp",)
    assert placed(store) == {}
    assert exported(store)["content_size_bytes"] == len(TEXT.encode()) * 10


# --- refused before the commit -------------------------------------------------------------------


def check_refused(store, error, naming, envelope, **options):
    """It is, and nothing of it is stored."""
    before = store.history("s") if store.exists("s") else []
    with pytest.raises(error) as caught:
        store.import_envelope(envelope, agent_id="b", **options)
    assert naming in str(caught.value)
    assert (store.history("s") if store.exists("s") else []) == before


def test_more_checkpoints_than_a_session_has_room_for_are_refused_before_the_commit(store):
    """1,001 in a new session, or 501 beside 500; a thousand are put."""
    check_refused(
        store, InvalidInputError, "context_envelope.checkpoints", envelope_of(TEXT, *numbered(1001))
    )
    store.import_envelope(envelope_of(TEXT, *numbered(500)), agent_id="a")
    more = [checkpoint(f"more-{number}") for number in range(501)]
    onto = {"base_version": "1.0.0"}
    check_refused(
        store,
        InvalidInputError,
        "context_envelope.checkpoints",
        envelope_of("new", *more),
        **onto,
    )
    commit = store.import_envelope(envelope_of("new", *more[:500]), agent_id="b", **onto)
    assert len(placed(store)) == 1000
    assert placed(store)["more-499"] == (commit.version, 0)


@pytest.mark.parametrize(
    "label",
    ["", "a\nb", "x" * 201, "\u202e", "\x00"],
    ids=["empty", "two lines", "201", "bidi", "nul"],
)
def test_labels_are_held_to_what_a_checkpoint_takes(store, label):
    """By the field's path; 200 characters are taken."""
    good = checkpoint("good", label="я" * 200)
    envelope = envelope_of(TEXT, good, checkpoint("bad", label=label))
    check_refused(store, InvalidInputError, "context_envelope.checkpoints[1].label", envelope)
    store.import_envelope(envelope_of(TEXT, good), agent_id="b")
    assert list(placed(store)) == ["good"]


@pytest.mark.parametrize(
    ("text", "again"),
    [
        (TEXT, checkpoint("cp", 10)),
        (TEXT, checkpoint("cp", 0, label="there")),
        ("new", checkpoint("cp", 0)),
    ],
    ids=["place", "label", "version"],
)
def test_a_checkpoint_of_the_same_id_elsewhere_is_refused_before_the_commit(store, text, again):
    """It would be lost, or the session's own would."""
    store.import_envelope(envelope_of(TEXT, checkpoint("cp", 0)), agent_id="a")
    check_refused(
        store,
        CheckpointExistsError,
        "cp (context_envelope.checkpoints[0].checkpoint_id)",
        envelope_of(text, again),
        base_version="1.0.0",
    )


def test_the_same_checkpoint_in_other_metadata_is_of_another_version(store):
    """Metadata alone makes a version, in which the session's checkpoint is not."""
    store.import_envelope(envelope_of(TEXT, checkpoint("cp", 5)), agent_id="a")
    changed = envelope_of(TEXT, checkpoint("cp", 5), metadata={"model": "m"})
    check_refused(store, CheckpointExistsError, "cp", changed, base_version="1.0.0")


# --- put in one go -------------------------------------------------------------------------------


def test_an_import_again_changes_nothing(store):
    """Onto its own version, and by its name, also where the session has moved on."""
    envelope = envelope_of(TEXT, checkpoint("cp", 5), flags={"sensitive": True})
    first = store.import_envelope(envelope, agent_id="a", operation_id="op")
    again = store.import_envelope(envelope, agent_id="a", base_version="1.0.0")
    assert (again.version, again.unplaced_checkpoints) == (first.version, ())
    store.put("s", "new", agent_id="a")
    named = store.import_envelope(envelope, agent_id="a", operation_id="op")
    assert (named.version, named.unplaced_checkpoints) == (first.version, ())
    assert placed(store) == {"cp": (first.version, 5)}
    assert store.show("s").flags == ("sensitive",)


def test_an_import_onto_a_base_again_by_its_name_changes_nothing(store):
    """Its own checkpoints are not taken for another's."""
    store.put("s", "old", agent_id="a")
    envelope = envelope_of(TEXT, checkpoint("cp", 5))
    onto = {"agent_id": "a", "base_version": "1.0.0", "operation_id": "op"}
    first = store.import_envelope(envelope, **onto)
    assert store.import_envelope(envelope, **onto) == first
    assert placed(store) == {"cp": (first.version, 5)}


def test_a_thousand_checkpoints_take_three_round_trips_more_than_one(redis_server, redis_client):
    """They are put 250 at once."""
    trips = []
    for count in (1, 250, 251, 1_000):
        redis_client.flushall()
        faults = Faults()
        faults.arm("lose", 1_000_000)
        with faulty_client(str(redis_server.socket), faults) as client:
            store = ContextStore(client)
            store.import_envelope(envelope_of(TEXT, *numbered(count, 5)), agent_id="a")
            store.close()
        trips.append(faults.trips)
        names = [each.checkpoint_id for each in ContextStore(redis_client).checkpoints("s")]
        assert names == [f"cp-{number}" for number in range(count)]
    assert trips == [trips[0], trips[0], trips[0] + 1, trips[0] + 3]
    assert trips[0] <= 8


def test_an_import_that_stopped_behind_its_commit_is_finished_by_its_name(
    redis_server, redis_client
):
    """Wherever its process died, all marks are there in the end, and once."""
    envelope = envelope_of(TEXT, *numbered(600, 5), flags={"immutable": True})
    at, died = 0, True
    while died:
        redis_client.flushall()
        at += 1
        faults = Faults()
        faults.arm("die after", at)
        died = False
        with faulty_client(str(redis_server.socket), faults) as client:
            try:
                ContextStore(client).import_envelope(envelope, agent_id="a", operation_id="op")
            except Died:
                died = True
        store = ContextStore(redis_client)
        commit = store.import_envelope(envelope, agent_id="a", operation_id="op")
        assert len(store.checkpoints("s")) == 600
        assert set(placed(store).values()) == {(commit.version, 5)}
        assert store.show("s").flags == ("immutable",)
        store.close()
    assert at > 5


def test_marks_are_put_and_audited_once_whichever_reply_is_lost(redis_server, redis_client):
    """At any of the import's round trips."""
    envelope = envelope_of(TEXT, *numbered(3, 5), flags={"immutable": True})
    at, fired = 0, True
    while fired:
        redis_client.flushall()
        at += 1
        faults = Faults()
        faults.arm("lose", at)
        with faulty_client(str(redis_server.socket), faults) as client:
            store = ContextStore(client)
            store.import_envelope(envelope, agent_id="a")
            fired = faults.fired
            store.close()
        found = ContextStore(redis_client)
        assert list(placed(found)) == ["cp-0", "cp-1", "cp-2"]
        assert found.show("s").flags == ("immutable",)
        entries = [(entry.operation, entry.details) for entry in found.show_audit("s")]
        assert entries == [
            ("flagged", {"name": "immutable"}),
            ("checkpointed", {"count": 3}),
            ("imported", entries[-1][1]),
        ]
    assert at > 3
