"""Store and broker over TLS with an authority of our own; another authority's is refused."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from runner_functions import NAMES
from stack import Stack

from baton import ChildTask, ClientSettings, RedisSwarmCoordinator
from baton.access.scripts import load_missing
from baton.dispatch import client_dispatcher
from baton.errors import BrokerUnavailableError, StoreUnavailableError
from baton.settings import load_settings
from tls_servers import Authority, TlsRedis

pytestmark = pytest.mark.acceptance

RUNNERS = json.dumps({name: f"runner_functions:{name}" for name in NAMES})


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "ours")


@pytest.fixture
def server(tmp_path, authority):
    made = TlsRedis(tmp_path, authority)
    with made.admin() as admin:
        load_missing(admin)
    yield made
    made.stop()


def settings_for(server, ca) -> ClientSettings:
    return load_settings(
        ClientSettings,
        redis_url=server.url,
        redis_ca_file=ca,
        acl_dir=server.passwords,
        redis_user="sonnet_coordinator",
        redis_timeout_seconds=2.0,
    )


def test_handoff_runs_over_tls_with_our_authority(server, authority, tmp_path):
    """Store, broker, pools and client: BATON_REDIS_CA_FILE is all they need."""
    running = Stack(server, tmp_path, {
        "BATON_ACL_DIR": str(server.passwords),
        "BATON_REDIS_CA_FILE": str(authority.ca),
        "BATON_RUNNER_FUNCTIONS": RUNNERS,
        "BATON_WARM_SHUTDOWN_SECONDS": "3",
    })  # fmt: skip
    try:
        running.start("agents", "context", "lifecycle", beat=True)
        settings = settings_for(server, authority.ca)
        url = settings.redis_url.get_secret_value()
        with RedisSwarmCoordinator(redis_url=url, settings=settings) as swarm:
            agent = swarm.register_agent("sonnet_coordinator", 200_000)
            swarm.update_context("One line of context.\n" * 1_000, agent)
            tasks = [ChildTask("family 2", "family"), ChildTask("plain", "shout")]
            outcome = swarm.hand_off(agent, tasks).wait(timeout_seconds=60)
        assert (outcome.state, outcome.census["ok"]) == ("done", 8)
        with server.admin() as admin:
            assert admin.acl_log() == []
    finally:
        running.teardown()


def test_server_of_another_authority_is_refused(server, tmp_path):
    """By the store and by the broker: what is not ours is not spoken to."""
    settings = settings_for(server, Authority(tmp_path, "theirs").ca)
    refuse_store(settings)
    url = settings.redis_url.get_secret_value()
    with (
        closing(client_dispatcher(url, settings)) as dispatcher,
        pytest.raises(BrokerUnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        dispatcher.start("handoff_0000000000000000")


def test_server_is_refused_without_the_authoritys_certificate(server):
    """The system's authorities know nothing of ours."""
    refuse_store(settings_for(server, None))


def refuse_store(settings: ClientSettings) -> None:
    url = settings.redis_url.get_secret_value()
    with (
        RedisSwarmCoordinator(redis_url=url, settings=settings) as swarm,
        pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        swarm.register_agent("sonnet_coordinator", 200_000)
