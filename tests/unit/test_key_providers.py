"""Master keys: what they wrapped comes back under the right key, id and context only."""

from __future__ import annotations

import logging
import os
import pickle
import stat
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.content.sealing import new_data_key, wrap_context
from baton.errors import (
    InvalidInputError,
    KeyNotFoundError,
    KeyUnavailableError,
    PermanentError,
    SealBrokenError,
    SettingsError,
    TransientError,
    UnsupportedFormatError,
)
from baton.key_providers.configured import configured_provider
from baton.key_providers.environment import EnvKeyProvider
from baton.key_providers.file import FileKeyProvider
from baton.key_providers.keyset import key_id_of
from baton.key_providers.provider import KeyProvider, WrappedKey
from baton.settings import ClientSettings, load_settings
from key_material import assert_hides, assert_not_in, assert_unreachable

ONE, TWO = bytes(range(32)), bytes(range(100, 132))
CONTEXT = wrap_context("session_1", "dk_1")


def env(*named):
    return EnvKeyProvider(",".join(f"{key_id}:{key.hex()}" for key_id, key in named))


def key_file(tmp_path, text, mode=0o600):
    path = tmp_path / "master.keys"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture(params=["env", "file"])
def provider(request, tmp_path):
    """A provider of keys `one` (current) and `two`, given and in a file."""
    if request.param == "env":
        return env(("one", ONE), ("two", TWO))
    return FileKeyProvider(key_file(tmp_path, f"one {ONE.hex()}\ntwo {TWO.hex()}\n"))


# --- the contract --------------------------------------------------------------------------


def test_provider_fulfils_the_contract(provider):
    """It is a `KeyProvider`, and the first key is current."""
    assert isinstance(provider, KeyProvider)
    assert provider.current_key_id() == "one"


def test_data_key_comes_back(provider):
    """Wrapped under the current key, another blob at each call, it unwraps to itself."""
    key = new_data_key()
    wrapped = [provider.wrap(key, context=CONTEXT) for _ in range(2)]
    assert {one.key_id for one in wrapped} == {"one"}
    assert wrapped[0].blob != wrapped[1].blob
    assert [provider.unwrap(one, context=CONTEXT) for one in wrapped] == [key, key]


def test_data_key_under_an_old_master_key_comes_back(provider):
    """What a key wrapped when it was current unwraps when it is not."""
    key = new_data_key()
    wrapped = env(("two", TWO)).wrap(key, context=CONTEXT)
    assert wrapped.key_id == "two"
    assert provider.unwrap(wrapped, context=CONTEXT) == key


def test_missing_master_key_is_named(provider):
    """The error says which id is missing and which are there; others' sessions still open (J4)."""
    lost = env(("lost", bytes(range(50, 82)))).wrap(new_data_key(), context=CONTEXT)
    kept = provider.wrap(new_data_key(), context=CONTEXT)
    with pytest.raises(KeyNotFoundError, match=r"expected master key 'lost', got only one, two"):
        provider.unwrap(lost, context=CONTEXT)
    assert provider.unwrap(kept, context=CONTEXT)


def test_forged_key_id_cannot_forge_a_log_line(provider):
    """An id with a line break, as a stored value may hold, is shown escaped and cut."""
    with pytest.raises(KeyNotFoundError) as caught:
        provider.unwrap(WrappedKey("a\nERROR" + "x" * 1000, b""), context=CONTEXT)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_other_key_under_the_same_id_is_refused(provider):
    """A key file replaced by another of the same id opens nothing."""
    wrapped = env(("one", TWO)).wrap(new_data_key(), context=CONTEXT)
    with pytest.raises(SealBrokenError, match="does not open under master key one"):
        provider.unwrap(wrapped, context=CONTEXT)


def test_wrapped_key_opens_under_no_other_id(provider):
    """The same master key under another id is refused: the id is bound."""
    wrapped = env(("two", ONE)).wrap(new_data_key(), context=CONTEXT)
    with pytest.raises(SealBrokenError):
        provider.unwrap(WrappedKey("one", wrapped.blob), context=CONTEXT)


@pytest.mark.parametrize("context", [b"", wrap_context("session_2", "dk_1"), CONTEXT + b"x"])
def test_wrapped_key_opens_in_no_other_context(provider, context):
    """One session's wrapped key, copied to another, is refused."""
    wrapped = provider.wrap(new_data_key(), context=CONTEXT)
    with pytest.raises(SealBrokenError):
        provider.unwrap(wrapped, context=context)


