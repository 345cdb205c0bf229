"""Writes that came as messages, done by a store."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from baton.errors import InvalidInputError, SessionExistsError
from baton.key_providers.file import FileKeyProvider
from baton.store.contexts import ContextStore
from baton.store.requests import StoreRequest, store_requested


def ask(store, *, operation_id="once", **fields):
    request = StoreRequest(agent_id="a", **{"session_id": "s", **fields})
    return store_requested(store, request, operation_id)


@pytest.fixture
def keyed(redis_client, tmp_path):
    provider = FileKeyProvider.create(tmp_path / "baton.keys")
    with closing(ContextStore(redis_client, key_provider=provider)) as store:
        yield store


@pytest.fixture
def keyless(redis_client):
    with closing(ContextStore(redis_client)) as store:
        yield store


@pytest.mark.parametrize("worker", ["keyed", "keyless"])
@pytest.mark.parametrize("kind", ["content", "envelope"])
def test_what_a_message_had_in_clear_reaches_no_sealed_session(request, keyed, worker, kind):
    """Whether or not the worker has the key; the error says what to do, and shows no text."""
    keyed.put("s", "secret", agent_id="a", sealed=True)
    keyed.put("plain", "known to the broker", agent_id="a")
    envelope = json.loads(b"".join(keyed.export_envelope("plain")))
    given = {"content": "known to the broker"} if kind == "content" else {"envelope": envelope}
    with pytest.raises(InvalidInputError, match=rf"^{kind}: .*s, which is sealed") as said:
        ask(request.getfixturevalue(worker), base_version="1.0.0", **given)
    assert "baton context put" in str(said.value)
    assert "known" not in str(said.value)
    assert keyed.show("s").version_count == 1


def test_content_is_put_as_the_message_says(keyless):
    """Every field of a message with content reaches the write, and its name makes it one."""
    given = {"content": "{}", "content_type": "application/json", "metadata": {"k": 1}}
    done = ask(keyless, version="3.1.0", **given)
    assert ask(keyless, content="not this") == done
    found = keyless.get("s")
    assert (found.version, found.content, found.metadata) == ("3.1.0", "{}", {"k": 1})
    assert found.content_type == "application/json"
    assert (
        ask(keyless, content="[]", base_version="3.1.0", bump="major", operation_id="b").version
        == "4.0.0"
    )
    late = {"content": "[1]", "base_version": "3.1.0", "policy": "reject", "operation_id": "c"}
    assert ask(keyless, **late).action == "rejected"


def test_an_envelope_is_imported_under_the_name_of_the_message(keyless):
    """Delivered again it is the same import, also where it goes to another session."""
    keyless.put("s", "text", agent_id="b", metadata={"model": "m"})
    envelope = json.loads(b"".join(keyless.export_envelope("s")))
    done = ask(keyless, session_id="copy", envelope=envelope)
    assert ask(keyless, session_id="copy", envelope=envelope) == done
    assert keyless.get("copy").metadata == {"model": "m"}


def test_an_envelope_goes_on_top_of_the_base_of_its_message(keyless):
    """A session that is there takes one on a base only."""
    keyless.put("s", "one\ntwo\n", agent_id="b")
    envelope = json.loads(b"".join(keyless.export_envelope("s")))
    with pytest.raises(SessionExistsError):
        ask(keyless, envelope=envelope)
    keyless.put("s", "one\n", agent_id="b", base_version="1.0.0")
    done = ask(keyless, envelope=envelope, base_version="1.0.1", operation_id="again")
    assert (done.action, done.version) == ("accepted", "1.0.2")
    assert keyless.get("s").content == "one\ntwo\n"
