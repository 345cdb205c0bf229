"""JSON text to values and back, strictly: what two readers could read differently is refused."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

from baton.errors import ContextTooLargeError, InvalidInputError, InvalidTextError
from baton.merge.conflicts import ABSENT

if TYPE_CHECKING:
    from baton.merge.conflicts import Json, Value

MAX_CHARACTERS: Final = 64 * 1_048_576
MAX_DEPTH: Final = 100
MAX_VALUES: Final = 1_000_000

# The first bracket, the line end and white space behind it.
_OPENING: Final = re.compile(r"\s*[\[{](?:(\r?\n)([ \t]*))?")
_AFTER_KEY: Final = re.compile(r'":(\s?)')


def parse_json(text: str, field: str) -> Json:
    """The value of a JSON text; `field` names it in errors.

    Integers are exact, other numbers are doubles.

    Raises:
        InvalidInputError: the text is not JSON (RFC 8259), repeats a key of an object, holds NaN,
            an infinity or a number past a double's range or Python's limit on digits, nests
            objects and lists more than 100 deep or has more than 1,000,000 values and keys.
        InvalidTextError: a string has a lone surrogate, escaped or not.
        ContextTooLargeError: the text has more than 64 Mi characters.
    """
    if len(text) > MAX_CHARACTERS:
        limit = f"at most {MAX_CHARACTERS} characters of JSON"
        raise ContextTooLargeError(field, limit, f"<{len(text)}>")
    # Parsing so many takes seconds; counting them, a hundredth of that.
    if _separators(text) > MAX_VALUES:
        raise InvalidInputError(field, f"at most {MAX_VALUES} values and keys", "<more>")
    try:
        value = STRICT_DECODER.decode(text)
    except ValueError as error:
        raise InvalidInputError(field, "a JSON document", f"<{error}>") from None
    except RecursionError:
        raise InvalidInputError(field, f"at most {MAX_DEPTH} levels", "<more>") from None
    check_json(value, field)
    return cast("Json", value)


def _separators(text: str) -> int:
    """The commas and colons outside of strings, fewer than the values and keys of any JSON."""
    if text.count(",") + text.count(":") <= MAX_VALUES:
        return 0
    unescaped = text.replace("\\\\", "").replace('\\"', "")
    outside = "".join(unescaped.split('"')[::2])
    return outside.count(",") + outside.count(":")


def check_json(value: object, field: str, depth: int = 0) -> None:
    """Hold a value, which stands inside `depth` others, to what `parse_json` returns.

    Raises:
        InvalidInputError: it is no JSON value, or too deep or large.
        InvalidTextError: a string has a lone surrogate.
    """
    seen = 0
    pending = [(value, depth)]
    while pending:
        item, level = pending.pop()
        seen += 1
        if level >= MAX_DEPTH and isinstance(item, dict | list):
            raise InvalidInputError(field, f"at most {MAX_DEPTH} levels", "<more>")
        if isinstance(item, dict):
            pending.extend((part, level + 1) for part in (*item, *item.values()))
            if not all(isinstance(key, str) for key in item):
                raise InvalidInputError(field, "objects whose keys are strings", "<other keys>")
        elif isinstance(item, list):
            pending.extend((part, level + 1) for part in item)
        else:
            _check_scalar(item, field)
        if seen + len(pending) > MAX_VALUES:
            raise InvalidInputError(field, f"at most {MAX_VALUES} values and keys", "<more>")


def same(one: Value, other: Value) -> bool:
    """Whether two values are equal as JSON: `1`, `1.0` and `true` differ, key order does not."""
    if one is ABSENT or other is ABSENT:
        return one is other
    return one == other and canonical(one) == canonical(other)


def spelled_alike(one: Value, other: Value) -> bool:
    """Whether two values are equal down to the order of their keys."""
    if one is ABSENT or other is ABSENT:
        return one is other
    return one == other and json.dumps(one) == json.dumps(other)


def canonical(value: Json) -> str:
    """One text for each value, whatever the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def dump_like(value: Json, model: str) -> str:
    """`value` as JSON in the layout of the text `model`.

    Taken from it: indentation and line ends, whether a space stands behind a colon, a line end
    behind the document. Text is written as it is, not as escapes.
    """
    opening = _OPENING.match(model)
    newline, indent = opening.groups() if opening else (None, None)
    after_key = _AFTER_KEY.search(model)
    colon = ":" if after_key is not None and not after_key[1] else ": "
    comma = "," if newline or colon == ":" else ", "
    text = json.dumps(
        value,
        indent=indent if newline else None,
        separators=(comma, colon),
        ensure_ascii=False,
        allow_nan=False,
    )
    if model.endswith("\n"):
        text += "\n"
    crlf = newline == "\r\n" or (newline is None and model.endswith("\r\n"))
    return text.replace("\n", "\r\n") if crlf else text


def _check_scalar(item: object, field: str) -> None:
    if isinstance(item, str):
        if not item.isascii():
            _check_encodable(item, field)
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise InvalidInputError(field, "finite numbers", item)
    elif item is not None and not isinstance(item, int):
        raise InvalidInputError(field, "JSON values", f"<{type(item).__name__}>")


def _check_encodable(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        got = f"<a lone surrogate at character {error.start} of a string>"
    else:
        return
    raise InvalidTextError(field, "text that UTF-8 can encode", got)


def _object_of_distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        [(repeated, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key {repeated[:80]!r} appears twice in one object")
    return members


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"number {literal[:80]} is past a double's range")
    return number


def _refused(literal: str) -> float:
    raise ValueError(f"{literal} is not JSON")


# Raises ValueError for what its hooks refuse and what is not JSON, RecursionError for depth.
STRICT_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object_of_distinct_keys, parse_float=_finite, parse_constant=_refused
)