def test_any_changed_byte_of_a_wrapped_key_is_refused(provider):
    """Each byte counts, and so does the length."""
    wrapped = provider.wrap(new_data_key(), context=CONTEXT)
    changed = [wrapped.blob[:end] for end in range(len(wrapped.blob))] + [wrapped.blob + b"x"]
    for at in range(len(wrapped.blob)):
        flipped = bytearray(wrapped.blob)
        flipped[at] ^= 0x10
        changed.append(bytes(flipped))
    for blob in changed:
        with pytest.raises((SealBrokenError, UnsupportedFormatError)):
            provider.unwrap(WrappedKey("one", blob), context=CONTEXT)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), "text", None])
def test_only_32_bytes_are_wrapped(provider, key):
    """Anything else is refused, unseen."""
    with pytest.raises(InvalidInputError, match=r"data_key: expected 32 bytes, got <"):
        provider.wrap(key, context=CONTEXT)


def test_errors_tell_what_a_retry_mends():
    """A key that is not there is permanent; a service that does not answer is not."""
    assert issubclass(KeyNotFoundError, PermanentError)
    assert issubclass(KeyUnavailableError, TransientError)


def test_keys_are_never_shown(provider, caplog):
    """No repr, pickle, attribute, log line or error with its locals shows a master key (J15)."""
    if isinstance(provider, EnvKeyProvider):
        assert_hides(provider, ONE, TWO)
    assert_unreachable(provider, ONE, TWO)
    logging.getLogger("test").warning("keys of %r", provider)
    with pytest.raises(KeyNotFoundError) as missing:
        provider.unwrap(WrappedKey("other", b""), context=CONTEXT)
    with pytest.raises(SealBrokenError) as broken:
        provider.unwrap(WrappedKey("one", b""), context=CONTEXT)
    for caught in (missing.value, broken.value):
        below = caught.__traceback__.tb_next
        shown = traceback.TracebackException(type(caught), caught, below, capture_locals=True)
        assert_not_in("".join(shown.format()) + caplog.text, ONE, TWO)


# --- given values --------------------------------------------------------------------------


def test_bare_key_is_named_after_itself():
    """A key without an id gets the same public one everywhere, which is no part of it."""
    provider = EnvKeyProvider(ONE.hex().upper())
    assert provider.current_key_id() == key_id_of(ONE) != key_id_of(TWO)
    assert key_id_of(ONE).removeprefix("key_") not in ONE.hex()


@pytest.mark.parametrize(
    "keys",
    [
        f"one:{ONE.hex()}:x", f"one:{ONE.hex()[:-1]}", f"one:{ONE.hex()}0", f"one:{'zz' * 32}",
        f"o ne:{ONE.hex()}", f":{ONE.hex()}", f"{ONE.hex()}:one", f"{ONE.hex()}:{TWO.hex()}",
        f"{ONE.hex()} {TWO.hex()}", f"one:{ONE.hex()},,two:{TWO.hex()}", f"one={ONE.hex()}",
        f"one:{ONE.hex()},one:{TWO.hex()}", f"one:{chr(0x660) * 64}", f"{ONE.hex()}xx:{TWO.hex()}",
    ],
)  # fmt: skip
def test_malformed_values_are_refused_and_not_shown(keys):
    """No part of a value that may be a key comes back in the error, its causes included."""
    with pytest.raises(InvalidInputError) as caught:
        EnvKeyProvider(keys)
    shown = "".join(traceback.format_exception(caught.value))
    message = str(caught.value) + shown.partition("Error: ")[2]
    assert ONE.hex()[:16] not in message
    assert TWO.hex()[:16] not in message


@pytest.mark.parametrize("keys", ["", " "])
def test_no_value_is_no_key(keys):
    """An empty value is said at once."""
    with pytest.raises(KeyNotFoundError, match="expected a master key"):
        EnvKeyProvider(keys)


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, b"changeme" * 4, b"ab" * 16])
def test_placeholders_are_no_keys(key):
    """A template's key is refused before anything is sealed with it."""
    with pytest.raises(InvalidInputError, match="got <a placeholder>"):
        EnvKeyProvider(f"one:{key.hex()}")


