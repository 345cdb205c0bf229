import base64
import traceback

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from baton.content.fernet import open_fernet
from baton.errors import ContextCorruptError, InvalidInputError, SealBrokenError
from key_material import assert_not_in

KEY = Fernet.generate_key().decode()
# From the specification's test vectors; its time is 1985.
SPECIFIED_KEY = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
SPECIFIED = (
    "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOP"
    "mrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="
)


@given(st.text(max_size=500))
def test_fernet_token_opens(text):
    """Whatever text the protocol's way encrypted comes back."""
    assert open_fernet(Fernet(KEY).encrypt(text.encode()).decode(), KEY) == text


def test_fernet_specification_token_opens_whatever_its_age():
    """The published token of 1985 opens."""
    assert open_fernet(SPECIFIED, SPECIFIED_KEY) == "hello"


@given(st.binary(max_size=100), st.data())
def test_any_changed_byte_of_a_token_is_refused(plain, data):
    """The token authenticates all of itself."""
    token = bytearray(base64.urlsafe_b64decode(Fernet(KEY).encrypt(plain)))
    token[data.draw(st.integers(0, len(token) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBrokenError, match="Fernet token does not open"):
        open_fernet(base64.urlsafe_b64encode(token).decode(), KEY)


def test_fernet_token_of_another_key_is_refused_in_words():
    """A wrong key is said, where the vendor's error is empty."""
    token = Fernet(KEY).encrypt(b"text").decode()
    with pytest.raises(SealBrokenError, match="made under another key"):
        open_fernet(token, Fernet.generate_key().decode())


@pytest.mark.parametrize("token", ["", "gAAA", "A" * 60])
def test_fernet_token_of_too_few_or_no_true_bytes_is_refused(token):
    """What cannot be a token is refused with a typed error."""
    with pytest.raises((InvalidInputError, SealBrokenError), match="Fernet token"):
        open_fernet(token, KEY)


@pytest.mark.parametrize("junk", ["!", "\n", "é", " ", "=="])
def test_fernet_token_with_other_letters_is_refused(junk):
    """The vendor's decoder would skip them, or fail with an error of its own."""
    token = Fernet(KEY).encrypt(b"text").decode()
    with pytest.raises(InvalidInputError, match="Fernet token: expected URL-safe base64"):
        open_fernet(token[:20] + junk + token[20:], KEY)
    with pytest.raises(InvalidInputError, match="got <bytes>"):
        open_fernet(token.encode(), KEY)


@pytest.mark.parametrize(
    "key",
    ["", KEY[:-1], KEY + "=", "!" + KEY[1:], KEY.encode(), None],
    # Named: the key is random, and workers of one test run must agree on the names.
    ids=["empty", "short", "long", "other letter", "bytes", "none"],
)
def test_fernet_key_of_another_form_is_refused_and_not_shown(key):
    """Only 32 bytes in URL-safe base64 are a key; the error hides what was given."""
    with pytest.raises(InvalidInputError, match="got <hidden>") as caught:
        open_fernet(SPECIFIED, key)
    shown = "".join(traceback.format_exception(caught.value))
    assert_not_in(shown, base64.urlsafe_b64decode(KEY))


def test_fernet_token_of_no_text_is_corrupt():
    """Authentic bytes that are not UTF-8 are no context."""
    with pytest.raises(ContextCorruptError, match="not UTF-8 at byte 1"):
        open_fernet(Fernet(KEY).encrypt(b"a\xff").decode(), KEY)
