"""Exports of what is deleted, collected or damaged while it is exported: typed errors."""

from __future__ import annotations

import hashlib
import json

import pytest

from baton.envelope.reading import read_envelope
from baton.errors import ContextCorruptError, ContextNotFoundError, VersionNotFoundError
from baton.key_providers.file import FileKeyProvider
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from envelopes import AMPLE_BYTES, MIB

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

# More than an export fetches at once, and no two pieces alike.
TEXT = "".join(
    f"{number} {hashlib.sha256(b'%d' % number).hexdigest()}\n" for number in range(200_000)
)


@pytest.fixture(params=[False, True], ids=["clear", "sealed"])
def store(request, redis_client, tmp_path):
    """A store without a cache, and in it a session of a text and a short head."""
    provider = FileKeyProvider.create(tmp_path / "master.keys")
    store = ContextStore(redis_client, key_provider=provider, keep_versions=1)
    store.put("s", TEXT, agent_id="a", sealed=request.param)
    yield store
    store.close()


def begun(store, version=None):
    """An export whose first parts are out."""
    parts = store.export_envelope("s", version)
    seen = sum(len(next(parts)) for _ in range(4))
    assert 0 < seen < len(TEXT) // 4
    return parts


def delete(store):
    store.delete("s", agent_id="a")


def begin_anew(store):
    delete(store)
    store.put("s", TEXT[::-1], agent_id="b")


def begin_anew_with_less(store):
    delete(store)
    store.put("s", "short", agent_id="b")


def collect(store):
    store.put("s", "short", agent_id="a")
    assert store.collect("s", agent_id="a").versions == ("1.0.0",)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (delete, ContextNotFoundError),
        (begin_anew, VersionNotFoundError),
        (begin_anew_with_less, VersionNotFoundError),
        (collect, VersionNotFoundError),
    ],
    ids=["deleted", "begun anew", "begun anew with less", "collected"],
)
def test_what_goes_mid_stream_is_told_as_what_is_not_there(store, change, error):
    """And not as damage."""
    parts = begun(store)
    change(store)
    with pytest.raises(error, match="session s "):
        list(parts)


def test_a_session_half_deleted_mid_stream_is_not_there(store, redis_client):
    """A large one is deleted slice by slice, the last chunks first."""
    parts = begun(store)
    keys = SessionKeys.of("s")
    redis_client.hset(keys.base, "state", "deleting")
    for key in redis_client.scan_iter("context:claude_max:{s}:chunks:*"):
        redis_client.delete(key)
    with pytest.raises(ContextNotFoundError, match="session s "):
        list(parts)


def test_damage_mid_stream_is_told_as_damage(store, redis_client):
    """Of a version that is still there."""
    parts = begun(store)
    for key in redis_client.scan_iter("context:claude_max:{s}:chunks:*"):
        redis_client.setrange(key, redis_client.strlen(key) - 9, b"\0" * 9)
    with pytest.raises(ContextCorruptError, match=r"session s version 1\.0\.0"):
        list(parts)


def test_a_version_that_stays_is_exported_whole_though_others_come(store):
    """A stream is of the version it began with."""
    parts = begun(store)
    store.put("s", "next", agent_id="b")
    rest = b"".join(parts)
    whole = json.loads(b"".join(store.export_envelope("s", "1.0.0")))
    assert read_envelope(whole, limit_bytes=AMPLE_BYTES).text == TEXT
    assert rest.endswith(b"}}\n")
    assert len(TEXT) > 12 * MIB
