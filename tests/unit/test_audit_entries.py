"""The closed list of operations, and what is shown of entries that Redis should not hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

import baton.store
from baton.store.audit_entries import NotedOperation, Operation, decode_entry
from baton.store.writing import _AUDITED

LUA = Path(baton.store.__file__).parent / "lua"
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_every_operation_that_is_recorded_is_on_the_list():
    """Those that scripts name themselves, those they are given, and those of notes."""
    recorded = {*_AUDITED.values(), *get_args(NotedOperation)}
    for script in LUA.glob("*.lua"):
        text = script.read_text()
        recorded.update(re.findall(r"operation = '(\w+)'", text))
        for table in re.findall(r"AUDITED = \{(.*?)\}", text, re.DOTALL):
            recorded.update(re.findall(r"'(\w+)'", table))
    assert {"deleted", "rolled_back", "tagged", "denied"} <= recorded
    assert recorded <= set(get_args(Operation))


def test_every_operation_is_in_the_protocol():
    text = PROTOCOL.read_text()
    assert [name for name in get_args(Operation) if f"`{name}`" not in text] == []


WHOLE = {
    "at": 1, "seq": 1, "session": "s", "agent": "a", "operation": "read", "version": "",
    "details": {},
}  # fmt: skip
DAMAGED = {
    "nothing": b"",
    "a list": b"[]",
    "no text": b"\xff",
    "no fields": b"{}",
    "too deep": b"[" * 5_000,
    "an endless time": json.dumps({**WHOLE, "at": float("inf")}).encode(),
    "a time past all": json.dumps({**WHOLE, "at": 1e30}).encode(),
    "details that are none": json.dumps({**WHOLE, "details": 1}).encode(),
    "a caller that is none": json.dumps({**WHOLE, "caller": "me"}).encode(),
}


def test_a_whole_entry_is_read():
    entry = decode_entry(json.dumps(WHOLE).encode())
    assert (entry.operation, entry.seq, entry.host) == ("read", 1, "")


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED.keys())
def test_bytes_that_are_no_entry_are_shown_as_unreadable(raw):
    shown = decode_entry(raw)
    assert (shown.operation, shown.seq, shown.at) == ("unreadable", 0, None)
    assert len(shown.details["bytes"]) <= 800
