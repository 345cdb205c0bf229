"""`baton context export` and `import`: a context leaves as an envelope and comes back."""

from __future__ import annotations

import json
import os
import stat
import threading

import pytest
from cryptography.fernet import Fernet

from baton.key_providers.file import FileKeyProvider
from envelopes import header_of, numbered_text, written

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

TEXT = "ein\nzwei\nдрей 🙂, no line end"


@pytest.fixture
def notes(context):
    """A session `notes` with metadata, a checkpoint and an older version."""
    context("put", "notes", "-", stdin=b"old")
    meta = ("--meta", "model=m-1", "--meta", "temperature:=0.5")
    context("put", "notes", "-", *meta, stdin=TEXT.encode())
    context("checkpoint", "notes", "after one", "--byte", "4")
    return context


@pytest.mark.parametrize("codec", ["gzip", "brotli", "none"])
def test_what_is_exported_can_be_imported(notes, codec):
    """Through a pipe to a second session: text, version, metadata and checkpoints are the same."""
    envelope = notes("export", "notes", "--compression", codec).stdout
    assert json.loads(envelope)["context_envelope"]["content_compression"] == codec
    done = notes.json("import", "-", "--session", "copy", stdin=envelope)
    assert (done["session"], done["version"], done["action"]) == ("copy", "1.0.1", "accepted")
    assert notes("get", "copy").stdout == TEXT.encode()
    assert notes.json("show", "copy")["metadata"] == {"model": "m-1", "temperature": 0.5}
    (checkpoint,) = notes.json("checkpoints", "copy")["checkpoints"]
    assert notes("resume", "copy", checkpoint["checkpoint_id"]).stdout == TEXT.encode()[4:]


def test_import_names_the_session_it_went_to(notes):
    """Without --session it is the envelope's own, from a file and from a pipe."""
    notes("export", "notes", "-o", "notes.json")
    envelope = (notes.place / "notes.json").read_bytes()
    notes("delete", "notes", "--yes")
    assert notes.json("import", "notes.json")["session"] == "notes"
    notes("delete", "notes", "--yes")
    assert b"session  notes\n" in notes("import", "-", stdin=envelope).stdout
    assert notes("get", "notes").stdout == TEXT.encode()


def test_import_reads_a_pipe_that_cannot_go_back(notes):
    """Also where the session's id stands behind the chunks."""
    document = json.loads(notes("export", "notes").stdout)
    name = document["context_envelope"].pop("session_id")
    document["context_envelope"]["session_id"] = name
    notes("delete", "notes", "--yes")
    pipe = notes.place / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=[json.dumps(document)])
    writer.start()
    assert notes.json("import", "pipe")["session"] == "notes"
    writer.join()
    assert notes("get", "notes").stdout == TEXT.encode()


def test_export_of_an_old_version(notes):
    """--version names it; --json tells which it was."""
    told = notes.json("export", "notes", "--version", "1.0.0", "-o", "old.json")
    assert told == {"session": "notes", "version": "1.0.0", "file": "old.json"}
    notes("import", "old.json", "--session", "copy")
    assert notes("get", "copy").stdout == b"old"


def test_export_replaces_a_file_only_by_a_whole_envelope(notes, redis_client):
    """Where a chunk turns out damaged, exit code 4, and the file is as it was."""
    text = numbered_text(3 << 20)
    notes("put", "long", "-", stdin=text.encode())
    notes.file("long.json", b"before")
    *_, last = sorted(
        redis_client.scan_iter("context:claude_max:{long}:chunks:*"),
        key=lambda key: int(key.rpartition(b":")[2]),
    )
    redis_client.set(last, b"\0" * redis_client.strlen(last), keepttl=True)
    notes.error("export", "long", "-o", "long.json", code=4)
    assert (notes.place / "long.json").read_bytes() == b"before"
    assert [path.name for path in notes.place.iterdir()] == ["long.json"]


def test_export_makes_no_file_readable_that_was_not(notes):
    """A file that is there keeps its mode."""
    (notes.place / "private.json").touch(mode=0o600)
    assert b"private.json: notes 1.0.1" in notes("export", "notes", "-o", "private.json").stderr
    assert stat.S_IMODE((notes.place / "private.json").stat().st_mode) == 0o600


