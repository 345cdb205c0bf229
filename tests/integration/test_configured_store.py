"""What the settings say of contexts reaches the store that is made from them."""

from __future__ import annotations

import json

import pytest

from baton.errors import SettingsError
from baton.key_providers.file import FileKeyProvider
from baton.settings import ClientSettings, load_settings
from baton.store.configured import open_context_store


@pytest.fixture
def opened(tmp_path, redis_client, monkeypatch):
    """Opens stores by settings, all in one state folder, and closes them."""
    monkeypatch.delenv("BATON_KEY_FILE", raising=False)
    stores = []

    def open_(**given):
        settings = load_settings(ClientSettings, state_dir=tmp_path, **given)
        stores.append(open_context_store(redis_client, settings, live_agents=lambda _agents: ()))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def test_keys_and_retention_reach_the_store(opened, tmp_path):
    """The configured key opens a sealed session, and as many versions stay as is set."""
    path = FileKeyProvider.create(tmp_path / "baton.keys").path
    store = opened(key_file=path, context_keep_versions=2)
    for number in range(4):
        store.put("s", f"text {number}", agent_id="a", sealed=True)
    assert store.collect("s", agent_id="a").kept_versions == 2
    assert opened(key_file=path).get("s").content == "text 3"


def test_who_opens_a_store_must_say_who_lives(tmp_path, redis_client):
    """One that was not told would drop what agents of the registry still need."""
    settings = load_settings(ClientSettings, state_dir=tmp_path)
    with pytest.raises(TypeError, match="live_agents"):
        open_context_store(redis_client, settings)


def test_pending_conflicts_live_as_long_as_is_set(opened):
    """A write that needs merging expires that many seconds after it."""
    store = opened(context_conflict_seconds=90)
    store.put("s", "one", agent_id="a")
    store.put("s", "two", agent_id="a", base_version="1.0.0")
    store.put("s", "three", agent_id="a", base_version="1.0.0")
    (pending,) = store.conflicts("s")
    assert (pending.expires_at - pending.created_at).total_seconds() == 90


def test_the_audits_heads_are_anchored_in_the_state_folder(opened, tmp_path):
    """Sealing a trail writes there, unless the anchor is off."""
    store = opened(audit_anchor="off")
    store.put("s", "one", agent_id="a")
    store.seal_audit("s")
    assert not (tmp_path / "audit").exists()
    store = opened()
    store.put("s", "two", agent_id="a")
    store.seal_audit("s")
    (head,) = (tmp_path / "audit" / "heads.jsonl").read_text().splitlines()
    assert json.loads(head)["session"] == "s"


def test_two_sources_of_keys_are_refused(opened, tmp_path):
    """Which is meant would depend on us; both variables are named."""
    with pytest.raises(SettingsError, match=r"BATON_KEY_FILE.*BATON_MASTER_KEYS"):
        opened(key_file=tmp_path / "keys", master_keys="11" * 32)
