"""`baton keys …` as a process: files made, ids listed, data keys of sealed sessions re-wrapped."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import redis

from archive_bench import ArchiveBench
from baton.archive.folder_lock import FolderLock
from baton.archive.ledger import Ledger, ShelfRecord
from baton.archive.requests import RequestDesk, perform
from baton.archive.shelf_keys import ShelfKeys
from baton.content.sealing import new_data_key, wrap_context
from baton.embedded import EmbeddedRedis
from baton.key_providers.file import FileKeyProvider
from baton.store.data_keys import DataKeys, encode_wrapped
from baton.store.keys import SessionKeys
from baton.swarm.pools import PoolBoard
from waiting import until

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
    assert done == {
        "key": new, "added": new, "rewrapped": 3, "current": 0, "failed": {}, "archive": None,
    }  # fmt: skip
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


# --- the archive's keys ------------------------------------------------------------------------


@pytest.fixture
def archive_dir(tmp_path):
    """The folder of an archive, as `baton` finds it."""
    folder = tmp_path / "state" / "archive"
    folder.mkdir(parents=True, mode=0o700)
    return folder


@pytest.fixture
def ledger(archive_dir, client):  # an empty Redis: what is re-wrapped there fails no test here
    ledger = Ledger(archive_dir / "ledger.sqlite")
    yield ledger
    ledger.close()


def put_shelf(ledger, provider, session_id, *, sealed=False):
    """A shelf whose data key this provider wraps; of a sealed session, its own key too."""
    seal, wrapped = ShelfKeys(provider).new()
    session_key = ""
    if sealed:
        context = wrap_context(session_id, "key1")
        session_key = encode_wrapped("key1", provider.wrap(new_data_key(), context=context))
    ledger.put(ShelfRecord(seal.shelf, session_id, "archived", wrapped, session_key))
    ledger.close()
    return seal


def opened(ledger, provider, shelf):
    """What opens the shelf, and the sealed session there."""
    record = ledger.find(shelf)
    ledger.close()
    keys = ShelfKeys(provider)
    return keys.seal(record), keys.sealer(record)


def drop_old_line(path, old):
    lines = Path(path).read_text().splitlines()
    Path(path).write_text("".join(f"{line}\n" for line in lines if old not in line))


def test_rotate_rewraps_the_archives_keys_too(baton, client, key_file, ledger, archive_dir):
    """Of its shelves and of sealed sessions there; the old key is not needed any more."""
    provider = FileKeyProvider(key_file)
    old = provider.current_key_id()
    sealed_session(client, provider, "hot")
    plain, sealed = (put_shelf(ledger, provider, name, sealed=name == "b") for name in "ab")
    before = (archive_dir / "ledger.sqlite").read_bytes()
    done = json.loads(baton("rotate", "--json", BATON_KEY_FILE=key_file)[0])
    new = provider.current_key_id()
    assert (done["rewrapped"], done["archive"]) == (
        1, {"key": new, "rewrapped": 2, "current": 0, "failed": {}},
    )  # fmt: skip
    drop_old_line(key_file, old)
    assert opened(ledger, provider, plain.shelf)[0].seal(b"x", b"text")
    assert opened(ledger, provider, sealed.shelf)[1] is not None
    assert old.encode() in before
    assert old.encode() not in (archive_dir / "ledger.sqlite").read_bytes()
    out, _ = baton("rotate", "--rewrap-only", BATON_KEY_FILE=key_file)
    rows = dict(line.rsplit(None, 1) for line in out.splitlines())
    assert (rows["archive: re-wrapped"], rows["archive: current already"]) == ("0", "2")


def test_rotate_needs_none_of_the_archives_packages(ledger, key_file, archive_dir):
    """A core installation that finds an archive can rotate its keys."""
    put_shelf(ledger, FileKeyProvider(key_file), "a")
    script = """
