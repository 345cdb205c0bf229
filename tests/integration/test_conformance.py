"""The conformance suite: every case on every kind of server, the command, and its teeth."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from baton.errors import ContextCorruptError
from baton.redis_client import connect
from baton.settings import ClientSettings
from baton.store.contexts import ContextStore
from baton.store.records import Context
from baton.testing import CASES, Deployment, StoreConformance, judge
from baton.testing.case import CaseGroup


class TestServer(StoreConformance):
    """Redis 6.2 and the system's, which keep nothing on disk here."""

    @pytest.fixture
    def baton_deployment(self, redis_client):
        return Deployment(redis_client, allow_volatile=True)


class TestCluster(StoreConformance):
    """Three masters, which keep an append-only file."""

    @pytest.fixture
    def baton_deployment(self, cluster):
        client = connect(cluster.url, ClientSettings())
        yield Deployment(client)
        for node in cluster.nodes:
            keys = node.client.scan_iter(count=1000)
            assert [key for key in keys if node.client.pttl(key) == -1] == []
        client.close()


def run_suite(redis_server, *options):
    return subprocess.run(
        [sys.executable, "-m", "baton.testing", "--redis-url", redis_server.url, *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={"PATH": os.environ["PATH"], "COLUMNS": "200"},
    )


# --- the command -------------------------------------------------------------------------------


def test_command_passes_a_fit_server_and_leaves_only_audits_and_what_was_there(
    redis_server, redis_client
):
    store = ContextStore(redis_client)
    store.put("mine", "stays", agent_id="a")
    redis_client.set("foreign", "stays", ex=1000)
    done = run_suite(redis_server, "--allow-volatile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].split() == [
        "GROUP", "PASSED", "FAILED", "SKIPPED", "SECONDS",
    ]  # fmt: skip
    total = next(line for line in done.stdout.splitlines() if line.startswith("all "))
    assert total.split()[:4] == ["all", str(len(CASES) - 1), "0", "1"]
    assert "audit" in done.stderr
    left = {key.decode() for key in redis_client.scan_iter()}
    ours = {key for key in left if "conformance_" in key}
    assert {key.rpartition(":")[2] for key in ours} <= {"audit", "audit_state", "audit_seals"}
    assert "foreign" in left
    assert list(store.list()) == ["mine"]
    assert store.get("mine").content == "stays"


def test_command_fails_where_a_case_does_and_says_which_and_why(redis_server, redis_client):
    """This server keeps nothing on disk, which is not what was asked for."""
    done = run_suite(redis_server, "--group", "deployment")
    assert done.returncode == 1
    assert "failed: deployment: what_was_answered_survives_a_crash_of_redis" in done.stdout
    assert "aof_enabled: expected 1, got 0" in done.stdout


def test_command_touches_nothing_stored_if_told_so(redis_server, redis_client):
    done = run_suite(redis_server, "--group", "integrity", "--no-tamper", "--verbose")
    assert done.returncode == 0
    assert "skipped: integrity: missing_chunk_is_found" in done.stdout
    assert "passed" not in done.stdout


def test_command_refuses_what_it_cannot_judge(redis_server, redis_client, tmp_path):
    wrong_group = run_suite(redis_server, "--group", "writting")
    assert (wrong_group.returncode, "writting" in wrong_group.stderr) == (2, True)
    nobody = run_suite(redis_server, "--redis-url", f"unix://{tmp_path}/nobody.sock")
    assert (nobody.returncode, "does not answer" in nobody.stderr) == (4, True)


# --- the suite itself --------------------------------------------------------------------------


def test_suite_has_at_least_90_cases_each_with_its_own_name_and_one_sentence():
    assert len(CASES) >= 90
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.sentence.endswith(".")
        assert (case.run.__doc__ or "").strip() == case.sentence


def test_importing_the_suite_imports_no_pytest():
    script = "import sys, baton, baton.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_sessions_of_a_case_that_fails_are_deleted_too(redis_client):
    group = CaseGroup("probe")

    @group
    def fails(kit):
        """Fails amid its work."""
        kit.store.put(kit.session(), "text", agent_id="a")
        raise RuntimeError("amid")

    (verdict,) = judge(group.cases, Deployment(redis_client))
    assert (verdict.outcome, verdict.reason) == ("failed", "RuntimeError: amid")
    assert list(ContextStore(redis_client).list()) == []


# --- its teeth ---------------------------------------------------------------------------------


class IgnoresBases(ContextStore):
    def put(self, *args, base_version=None, **options):
        return super().put(*args, **options)


class VerifiesNothing(ContextStore):
    def get(self, session_id, version=None, *, agent_id=None):
        try:
            return super().get(session_id, version, agent_id=agent_id)
        except ContextCorruptError:
            head = "1.0.0" if version is None else version
            return Context("as it is", session_id, head, "", "", 8, "", None)


class DropsTagged(ContextStore):
    def collect(self, session_id, *, agent_id, dry_run=False, **options):
        for tag in () if dry_run else self.tags(session_id):
            self.untag(session_id, tag, agent_id=agent_id)
        return super().collect(session_id, agent_id=agent_id, dry_run=dry_run, **options)


class AppendsLess(ContextStore):
    def append(self, session_id, text, **options):
        return super().append(session_id, text[:-1], **options)


class ForksOver(ContextStore):
    def fork(self, session_id, new_session_id, version=None, *, agent_id, **options):
        if self.exists(new_session_id):
            self.delete(new_session_id, agent_id=agent_id)
        return super().fork(session_id, new_session_id, version, agent_id=agent_id, **options)


@pytest.mark.parametrize(
    ("broken", "group", "case"),
    [
        (IgnoresBases, "merging", "edits_of_one_place_leave_the_head_and_keep_both"),
        (VerifiesNothing, "integrity", "flipped_bit_of_a_chunk_is_found"),
        (DropsTagged, "retention", "tagged_version_is_kept"),
        (AppendsLess, "writing", "append_adds_behind_the_head"),
        (ForksOver, "time travel", "fork_never_writes_into_a_session_that_is_there"),
    ],
)
def test_suite_finds_a_store_that_is_broken(redis_client, broken, group, case):
    """By the case that is about it, and the same cases pass on the store as it is."""
    cases = [each for each in CASES if each.group == group]
    found = judge(cases, Deployment(redis_client, store_class=broken))
    assert case in {each.case.name for each in found if each.outcome == "failed"}
    sound = judge(cases, Deployment(redis_client))
    assert [each for each in sound if each.outcome != "passed"] == []
    assert list(ContextStore(redis_client).list()) == []
