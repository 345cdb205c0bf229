"""Cases: many at once (E2, E3, E6)."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from baton.errors import ContextNotFoundError, SessionExistsError
from baton.testing.case import CaseGroup
from baton.testing.clients import OvertakenClient
from baton.testing.expectations import expect, expect_equal
from baton.testing.texts import LINES, edited, long_text

if TYPE_CHECKING:
    from baton.store.contexts import ContextStore
    from baton.testing.kit import Kit

case = CaseGroup("concurrency")

_WRITERS: Final = 8
_STEPS: Final = 8


@case
def eight_writers_lose_no_line(kit: Kit) -> None:
    """Each write has one outcome, and every line that was let in is there (E2)."""
    session_id, stores = kit.session(), _stores(kit)
    slots = "".join(f"== {number}\nstart\n\n" for number in range(_WRITERS))
    kit.store.put(session_id, slots, agent_id="a")

    def write(number: int) -> list[tuple[str, str]]:
        outcomes: list[tuple[str, str]] = []
        for step in range(_STEPS):
            line, head = f"w{number} step {step}\n", stores[number].get(session_id)
            marker = f"== {number}\n"
            commit = stores[number].put(
                session_id,
                head.content.replace(marker, f"{marker}{line}"),
                agent_id=f"w{number}",
                base_version=head.version,
            )
            outcomes.append((line, commit.action))
        return outcomes

    with ThreadPoolExecutor(_WRITERS) as pool:
        outcomes = [each for found in pool.map(write, range(_WRITERS)) for each in found]
    expect_equal(len(outcomes), _WRITERS * _STEPS, "the number of outcomes")
    lines = kit.store.get(session_id).content.splitlines(keepends=True)
    let_in = [line for line, action in outcomes if action in ("accepted", "merged")]
    expect_equal([line for line in let_in if lines.count(line) != 1], [], "lines lost or doubled")
    waiting = sum(1 for _, action in outcomes if action == "merge_required")
    expect_equal(len(let_in) + waiting, len(outcomes), "accepted, merged and waiting")
    expect_equal(len(kit.store.conflicts(session_id)), waiting, "the number of pending writes")


@case
def eight_appenders_lose_no_line(kit: Kit) -> None:
    """Appends never conflict, and each is there once."""
    session_id, stores = kit.session(), _stores(kit)

    def append(number: int) -> None:
        for step in range(_STEPS):
            stores[number].append(session_id, f"w{number} step {step}\n", agent_id=f"w{number}")

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(append, range(_WRITERS)))
    lines = sorted(kit.store.get(session_id).content.splitlines())
    wanted = sorted(f"w{n} step {step}" for n in range(_WRITERS) for step in range(_STEPS))
    expect_equal(lines, wanted, "the lines")


@case
def equal_lines_appended_at_once_are_both_there(kit: Kit) -> None:
    """Who is overtaken by somebody with the same line adds it all the same."""
    session_id = kit.session()
    kit.store.put(session_id, "begun\n", agent_id="a")

    def append(store: ContextStore, agent_id: str) -> None:
        store.append(session_id, "done\n", agent_id=agent_id)

    overtaken = OvertakenClient(kit.deployment.client, lambda: append(kit.store, "fast"))
    append(kit.open_store(overtaken), "slow")
    expect_equal(kit.store.get(session_id).content, "begun\ndone\ndone\n", "the content")


@case
def overtaken_write_is_merged(kit: Kit) -> None:
    """A head that moves between a writer's look and its commit is merged with (E2)."""
    session_id, other = kit.session(), kit.store
    other.put(session_id, LINES, agent_id="a")
    mine, theirs = edited(LINES, 3, "mine"), edited(LINES, 30, "theirs")
    overtaken = OvertakenClient(
        kit.deployment.client,
        lambda: other.put(session_id, theirs, agent_id="b", base_version="1.0.0"),
    )
    commit = kit.open_store(overtaken).put(session_id, mine, agent_id="c", base_version="1.0.0")
    expect_equal((commit.action, commit.version), ("merged", "1.0.2"), "the commit")
    expect_equal(other.get(session_id).content, edited(mine, 30, "theirs"), "the content")


