"""Looks for key material: what a process could show of an object, and what it shows in a text."""

from __future__ import annotations

import base64
import copy
import gc
import pickle
import types
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_STATE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


def assert_hides(holder: object, *keys: bytes) -> None:
    """`holder` shows no key in its repr, has none within reach, and is not pickled or copied."""
    assert_not_in(f"{holder!r} {holder!s} {holder}", *keys)
    for leak in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(holder)
    assert_unreachable(holder, *keys)


def assert_unreachable(holder: object, *keys: bytes) -> None:
    """No bytes or text that Python reaches from `holder` hold a key."""
    for value in _reachable(holder):
        if isinstance(value, bytes | bytearray | memoryview):
            assert not any(key in bytes(value) for key in keys)
        elif isinstance(value, str):
            assert_not_in(value, *keys)


def assert_not_in(text: str, *keys: bytes) -> None:
    """`text` holds no key: not raw, not as hex, not as base64, not as Python would print it."""
    lowered = text.lower()
    for key in keys:
        encoded = base64.b64encode(key).decode()
        for form in (key.hex(), repr(key)[2:-1].lower(), encoded.lower()):
            assert form not in lowered
        assert encoded.translate(str.maketrans("+/", "-_")) not in text


def _reachable(holder: object) -> Iterator[object]:
    pending, seen = [holder], set()
    while pending:
        value = pending.pop()
        if id(value) in seen or isinstance(value, _NOT_STATE):
            continue
        seen.add(id(value))
        yield value
        pending.extend(gc.get_referents(value))
