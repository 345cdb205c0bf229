"""Writers that are killed, race or are read beside: no version is torn, lost, or left behind."""

from __future__ import annotations

import random
import signal
from collections import Counter

import pytest
from hypothesis import settings

from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from baton.versions import parse_version
from store_processes import (
    WRITERS,
    is_whole,
    read_and_check,
    received,
    rewrite_forever,
    slots_text,
    stamped_text,
    start,
    write_lines,
    write_until_killed,
)
from stored_session import check_stored
from waiting import until

KILLED_WRITES = 500


def is_long():
    return settings.get_current_profile_name() == "long"


def test_writers_killed_at_any_moment_leave_whole_versions_and_nothing_else(
    redis_client, redis_server
):
    """500 writes by processes that die: versions are whole, the head is the last told or next."""
    generator = random.Random(17)
    told, deaths = 0, 0
    while told < KILLED_WRITES * (20 if is_long() else 1):
        before = head_of(redis_client)
        heads = killed_writer(redis_server.socket, generator)
        told += len(heads)
        deaths += 1
        check_head(redis_client, before, [head for head in heads if head is not None])
    assert deaths > 10
    until(lambda: not redis_client.keys("*:staging:*"), what="staging keys expiring")
    check_stored(redis_client, "s")


def killed_writer(path, generator):
    """What a writer was told before it was killed, by the clock or at one of its round trips."""
    by_clock = generator.random() < 0.5
    trips = 1 << 30 if by_clock else generator.randint(1, 60)
    process, pipe = start(write_until_killed, path, "s", generator.random(), trips)
    if by_clock:
        pipe.poll(20)
        process.join(generator.uniform(0, 0.08))
        process.kill()
    heads = received(pipe)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return heads


def head_of(client):
    head = client.hget(SessionKeys.of("s").base, "head")
    return None if head is None else head.decode()


def check_head(client, before, heads):
    """It is what the writer was told last, or the one version that it had under way."""
    head = head_of(client)
    last = heads[-1] if heads else before
    if head == last:
        return
    store = ContextStore(client)
    newer = [
        record.version
        for record in store.history("s")
        if last is None or parse_version(record.version) > parse_version(last)
    ]
    assert newer == [head]
    assert store.get("s").version == head


@pytest.mark.parametrize("writes", [1_000 if is_long() else 100])
def test_8_writers_account_for_every_write_and_lose_no_line(redis_client, redis_server, writes):
    """accepted + merged + conflicts are all writes, and what was accepted is there once."""
    store = ContextStore(redis_client)
    store.put("s", slots_text(), agent_id="a")
    writers = [
        start(write_lines, redis_server.url, "s", number, writes) for number in range(WRITERS)
    ]
    outcomes = [outcome for _, pipe in writers for outcome in received(pipe)]
    for process, _ in writers:
        process.join()
        assert process.exitcode == 0
    assert len(outcomes) == WRITERS * writes
    assert {action for _, action, _ in outcomes} <= {"accepted", "merged", "merge_required"}
    lines = Counter(store.get("s").content.splitlines())
    kept = [line for line, action, _ in outcomes if action != "merge_required"]
    assert all(lines[line] == 1 for line in kept)
    assert sum(lines[f"writer {line[7:]}"] for line, *_ in outcomes) == len(kept)
    conflicts = {conflict_id for _, action, conflict_id in outcomes if conflict_id}
    assert conflicts == {waiting.conflict_id for waiting in store.conflicts("s")}
    assert len(kept) + len(conflicts) == len(outcomes)
    check_stored(redis_client, "s")


def test_readers_beside_writers_and_collectors_see_whole_versions_only(redis_client, redis_server):
    """A read is of one version, the old or the new, never of both, however the writers hurry."""
    store = ContextStore(redis_client)
    store.put("s", stamped_text(random.Random(1)), agent_id="a")
    reads = 25_000 if is_long() else 1_000
    writers = [start(rewrite_forever, redis_server.url, "s", number) for number in range(2)]
    readers = [start(read_and_check, redis_server.url, "s", number, reads) for number in range(4)]
    counts = [received(pipe) for _, pipe in readers]
    for process, _ in writers:
        assert process.is_alive()
        process.kill()
        process.join()
    assert [found for ((found, _),) in counts] == [reads] * 4
    assert is_whole(store.get("s").content)
