"""`baton keys …` as a process: files made, ids listed, data keys of sealed sessions re-wrapped."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import redis

from baton.embedded import EmbeddedRedis
from baton.key_providers.file import FileKeyProvider
from baton.store.data_keys import DataKeys
from baton.store.keys import SessionKeys

ONE, TWO = bytes(range(32)).hex(), bytes(range(100, 132)).hex()


@pytest.fixture(scope="module")
def server_url():
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    with EmbeddedRedis(folder) as url:
        yield url
    shutil.rmtree(folder)


@pytest.fixture
def client(server_url):
    with redis.Redis.from_url(server_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def baton(tmp_path, server_url):
    """Runs `baton keys` and gives what it prints on both streams."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
    environment = kept | {"BATON_REDIS_URL": server_url, "BATON_STATE_DIR": str(tmp_path / "state")}

    def run(*arguments, code=0, **variables):
        done = subprocess.run(
            [sys.executable, "-m", "baton", "keys", *arguments],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env=environment | variables,
            text=True,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr

    return run


@pytest.fixture
def key_file(tmp_path):
    return str(FileKeyProvider.create(tmp_path / "baton.keys").path)


def sealed_session(client, provider, session_id):
    """What Redis holds of a sealed session's data key; its sealer."""
    new = DataKeys(client, provider, lambda *_: None).new(session_id)
    client.set(SessionKeys.of(session_id).data_key, new.stored, ex=3600)
    return new.sealer


def unwrapped(client, provider, session_id, data_key_id):
    keys = SessionKeys.of(session_id)
    return DataKeys(client, provider, lambda *_: None).unwrap(keys, session_id, data_key_id)


def test_create_makes_a_private_file_once(baton, tmp_path):
    """It says the key's id and the file, and replaces nothing."""
    made = json.loads(baton("create", "my.keys", "--json")[0])
    path = tmp_path / "my.keys"
    assert made == {"file": str(path), "key": FileKeyProvider(path).current_key_id()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    _, errors = baton("create", "my.keys", code=2)
    assert "expected a path where nothing is" in errors
    assert path.read_bytes() == before
    out, errors = baton("create", "other.keys")
    assert f"BATON_KEY_FILE={tmp_path / 'other.keys'}" in errors
    assert (tmp_path / "other.keys").read_text().split()[1] not in out + errors


def test_list_shows_ids_and_no_key(baton):
    """Of whichever provider is set; the first is current."""
    out, errors = baton("list", BATON_MASTER_KEYS=f"new:{ONE},old:{TWO}")
    assert [line.split() for line in out.splitlines()] == [
        ["KEY", "USE"],
        ["new", "current"],
        ["old"],
    ]
    listed = json.loads(baton("list", "--json", BATON_MASTER_KEYS=f"new:{ONE},old:{TWO}")[0])
    assert listed == {"keys": [{"key": "new", "current": True}, {"key": "old", "current": False}]}
    assert not {ONE, TWO} & set((out + errors).split())


@pytest.mark.parametrize("command", [["list"], ["rotate"]])
def test_commands_want_exactly_one_source_of_keys(baton, key_file, command):
    """None and both are errors that name the variables."""
    assert "BATON_KEY_FILE: expected a key file" in baton(*command, code=2)[1]
    both = {"BATON_KEY_FILE": key_file, "BATON_MASTER_KEYS": ONE}
    assert "BATON_KEY_FILE: expected no BATON_MASTER_KEYS" in baton(*command, code=2, **both)[1]


def test_rotate_adds_a_key_and_rewraps_every_data_key(baton, client, key_file):
    """The old key is not needed any more, the data keys are the same, expiries stay."""
    provider = FileKeyProvider(key_file)
    old = provider.current_key_id()
    sealers = {name: sealed_session(client, provider, name) for name in ("one", "two", "three")}
    done = json.loads(baton("rotate", "--json", BATON_KEY_FILE=key_file)[0])
    new = provider.current_key_id()
    assert new != old
    assert done == {"key": new, "added": new, "rewrapped": 3, "current": 0, "failed": {}}
    lines = Path(key_file).read_text().splitlines()
    Path(key_file).write_text("".join(f"{line}\n" for line in lines if old not in line))
    for name, sealer in sealers.items():
        found = unwrapped(client, provider, name, sealer.data_key_id)
        assert found.content_mac(b"text") == sealer.content_mac(b"text")
        assert 0 < client.ttl(SessionKeys.of(name).data_key) <= 3600


def test_rotate_may_rewrap_only(baton, client, key_file):
    """It adds no key, and what is current already stays as it is."""
    provider = FileKeyProvider(key_file)
    sealed_session(client, provider, "one")
    before = Path(key_file).read_bytes()
    stored = client.get(SessionKeys.of("one").data_key)
    done = json.loads(baton("rotate", "--rewrap-only", "--json", BATON_KEY_FILE=key_file)[0])
    assert (done["added"], done["rewrapped"], done["current"]) == (None, 0, 1)
    assert Path(key_file).read_bytes() == before
    assert client.get(SessionKeys.of("one").data_key) == stored


def test_rotate_of_given_keys_rewraps_only(baton, client):
    """It cannot add to a variable, and says what to do instead."""
    _, errors = baton("rotate", code=2, BATON_MASTER_KEYS=ONE)
    assert "--rewrap-only: expected it after you put a new key first in BATON_MASTER_KEYS" in errors
    out, _ = baton("rotate", "--rewrap-only", BATON_MASTER_KEYS=f"new:{ONE},old:{TWO}")
    assert out.splitlines()[0].split() == ["key", "new"]


def test_rotate_tells_what_stayed_under_its_old_key(baton, client, key_file, tmp_path):
    """The others are re-wrapped all the same; exit code 4."""
    lost = FileKeyProvider.create(tmp_path / "lost.keys")
    sealed_session(client, lost, "unlucky")
    sealed_session(client, FileKeyProvider(key_file), "lucky")
    out, errors = baton("rotate", code=4, BATON_KEY_FILE=key_file)
    assert [line.split() for line in out.splitlines()][1:] == [
        ["re-wrapped", "1"], ["current", "already", "0"], ["failed", "1"],
    ]  # fmt: skip
    assert f"unlucky: {key_file}: expected master key '{lost.current_key_id()}'" in errors
