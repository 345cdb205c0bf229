"""Any metadata that a version may have leaves in an envelope, and comes back as it was."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from baton.merge.strict_json import same
from baton.store.contexts import ContextStore

ON_A_SERVER = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KNOWN = [
    "model", "temperature", "max_tokens", "top_p", "agent_role", "dependencies", "baton", "flags",
    "metadata", "context_version", "model_config", "",
]  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DEPENDENCY = {"session_id": "s-1", "agent_id": "a", "content_type": "task_result"}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 2**53, 10**30, -0.0, 1.0, 0.5, "hot", "sonnet_coordinator", "x" * 257]),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)
VALUES = st.recursive(
    SCALARS,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(TEXTS, parts, max_size=3),
    max_leaves=8,
)
DEPENDENCIES = st.lists(
    st.just(DEPENDENCY) | st.fixed_dictionaries(dict.fromkeys(DEPENDENCY, SCALARS)) | VALUES,
    max_size=2,
)
METADATA = st.dictionaries(
    st.sampled_from(KNOWN) | TEXTS, VALUES | DEPENDENCIES | SCALARS, max_size=8
)


@pytest.fixture
def store(redis_client):
    store = ContextStore(redis_client)
    yield store
    store.close()


def nested(levels):
    value = {}
    for _ in range(levels - 1):
        value = {"x": value}
    return value


def exported(store, session):
    return json.loads(b"".join(store.export_envelope(session)))["context_envelope"]


@ON_A_SERVER
@given(metadata=METADATA)
@example(metadata={"temperature": "hot"})
@example(metadata={"agent_role": 5})
@example(metadata={"dependencies": "oops"})
@example(metadata={"dependencies": [], "agent_role": None, "model": None})
@example(metadata={"baton": {"context_version": "9.9.9", "content_type": "x", "metadata": {}}})
@example(metadata={"temperature": 1, "top_p": True, "max_tokens": 10**400})
@example(metadata=nested(100))
@example(metadata={"baton": nested(99)})
@example(metadata={"x": "я" * 10_000})
def test_any_metadata_comes_back_from_an_envelope(store, metadata):
    """Equal as JSON, through two sessions, which export the same."""
    first, second = (f"s{random.getrandbits(64):x}" for _ in range(2))
    store.put(first, "text", agent_id="a", metadata=metadata)
    envelope = exported(store, first)
    store.import_envelope({"context_envelope": envelope}, agent_id="a", session_id=second)
    assert same(store.get(second).metadata, metadata)
    again = exported(store, second)
    for part in ("metadata", "dependencies", "agent_role"):
        assert same(again.get(part), envelope.get(part))
    for session in (first, second):
        store.delete(session, agent_id="a")


@pytest.mark.parametrize(
    ("metadata", "field", "value"),
    [
        ({"temperature": 1}, "temperature", 1.0),
        ({"max_tokens": 5}, "max_tokens", 5),
        ({"purpose": {"of": None}}, "purpose", {"of": None}),
    ],
    ids=["number", "count", "open"],
)
def test_metadata_that_fits_stands_where_other_readers_look(store, metadata, field, value):
    """In the envelope's own fields."""
    store.put("s", "text", agent_id="a", metadata=metadata)
    assert exported(store, "s")["metadata"][field] == value


def test_role_and_dependencies_are_fields_of_the_envelope(store):
    """Where they are a role and dependencies."""
    metadata = {"agent_role": "haiku_worker", "dependencies": [DEPENDENCY]}
    store.put("s", "text", agent_id="a", metadata=metadata)
    envelope = exported(store, "s")
    assert envelope["agent_role"] == "haiku_worker"
    assert envelope["dependencies"] == [DEPENDENCY]
    assert set(envelope["metadata"]) == {"baton"}
