"""Anchors that need no Redis: what syslog gets, what the settings mean, what is refused."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from baton.errors import AnchorUnavailableError
from baton.store.audit_anchors import FileAnchor, Head, SyslogAnchor, make_anchor

HEAD = Head(session="s", chain="c", segment=3, last_seq=7, hash="h", at=1)


@pytest.fixture
def daemon():
    """A socket such as syslog listens on; its path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(folder / "log"))
        listening.settimeout(10)
        yield listening
    shutil.rmtree(folder)


def test_syslog_gets_each_head_as_one_message(daemon):
    """With facility `authpriv` (10) and level `info` (6); none can be read back."""
    anchor = SyslogAnchor(daemon.getsockname())
    anchor.append([HEAD, HEAD.model_copy(update={"segment": 4})])
    messages = [daemon.recv(4096).rstrip(b"\0").decode() for _ in range(2)]
    prefix = f"<{10 * 8 + 6}>baton audit: "
    assert all(message.startswith(prefix) for message in messages)
    heads = [json.loads(message.removeprefix(prefix)) for message in messages]
    assert [head["segment"] for head in heads] == [3, 4]
    assert anchor.find_heads("s") is None


def test_a_syslog_that_is_not_there_is_an_anchor_that_is_not(tmp_path):
    with pytest.raises(AnchorUnavailableError, match="syslog at"):
        SyslogAnchor(str(tmp_path / "none")).append([HEAD])


def test_the_settings_choose_the_anchor(tmp_path):
    anchor = make_anchor("file", tmp_path)
    assert isinstance(anchor, FileAnchor)
    anchor.append([HEAD])
    assert (tmp_path / "audit" / "heads.jsonl").is_file()
    assert isinstance(make_anchor("syslog", tmp_path), SyslogAnchor)
    assert make_anchor("off", tmp_path) is None


def test_a_file_anchor_finds_nothing_where_nothing_was_kept(tmp_path):
    assert FileAnchor(tmp_path / "none").find_heads("s") == []
    FileAnchor(tmp_path / "none").append([])
    assert not (tmp_path / "none").exists()


def test_a_file_anchor_follows_no_link(tmp_path):
    """Who can make links in the folder must not have us append to another's file."""
    (tmp_path / "target").touch()
    (tmp_path / "heads.jsonl").symlink_to(tmp_path / "target")
    with pytest.raises(AnchorUnavailableError):
        FileAnchor(tmp_path).append([HEAD])
    assert (tmp_path / "target").read_bytes() == b""


def test_heads_of_sessions_with_similar_names_are_told_apart(tmp_path):
    anchor = FileAnchor(tmp_path)
    for name in ("s", "ss", "S", "s.s"):
        anchor.append([HEAD.model_copy(update={"session": name})])
    assert [head.session for head in anchor.find_heads("s")] == ["s"]
