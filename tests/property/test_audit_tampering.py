"""A thousand random tamperings of a sealed and anchored trail: a thousand are found and located."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from baton.store.audit import AuditTrail
from baton.store.audit_anchors import FileAnchor
from baton.store.audit_seals import decode_seal, make_seal
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "tampered"
KEYS = SessionKeys.of(NAME)
TAMPERINGS = 1_000


@dataclass
class Stored:
    """All that Redis holds of a trail. `first` is the first entry that a tampering touched."""

    entries: list[bytes]
    seals: list[bytes]
    next_seq: int
    first: int | None = None

    def restore(self, client) -> None:
        with client.pipeline() as pipeline:
            pipeline.delete(KEYS.audit, KEYS.audit_seals, KEYS.audit_state)
            if self.entries:
                pipeline.rpush(KEYS.audit, *self.entries)
            if self.seals:
                pipeline.rpush(KEYS.audit_seals, *self.seals)
            pipeline.hset(KEYS.audit_state, "next", self.next_seq)
            for key in (KEYS.audit, KEYS.audit_seals, KEYS.audit_state):
                pipeline.expire(key, 600)
            pipeline.execute()


def sealed_entries(stored: Stored) -> int:
    return decode_seal(stored.seals[-1]).last_seq


def flip(rng: random.Random, raw: bytes) -> bytes:
    place = rng.randrange(len(raw))
    return raw[:place] + bytes([raw[place] ^ rng.randrange(1, 256)]) + raw[place + 1 :]


def rewrite(rng: random.Random, raw: bytes) -> bytes:
    """A plausible lie: another agent, operation or version."""
    entry = json.loads(raw)
    name = rng.choice(["agent", "operation", "version"])
    return json.dumps({**entry, name: f"other{rng.randrange(99)}"}).encode()


# --- one way of tampering each; `first` is set where the first changed entry can be named -------


def edit_a_byte(rng, stored):
    place = rng.randrange(sealed_entries(stored))
    stored.entries[place] = flip(rng, stored.entries[place])
    stored.first = place + 1


def edit_a_field(rng, stored):
    place = rng.randrange(sealed_entries(stored))
    stored.entries[place] = rewrite(rng, stored.entries[place])
    stored.first = place + 1


def delete_an_entry(rng, stored):
    place = rng.randrange(sealed_entries(stored))
    del stored.entries[place]
    stored.first = place + 1


def delete_an_entry_and_close_the_gap(rng, stored):
    """The numbers behind it and the counter are put right as well."""
    place = rng.randrange(sealed_entries(stored))
    kept = [json.loads(raw) for raw in stored.entries[:place] + stored.entries[place + 1 :]]
    stored.entries = [
        json.dumps({**entry, "seq": seq}).encode() if seq > place else stored.entries[seq - 1]
        for seq, entry in enumerate(kept, 1)
    ]
    stored.next_seq -= 1
    stored.first = place + 1


def duplicate_an_entry(rng, stored):
    place = rng.randrange(sealed_entries(stored) - 1)
    stored.entries.insert(place + 1, stored.entries[place])
    stored.first = place + 2


def insert_an_entry(rng, stored):
    place = rng.randrange(sealed_entries(stored))
    stored.entries.insert(place, rewrite(rng, stored.entries[place]))
    stored.first = place + 1


def swap_two_entries(rng, stored):
    one, two = sorted(rng.sample(range(sealed_entries(stored)), 2))
    stored.entries[one], stored.entries[two] = stored.entries[two], stored.entries[one]
    stored.first = one + 1


def truncate_entries(rng, stored):
    left = rng.randrange(sealed_entries(stored))
    stored.entries = stored.entries[:left]
    stored.first = left + 1


def truncate_entries_and_the_counter(rng, stored):
    truncate_entries(rng, stored)
    stored.next_seq = len(stored.entries)


def drop_the_front(rng, stored):
    stored.entries = stored.entries[rng.randrange(1, sealed_entries(stored)) :]
    stored.first = 1


def edit_a_seal(rng, stored):
    place = rng.randrange(len(stored.seals))
    stored.seals[place] = flip(rng, stored.seals[place])


def delete_a_seal(rng, stored):
    del stored.seals[rng.randrange(len(stored.seals))]


def duplicate_a_seal(rng, stored):
    place = rng.randrange(len(stored.seals))
    stored.seals.insert(place, stored.seals[place])


def swap_two_seals(rng, stored):
    one, two = rng.sample(range(len(stored.seals)), 2)
    stored.seals[one], stored.seals[two] = stored.seals[two], stored.seals[one]


def truncate_seals(rng, stored):
    stored.seals = stored.seals[: rng.randrange(len(stored.seals))]


def rewind_to_an_earlier_state(rng, stored):
    """Entries, seals and counter, all as they once were."""
    stored.seals = stored.seals[: rng.randrange(1, len(stored.seals))]
    stored.next_seq = decode_seal(stored.seals[-1]).last_seq
    stored.entries = stored.entries[: stored.next_seq]


def edit_and_recompute_the_chain(rng, stored):
    """What only the anchor outside Redis can find."""
    edit_a_field(rng, stored)
    stored.first = None
    after, seals = None, []
    for seal in map(decode_seal, stored.seals):
        raw = stored.entries[seal.first_seq - 1 : seal.last_seq]
        after = make_seal(raw, session=NAME, chain=seal.chain, after=after, at=seal.at)
        seals.append(after.encode())
    stored.seals = seals


def begin_another_chain(rng, stored):
    edit_a_field(rng, stored)
    stored.first = None
    chain = f"{rng.getrandbits(64):016x}"
    at = decode_seal(stored.seals[-1]).at
    stored.seals = [
        make_seal(stored.entries, session=NAME, chain=chain, after=None, at=at).encode()
    ]


def remove_everything(_rng, stored):
    stored.entries, stored.seals, stored.next_seq = [], [], 0


WAYS: tuple[Callable[[random.Random, Stored], None], ...] = (
    edit_a_byte,
    edit_a_field,
    delete_an_entry,
    delete_an_entry_and_close_the_gap,
    duplicate_an_entry,
    insert_an_entry,
    swap_two_entries,
    truncate_entries,
    truncate_entries_and_the_counter,
    drop_the_front,
    edit_a_seal,
    delete_a_seal,
    duplicate_a_seal,
    swap_two_seals,
    truncate_seals,
    rewind_to_an_earlier_state,
    edit_and_recompute_the_chain,
    begin_another_chain,
    remove_everything,
)


@pytest.fixture
def trail(redis_client, tmp_path):
    """A trail of 40 entries: 7 segments of 1 to 8, and an unsealed tail."""
    trail = AuditTrail(redis_client, FileAnchor(tmp_path))
    store = ContextStore(redis_client)
    for count in (4, 1, 8, 7, 3, 6, 8):
        for _ in range(count):
            number = redis_client.llen(KEYS.audit)
            store.put(NAME, f"text {number}", agent_id=f"agent{number % 3}")
        trail.seal(NAME)
    for number in range(3):
        store.put(NAME, f"tail {number}", agent_id="agent")
    yield trail
    store.close()


@pytest.mark.parametrize("seed", [20251])
def test_a_thousand_tamperings_are_found_and_located(trail, redis_client, seed):
    """Edited, deleted, inserted, reordered, truncated; entries, seals, or all at once."""
    before = Stored(
        redis_client.lrange(KEYS.audit, 0, -1),
        redis_client.lrange(KEYS.audit_seals, 0, -1),
        int(redis_client.hget(KEYS.audit_state, "next")),
    )
    found = trail.verify(NAME)
    assert (found.ok, found.segments, found.anchored_segments, found.unsealed_entries) == (
        True, 7, 7, 3,
    )  # fmt: skip
    rng = random.Random(seed)
    missed = Counter()
    for number in range(TAMPERINGS):
        way = WAYS[number % len(WAYS)]
        stored = replace(before, entries=list(before.entries), seals=list(before.seals))
        way(rng, stored)
        stored.restore(redis_client)
        found = trail.verify(NAME)
        located = [p.number for p in found.problems if p.kind == "entry"][:1]
        if found.ok or (stored.first is not None and located != [stored.first]):
            missed[way.__name__] += 1
    assert missed == Counter()
    before.restore(redis_client)
    assert trail.verify(NAME).ok