import sys
from pathlib import Path
from baton.archive.rewrapping import rewrap_ledger
from baton.settings import ClientSettings
import baton.cli.keys
settings = ClientSettings(state_dir=Path(sys.argv[1]), key_file=Path(sys.argv[2]))
assert rewrap_ledger(settings).current == 1
assert not {"chromadb", "numpy", "torch"} & set(sys.modules)
"""
    arguments = [str(archive_dir.parent), key_file]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True)


def test_rotate_of_an_archives_own_keys_says_so(baton, ledger, archive_dir):
    """Where nothing is configured, the archive has made itself a key file, and it is rotated."""
    own = FileKeyProvider.create(archive_dir / "master.keys")
    old = own.current_key_id()
    shelf = put_shelf(ledger, own, "a").shelf
    out, errors = baton("rotate", "--json")
    assert f"these are the keys of the archive alone, in {own.path}" in errors
    done = json.loads(out)
    assert done["added"] == done["archive"]["key"] == own.current_key_id() != old
    assert (done["rewrapped"], done["archive"]["rewrapped"]) == (0, 1)
    drop_old_line(own.path, old)
    assert opened(ledger, own, shelf)[0].shelf == shelf
    assert "of the archive alone" in baton("list")[1]


def test_rotate_tells_which_shelves_stayed_under_an_old_key(baton, ledger, key_file, archive_dir):
    """Such as those from before a key was configured: it says where their keys are; exit code 4."""
    own = FileKeyProvider.create(archive_dir / "master.keys")
    put_shelf(ledger, own, "older")
    put_shelf(ledger, FileKeyProvider(key_file), "newer")
    out, errors = baton("rotate", code=4, BATON_KEY_FILE=key_file)
    rows = dict(line.rsplit(None, 1) for line in out.splitlines())
    assert (rows["archive: re-wrapped"], rows["archive: failed"]) == ("1", "1")
    assert f"archived older: {key_file}: expected master key '{own.current_key_id()}'" in errors
    assert f"the archive had its keys in {own.path}" in errors
    with Path(key_file).open("a") as file:
        file.write(own.path.read_text())
    out, _ = baton("rotate", "--rewrap-only", "--json", BATON_KEY_FILE=key_file)
    assert json.loads(out)["archive"]["failed"] == {}


def test_rotate_waits_for_nobody_who_has_the_archive(baton, ledger, key_file, archive_dir):
    """Without a pool to ask, a process that has it is named; what is done stays done."""
    put_shelf(ledger, FileKeyProvider(key_file), "a")
    lock = FolderLock(archive_dir, owner_pid=os.getpid(), seconds=1)
    _, errors = baton("rotate", code=4, BATON_KEY_FILE=key_file)
    lock.release()
    assert f"in use by process {os.getpid()}" in errors
    done = json.loads(baton("rotate", "--rewrap-only", "--json", BATON_KEY_FILE=key_file)[0])
    assert done["archive"]["rewrapped"] == 1


def test_rotate_asks_the_pool_that_has_the_archive(
    baton, client, server_url, key_file, archive_dir, tmp_path, embedder
):
    """The process that has it does it, between two sessions, and answers."""
    bench = ArchiveBench(client, archive_dir.parent, embedder, key_file=Path(key_file))
    bench.store.put("a", "text", agent_id="writer")
    bench.archive.archive("a")
    PoolBoard(client).report("archive", "archive@here", {"pid": os.getpid()})
    desk = RequestDesk(client)
    answering = threading.Event()

    def answer():
        found = [key.decode() for key in client.scan_iter(match="archive:{*}:request")]
        for key in found:
            perform(bench.archive, desk, key.partition("{")[2].partition("}")[0])
            answering.set()
        return answering.is_set()

    pool = threading.Thread(target=until, args=(answer,), daemon=True)
    pool.start()
    done = json.loads(baton("rotate", "--json", BATON_KEY_FILE=key_file)[0])
    pool.join()
    new = FileKeyProvider(key_file).current_key_id()
    assert done["archive"] == {"key": new, "rewrapped": 1, "current": 0, "failed": {}}
    bench.archive.restore("a")
    assert bench.store.get("a").content == "text"
    bench.close()
