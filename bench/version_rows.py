"""Old versions: what a read of one costs beside a read of the head."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from baton.ids import new_session_id
from baton.store.contexts import ContextStore
from bench import stopping
from bench.corpus import EDIT_BYTES, edited
from bench.measure import interleave, timed
from bench.report import Row, Side
from bench.sessions import AGENT, time_cold_get

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from bench.plan import Plan


def old_version(client: redis.Redis, plan: Plan, text: str) -> Row:
    """A cold read of a random old version, another one each round, against one of the head.

    Both in ASCII, which takes a quarter of the set-up, and leaves less that costs both the same.
    """
    first = text.encode("ascii", "replace").decode()
    store = ContextStore(client, keep_versions=plan.versions)
    session_id = new_session_id()
    rng = random.Random(1)
    wanted = set(rng.sample(range(plan.versions - 1), min(plan.rounds + 1, plan.versions - 1)))
    old: list[tuple[str, str]] = []
    head_text = ""

    def write_all() -> None:
        nonlocal head_text
        for number, head_text in enumerate(versions_of(first, plan.versions, EDIT_BYTES)):
            commit = store.put(session_id, head_text, agent_id=AGENT)
            if number in wanted:
                old.append((commit.version, head_text))

    set_up_seconds, _ = timed(write_all)
    rng.shuffle(old)

    def ours(number: int) -> float:
        version, right = old[number % len(old)]
        return time_cold_get(client, session_id, right, version=version)

    took = interleave(
        {"ours": ours, "head": lambda _: time_cold_get(client, session_id, head_text)},
        plan.rounds,
    )
    store.delete(session_id, agent_id=AGENT)
    store.close()
    return Row(
        key="old_version",
        what=f"get a random old version of {plan.size} among {plan.versions:,} kept, cold",
        ours=Side(name="get, old version", took=took["ours"]),
        other=Side(name="get, head", took=took["head"]),
        target=plan.target(1.3),
        facts=[f"written in {set_up_seconds:.0f} s, a 1 KB edit at a random place each"],
        figures={"set_up_seconds": set_up_seconds},
    )


def versions_of(text: str, count: int, changed_characters: int) -> Iterator[str]:
    """`text`, then each time what came last with a run of it written anew at a random place."""
    rng = random.Random(2)
    for number in range(count):
        stopping.check()
        yield text
        at = rng.randrange(len(text) - changed_characters)
        text = edited(text, number, at=at, size=changed_characters)
