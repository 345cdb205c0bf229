"""What must hold of a session as it stands in Redis, whatever was done to it and by whom."""

from __future__ import annotations

import json
from itertools import pairwise

from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from baton.store.manifest import decode_manifest
from baton.versions import parse_version


def check_stored(client, name):
    """A session that is not sealed is whole: books, chunks, contents, audit, expiries."""
    keys = SessionKeys.of(name)
    manifests = {
        version.decode(): decode_manifest(stored, name, version.decode())
        for version, stored in client.hgetall(keys.manifests).items()
    }
    revisions = {
        found.decode(): decode_manifest(stored, name, f"pending:{found.decode()}")
        for found, stored in client.hgetall(keys.pending).items()
    }
    check_history(client, keys, manifests)
    check_chunks(client, keys, [*manifests.values(), *revisions.values()])
    reader = ContextStore(client)
    for version in manifests:
        assert reader.get(name, version).version == version
    for conflict in reader.conflicts(name):
        assert reader.pending_content(name, conflict.conflict_id) is not None
    reader.close()
    check_trail(client, keys)
    assert [key for key in client.keys(f"{keys.base}*") if client.pttl(key) < 0] == []


def check_history(client, keys, manifests):
    """Head, history and manifests name the same versions, each on the one before."""
    history = client.zrange(keys.history, 0, -1)
    versions = sorted(manifests, key=parse_version)
    assert [member.decode() for member in history] == [
        f"{version}:{manifests[version].manifest.content_hash}" for version in versions
    ]
    head, etag = client.hmget(keys.base, "head", "head_etag")
    assert (head.decode(), etag.decode()) == (versions[-1], manifests[versions[-1]].etag)
    for older, newer in pairwise(versions):
        parent = manifests[newer].manifest.parent
        assert parse_version(older) <= parse_version(parent) < parse_version(newer)


def check_chunks(client, keys, stamped):
    """Every chunk has a manifest that names it, and every manifest has its chunks."""
    sizes = {}
    for each in stamped:
        sizes |= each.manifest.stored_sizes
    found = {int(key.rpartition(b":")[2]) for key in client.keys(f"{keys.base}:chunks:*")}
    assert found == set(sizes)
    assert [client.strlen(keys.chunk(chunk_id)) for chunk_id in sizes] == list(sizes.values())


def check_trail(client, keys):
    """No number of the audit is missing, and its times do not go back."""
    entries = [json.loads(line) for line in client.lrange(keys.audit, 0, -1)]
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    assert int(client.hget(keys.audit_state, "next")) == len(entries)
