"""Cases: any text comes back byte by byte, and what is no text is refused (H10)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from baton.errors import InvalidInputError, InvalidTextError
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error

if TYPE_CHECKING:
    from baton.testing.kit import Kit

case = CaseGroup("text")

_BOM: Final = "\ufeff"


@case
def nul_bytes_come_back(kit: Kit) -> None:
    """A NUL ends nothing."""
    _check(kit, "a\0b\0\0", "\0")


@case
def byte_order_marks_come_back(kit: Kit) -> None:
    """A BOM is a character like any other, at the beginning and elsewhere."""
    _check(kit, f"{_BOM}text", f"te{_BOM}xt", _BOM)


@case
def line_ends_come_back(kit: Kit) -> None:
    """CRLF, CR, LF and the separators of Unicode are not made one."""
    _check(kit, "a\r\nb\rc\nd\u2028e\u2029f\x85g\x0b\x0c", "\r\n", "\r\n\r\n")


@case
def right_to_left_text_comes_back(kit: Kit) -> None:
    """Hebrew, Arabic, and the marks that turn the direction."""
    _check(kit, "שלום \u202eabc\u202c مرحبا \u200f!", "\u2067x\u2069")


@case
def characters_of_four_bytes_come_back(kit: Kit) -> None:
    """Emoji, their joined sequences, and the last character that there is."""
    _check(kit, "🧭👩‍👩‍👧‍👦🏳️‍🌈", "\U0010ffff", "🜁🜂" * 5_000)


@case
def equal_looking_texts_stay_different(kit: Kit) -> None:
    """Nothing is normalised: composed and combining forms are two texts."""
    session_id = kit.session()
    kit.store.put(session_id, "caf\u00e9", agent_id="a")
    commit = kit.store.put(session_id, "cafe\u0301", agent_id="a")
    expect_equal(commit.version, "1.0.1", "the version")
    expect_equal(kit.store.get(session_id).content, "cafe\u0301", "the content")
    expect_equal(kit.store.get(session_id, "1.0.0").content, "caf\u00e9", "the content before")


@case
def lone_surrogate_is_refused_with_its_place(kit: Kit) -> None:
    """What UTF-8 cannot encode is refused at the door, and nothing is stored."""
    session_id = kit.session()
    for content in ("abc\ud800def", "abc\udfff"):
        with expect_error(InvalidTextError, "3"):
            kit.store.put(session_id, content, agent_id="a")
        with expect_error(InvalidTextError, "3"):
            kit.store.append(session_id, content, agent_id="a")
    expect(not kit.store.exists(session_id), "nothing to be stored")


@case
def content_that_is_no_text_is_refused(kit: Kit) -> None:
    """Bytes, numbers and None are refused by the argument's name."""
    session_id = kit.session()
    for content in (b"bytes", None, 3, ["a"]):
        with expect_error(InvalidInputError, "content"):
            kit.store.put(session_id, content, agent_id="a")  # type: ignore[arg-type]
    expect(not kit.store.exists(session_id), "nothing to be stored")


@case
def content_hash_is_that_of_the_bytes(kit: Kit) -> None:
    """Anybody can check it: SHA-256 of the text's UTF-8."""
    session_id, text = kit.session(), "naïve 版本 🧭\r\n"
    commit = kit.store.put(session_id, text, agent_id="a")
    expected = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    expect_equal(commit.content_hash, expected, "the content hash")


def _check(kit: Kit, *texts: str) -> None:
    session_id, reader = kit.session(), kit.open_store()
    for number, text in enumerate(texts):
        kit.store.put(session_id, text, agent_id="a", version=f"{number + 1}.0.0")
        context = reader.get(session_id)
        expect_equal(context.content.encode(), text.encode(), "the bytes")
        expect_equal(context.size_bytes, len(text.encode()), "size_bytes")
    kit.store.put(session_id, "", agent_id="a")
    for text in texts:
        kit.store.append(session_id, text, agent_id="a")
    expect_equal(reader.get(session_id).content.encode(), "".join(texts).encode(), "them appended")