@case
def one_of_two_racing_writers_is_rejected(kit: Kit) -> None:
    """From one base, with `reject`, one wins and the other is told (E2)."""
    session_id, stores = kit.session(), _stores(kit, 2)
    for number in range(8):
        head = kit.store.put(session_id, f"base {number}", agent_id="a").version
        barrier = threading.Barrier(2, timeout=20)

        def write(
            writer: int,
            number: int = number,
            head: str = head,
            barrier: threading.Barrier = barrier,
        ) -> str:
            barrier.wait()
            return (
                stores[writer]
                .put(
                    session_id,
                    f"{number} by {writer}",
                    agent_id=f"w{writer}",
                    base_version=head,
                    policy="reject",
                )
                .action
            )

        with ThreadPoolExecutor(2) as pool:
            actions = Counter(pool.map(write, range(2)))
        expect_equal(actions, {"accepted": 1, "rejected": 1}, "the outcomes")


@case
def one_of_many_forks_of_one_name_begins_it(kit: Kit) -> None:
    """Eight that fork to one name make one session."""
    session_id, work, stores = kit.session(), kit.session("work"), _stores(kit)
    kit.store.put(session_id, "text", agent_id="a")
    barrier = threading.Barrier(_WRITERS, timeout=20)

    def fork(number: int) -> bool:
        barrier.wait()
        try:
            stores[number].fork(session_id, work, agent_id=f"w{number}")
        except SessionExistsError:
            return False
        return True

    with ThreadPoolExecutor(_WRITERS) as pool:
        expect_equal(sum(pool.map(fork, range(_WRITERS))), 1, "the number that forked")
    expect_equal(len(kit.store.history(work)), 1, "the number of versions")


@case
def readers_during_writes_see_whole_versions(kit: Kit) -> None:
    """A reader gets the old text or the new one, never some of both (E3)."""
    session_id, stores = kit.session(), _stores(kit, 3)
    texts = [f"{long_text(100_000, seed)}#{seed}" for seed in range(1, 4)]
    kit.store.put(session_id, texts[0], agent_id="a")
    stop = threading.Event()

    def read(store: ContextStore) -> int:
        count = 0
        while not stop.is_set() or not count:
            expect(store.get(session_id).content in texts, "a text that somebody wrote")
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, store) for store in stores]
        try:
            for number in range(24):
                kit.store.put(session_id, texts[number % 3], agent_id="a")
        finally:
            stop.set()
        expect(all(reader.result() > 0 for reader in readers), "every reader to have read")


@case
def deleting_writing_and_reading_at_once_tear_nothing(kit: Kit) -> None:
    """A reader finds a whole text or no session, whatever others do (E6)."""
    session_id, stores, text = kit.session(), _stores(kit, 3), long_text(100_000)
    rounds = 12

    def write() -> None:
        for _ in range(rounds):
            stores[0].put(session_id, text, agent_id="w")

    def delete() -> None:
        for _ in range(rounds):
            try:
                stores[1].delete(session_id, agent_id="d")
            except ContextNotFoundError:
                continue

    def read() -> None:
        for _ in range(rounds * 2):
            try:
                found = stores[2].get(session_id).content
            except ContextNotFoundError:
                continue
            expect(found == text, "the whole text")

    with ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(work) for work in (write, delete, read)]:
            each.result()
    kit.store.put(session_id, "last", agent_id="a")
    expect_equal(kit.open_store().get(session_id).content, "last", "the content at last")


@case
def collecting_while_writing_loses_no_kept_version(kit: Kit) -> None:
    """A collection that races with writers drops only what nobody needs."""
    session_id, stores = kit.session(), _stores(kit, 2)
    collector = kit.open_store(keep_versions=2)
    kit.store.put(session_id, "begun\n", agent_id="a")
    kit.store.tag(session_id, "first", agent_id="a")

    def append(number: int) -> None:
        for step in range(_STEPS):
            stores[number].append(session_id, f"w{number} step {step}\n", agent_id=f"w{number}")

    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(append, number) for number in range(2)]
        while not all(each.done() for each in writing):
            collector.collect(session_id, agent_id="c")
        for each in writing:
            each.result()
    reader = kit.open_store()
    expect_equal(reader.get(session_id, "1.0.0").content, "begun\n", "the tagged version")
    lines = reader.get(session_id).content.splitlines()
    expect_equal(len(lines), 1 + 2 * _STEPS, "the number of lines")
    for record in reader.history(session_id):
        reader.get(session_id, record.version)


def _stores(kit: Kit, count: int = _WRITERS) -> list[ContextStore]:
    """Stores that know nothing of each other, as processes would."""
    return [kit.open_store() for _ in range(count)]