def test_import_on_a_base_is_merged(notes):
    """Without a base the session must be new; with it, both changes are kept, or both wait."""
    notes("put", "list", "-", stdin=b"1\n2\n3\n4\n")
    notes("fork", "list", "away")
    notes("put", "away", "-", "--bump", "minor", stdin=b"1\n2\n3\nFOUR\n")
    notes("export", "away", "-o", "away.json")
    notes("put", "list", "-", stdin=b"ONE\n2\n3\n4\n")
    assert "list" in notes.error("import", "away.json", "--session", "list", code=4)
    back = ("import", "away.json", "--session", "list", "--base", "1.0.0")
    assert notes.json(*back)["action"] == "merged"
    assert notes("get", "list").stdout == b"ONE\n2\n3\nFOUR\n"
    notes("put", "list", "-", stdin=b"ONE\n2\n3\nvier\n")
    assert notes.json(*back, code=3)["conflicts"][0]["theirs"] == "FOUR\n"


def test_an_imported_session_can_be_sealed(notes):
    """Then it is read with the key only, and exported in clear again."""
    notes("export", "notes", "-o", "notes.json")
    key = {"BATON_KEY_FILE": str(FileKeyProvider.create(notes.place / "baton.keys").path)}
    notes("import", "notes.json", "--session", "sealed", "--sealed", **key)
    assert "BATON_KEY_FILE" in notes.error("export", "sealed", code=4)
    onto = ("import", "notes.json", "--base", "1.0.0", "--sealed")
    assert "began unsealed" in notes.error(*onto, code=4, **key)
    notes("export", "sealed", "-o", "again.json", **key)
    notes("import", "again.json", "--session", "open")
    assert notes("get", "open").stdout == TEXT.encode()


def test_a_fernet_token_is_imported_with_its_key(context):
    """The protocol's way to encrypt: what comes so is sealed here."""
    fernet_key = Fernet.generate_key()
    token = Fernet(fernet_key).encrypt(TEXT.encode())
    context.file("token.json", written(header_of(token, flags={"encrypted": True}), token))
    context.file("fernet.key", fernet_key + b"\n")
    key = {"BATON_KEY_FILE": str(FileKeyProvider.create(context.place / "baton.keys").path)}
    assert "Fernet" in context.error("import", "token.json", "--session", "s", code=4, **key)
    context("import", "token.json", "--session", "s", "--fernet-key-file", "fernet.key", **key)
    assert context("get", "s", **key).stdout == TEXT.encode()
    assert context.json("show", "s", **key)["flags"] == ["encrypted"]


@pytest.mark.parametrize(
    ("code", "envelope", "told"),
    [
        (2, b"not JSON", "envelope"),
        (2, b"", "envelope"),
        (2, b"{}", "context_envelope"),
        (2, b'{"context_envelope": []}', "envelope"),
        (
            2,
            b'{"context_envelope": {"version": "1.0.0", "session_id": "a b"}}',
            "context_envelope.session_id",
        ),
        (2, b'{"context_envelope": {"session_id": "s"}}', "context_envelope."),
    ],
    ids=["text", "nothing", "empty", "list", "id", "fields"],
)
def test_what_is_no_envelope_is_refused_by_its_path(context, code, envelope, told):
    """Nothing is stored."""
    assert told in context.error("import", "-", stdin=envelope, code=code)
    assert context.json("list") == {"sessions": [], "archived": []}


def test_an_envelope_that_was_changed_is_refused(notes):
    """Exit code 4 for a hash that is another, 2 for a content past the limit."""
    envelope = json.loads(notes("export", "notes").stdout)
    envelope["context_envelope"]["content_hash"] = f"sha256:{'0' * 64}"
    changed = json.dumps(envelope).encode()
    said = notes.error("import", "-", "--session", "copy", stdin=changed, code=4)
    assert "context_envelope.content_hash" in said
    notes("export", "notes", "-o", "notes.json")
    small = {"BATON_MAX_CONTEXT_BYTES": "10"}
    notes.error("import", "notes.json", "--session", "copy", code=2, **small)
    assert [info["session_id"] for info in notes.json("list")["sessions"]] == ["notes"]


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        (2, ["export"]),
        (4, ["export", "nobody"]),
        (4, ["export", "notes", "--version", "9.0.0"]),
        (2, ["export", "notes", "--compression", "zstd"]),
        (2, ["export", "notes", "-o", "none/notes.json"]),
        (2, ["import"]),
        (2, ["import", "nowhere.json"]),
        (2, ["import", "nowhere.json", "--session", "a b"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_what_cannot_be_exported_or_imported_is_told(notes, code, wrong):
    """Wrong usage is exit code 2, what is not there 4; nothing comes on standard output."""
    assert "error" in notes.error(*wrong, code=code).lower()