@given(st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_any_value_is_parsed_or_refused(keys):
    """Whatever stands there, the only errors are ours."""
    with pytest.raises((InvalidInputError, KeyNotFoundError)):
        EnvKeyProvider(keys)


# --- the file ------------------------------------------------------------------------------


def test_file_reads_named_and_bare_keys_and_comments(tmp_path):
    """A line is an id and a key or a key; empty lines and comments, UTF-8 or not, are skipped."""
    path = tmp_path / "keys"
    path.write_bytes(f"# née\n\n  {ONE.hex()}\r\ntwo\t{TWO.hex()}".encode() + b"\n# \xff\n")
    path.chmod(0o400)
    provider = FileKeyProvider(path)
    assert provider.current_key_id() == key_id_of(ONE)
    wrapped = env(("two", TWO)).wrap(TWO, context=CONTEXT)
    assert provider.unwrap(wrapped, context=CONTEXT) == TWO


def test_file_provider_connects_to_nothing_until_used(tmp_path):
    """The file may come later; where it is missing, its path is said."""
    provider = FileKeyProvider(tmp_path / "later")
    with pytest.raises(KeyNotFoundError, match=r"later: no such file or folder"):
        provider.current_key_id()
    FileKeyProvider.create(tmp_path / "later")
    assert provider.current_key_id()


def test_file_provider_is_a_path_and_no_key(tmp_path):
    """It may be sent to another process: it holds the path alone."""
    provider = FileKeyProvider(key_file(tmp_path, ONE.hex()))
    wrapped = provider.wrap(TWO, context=CONTEXT)
    assert_not_in(str(pickle.dumps(provider)), ONE)
    assert pickle.loads(pickle.dumps(provider)).unwrap(wrapped, context=CONTEXT) == TWO  # noqa: S301


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o700, 0o4600])
def test_file_that_others_may_open_is_refused(tmp_path, mode):
    """Any right beyond the owner's to read and write is refused, and said."""
    path = key_file(tmp_path, ONE.hex(), mode)
    with pytest.raises(InvalidInputError, match=rf"mode 0600 or 0400, got <mode {mode:04o}>"):
        FileKeyProvider(path).current_key_id()


def test_file_of_another_user_is_refused(tmp_path, monkeypatch):
    """A file that is not ours is not believed."""
    path = key_file(tmp_path, ONE.hex())
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(InvalidInputError, match="a file of this user, got <user"):
        FileKeyProvider(path).current_key_id()


def test_link_is_refused(tmp_path):
    """A link at the path could lead anywhere."""
    link = tmp_path / "link"
    link.symlink_to(key_file(tmp_path, ONE.hex()))
    with pytest.raises(InvalidInputError, match="a file, no link"):
        FileKeyProvider(link).current_key_id()


def test_pipe_is_refused_without_waiting(tmp_path):
    """A pipe that nobody writes to does not hold the reader up."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(InvalidInputError, match="a regular file"):
        FileKeyProvider(tmp_path / "pipe").current_key_id()


def test_folder_is_refused(tmp_path):
    """A folder at the path is no key file."""
    with pytest.raises(InvalidInputError, match="a regular file"):
        FileKeyProvider(tmp_path).current_key_id()


def test_system_error_is_transient(tmp_path):
    """What the system cannot read now, it may read later; its own error stays behind ours."""
    with pytest.raises(KeyUnavailableError) as caught:
        FileKeyProvider(tmp_path / ("x" * 300)).current_key_id()
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (f"one {ONE.hex()}\ntwo {TWO.hex()} x", r"line 2: .* got <3 words>"),
        (f"one {ONE.hex()[2:]}", r"line 1: .* got <hidden>"),
        (f"one {ONE.hex()}\none {TWO.hex()}", "key ids that differ"),
        ("x" * 70_000, "at most 65536 bytes"),
    ],
)
def test_malformed_file_is_refused_with_its_line(tmp_path, text, match):
    """The error names file and line, and shows nothing of what stands there."""
    with pytest.raises(InvalidInputError, match=match) as caught:
        FileKeyProvider(key_file(tmp_path, text)).current_key_id()
    assert ONE.hex()[2:18] not in str(caught.value)


def test_empty_file_holds_no_key(tmp_path):
    """A file of comments says that a key is missing."""
    with pytest.raises(KeyNotFoundError, match="expected a master key"):
        FileKeyProvider(key_file(tmp_path, "# none\n")).current_key_id()


def test_created_file_is_private_and_new_each_time(tmp_path):
    """Whatever the umask, the file is ours alone, and nothing else is left beside it."""
    old = os.umask(0)
    try:
        made = [FileKeyProvider.create(tmp_path / name) for name in "ab"]
    finally:
        os.umask(old)
    assert {stat.S_IMODE(provider.path.stat().st_mode) for provider in made} == {0o600}
    assert len({provider.current_key_id() for provider in made}) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_create_replaces_nothing(tmp_path):
    """What stands at the path stays, a dangling link too: a key in use must never be lost."""
    path = key_file(tmp_path, ONE.hex())
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for taken in (path, tmp_path / "dangling"):
        with pytest.raises(InvalidInputError, match="a path where nothing is"):
            FileKeyProvider.create(taken)
    assert path.read_text() == ONE.hex()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["dangling", "master.keys"]


def test_create_by_many_at_once_makes_one(tmp_path):
    """One of eight makes the file, seven learn that it is there."""

    def create(_):
        try:
            return FileKeyProvider.create(tmp_path / "keys").current_key_id()
        except InvalidInputError:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [key_id for key_id in pool.map(create, range(8)) if key_id]
    assert made == [FileKeyProvider(tmp_path / "keys").current_key_id()]


def test_create_needs_the_folder(tmp_path):
    """A folder that is missing is said, not made with whatever mode."""
    with pytest.raises(KeyNotFoundError, match="no such file or folder"):
        FileKeyProvider.create(tmp_path / "missing" / "keys")


def test_added_key_is_current_and_the_old_one_still_unwraps(tmp_path):
    """A rotation loses nothing, comments included."""
    path = key_file(tmp_path, f"# ours\n{ONE.hex()}\n")
    provider = FileKeyProvider(path)
    before = provider.wrap(TWO, context=CONTEXT)
    key_id = provider.add_key()
    after = provider.wrap(TWO, context=CONTEXT)
    assert provider.current_key_id() == key_id == after.key_id != before.key_id
    assert [provider.unwrap(one, context=CONTEXT) for one in (before, after)] == [TWO, TWO]
    assert path.read_text().endswith(f"\n# ours\n{ONE.hex()}\n")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_key_is_not_added_to_a_broken_file(tmp_path):
    """A file that nothing can read stays as it is, for its owner to mend."""
    path = key_file(tmp_path, "broken")
    with pytest.raises(InvalidInputError):
        FileKeyProvider(path).add_key()
    assert path.read_text() == "broken"


def test_keys_added_at_once_are_all_kept(tmp_path):
    """No rotation overwrites another's key: something may be sealed under it already."""
    FileKeyProvider.create(tmp_path / "keys")

    def add(_):
        provider = FileKeyProvider(tmp_path / "keys")
        return provider.add_key()

    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(add, range(24)))
    lines = (tmp_path / "keys").read_text().splitlines()
    assert len(lines) == 25
    assert set(added) <= {line.split()[0] for line in lines}


def test_readers_keep_working_while_keys_rotate(tmp_path):
    """Twenty rotations with re-wrapping fail no unwrap, and the first key can then go (J3)."""
    provider = FileKeyProvider.create(tmp_path / "keys")
    stored = [provider.wrap(TWO, context=CONTEXT)]
    ended = threading.Event()

    def read():
        count = 0
        while not ended.is_set():
            assert provider.unwrap(stored[0], context=CONTEXT) == TWO
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for _ in range(20):
            provider.add_key()
            data_key = provider.unwrap(stored[0], context=CONTEXT)
            stored[0] = provider.wrap(data_key, context=CONTEXT)
        ended.set()
        assert all(reader.result() >= 0 for reader in readers)
    newest = (tmp_path / "keys").read_text().splitlines()[0]
    only = FileKeyProvider(key_file(tmp_path, newest))
    assert only.unwrap(stored[0], context=CONTEXT) == TWO


# --- what the settings ask for -------------------------------------------------------------


def test_key_ids_are_told_current_first(provider):
    """To see which keys are there, without a key."""
    assert provider.key_ids() == ["one", "two"]


def test_configured_provider_is_of_the_file_or_of_the_value(tmp_path):
    """Neither is no provider; the file need not be there yet."""
    assert configured_provider(None, None) is None
    assert configured_provider(tmp_path / "later", None).path == tmp_path / "later"
    assert configured_provider(None, f"one:{ONE.hex()}").key_ids() == ["one"]


def test_configured_provider_refuses_two_sources(tmp_path):
    """Which of them wraps must not hang on our choice."""
    with pytest.raises(SettingsError, match=r"^BATON_KEY_FILE: expected no BATON_MASTER_KEYS"):
        configured_provider(tmp_path / "keys", f"one:{ONE.hex()}")


def test_configured_provider_names_the_variable_and_shows_no_key():
    """Which entry is wrong, not what stood there."""
    with pytest.raises(
        SettingsError, match=r"^BATON_MASTER_KEYS: master key 2: .*<hidden>"
    ) as caught:
        configured_provider(None, f"one:{ONE.hex()},two:{TWO.hex()[:-1]}")
    shown = "".join(traceback.format_exception(caught.value))
    assert_not_in(shown, ONE, TWO, TWO[:31])


def test_key_settings_are_read_from_the_environment(monkeypatch, tmp_path):
    """A path from the home folder on, and a secret that does not print."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BATON_KEY_FILE", "~/keys")
    monkeypatch.setenv("BATON_MASTER_KEYS", ONE.hex())
    settings = load_settings(ClientSettings)
    assert settings.key_file == tmp_path / "keys"
    assert settings.master_keys.get_secret_value() == ONE.hex()
    assert_not_in(repr(settings), ONE)
