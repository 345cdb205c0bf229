"""Sessions archived again, restored, searched for planted facts; a sweep over many of them."""

from __future__ import annotations

import random
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from baton import ContextStore
from baton.archive.opening import open_archive
from baton.archive.passages import split_passages
from baton.archive.sentence_transformer import SentenceTransformerEmbedder
from baton.lifecycle.aging import Aging
from baton.lifecycle.due_index import DueIndex
from baton.lifecycle.facts import SessionFactsReader
from baton.lifecycle.states import Durations
from baton.settings import ClientSettings
from baton.store.drain import AccessDrain
from baton.store.keys import SessionKeys
from bench.corpus import realistic_text
from bench.measure import expect, timed
from bench.planted_facts import FACTS
from bench.report import Row, Side
from bench.soak_ledger import percentile

if TYPE_CHECKING:
    import redis

    from baton.archive.service import ArchiveService
    from bench.plan import Plan

SESSION: Final = "bench_archived"
_FIRST: Final = 5
_FOUND_SHARE: Final = 0.95
_SLOWER: Final = 3.0
_HOUR_MS: Final = 3_600_000
# Characters that a model of 256 word pieces reads of a text.
_WINDOW_CHARACTERS: Final = 1_000


def archiving(client: redis.Redis, plan: Plan) -> list[Row]:
    """The rows of one session's way to the archive and back, by the real model."""
    text = _planted(realistic_text(plan.archived_bytes, seed=5))
    embedder = SentenceTransformerEmbedder()
    embedder.embed_question("load the model")
    with (
        tempfile.TemporaryDirectory(prefix="baton-bench-") as folder,
        closing(ContextStore(client)) as store,
    ):
        settings = ClientSettings(state_dir=Path(folder))
        with closing(open_archive(settings, client, store, embedder=embedder)) as archive:
            store.put(SESSION, text, agent_id="bench")
            first_seconds, first = timed(lambda: archive.archive(SESSION))
            expect("archive", "archived", first.outcome)
            bare_seconds = _encoded(embedder, text, first.embedded)
            found = _found(archive, embedder, plan, text)
            restored, read = _restored(archive, store, text)
            again_seconds, again = timed(lambda: archive.archive(SESSION))
            expect("archive again", 0, again.embedded)
            edit_seconds, embedded = _edited(archive, store, text)
            archive.purge(SESSION)
    size = _size(plan)
    return [
        Row(
            key="archive",
            what=f"archive {size}, {first.passages:,} passages",
            ours=Side(name="ArchiveService.archive", took=[first_seconds]),
            other=Side(name="floor: bare SentenceTransformer.encode", took=[bare_seconds]),
            target=plan.target(1 / 0.9),
        ),
        _share("archive_again", f"archive {size} again, unchanged", again_seconds, first_seconds,
               plan.target(0.02), [f"{first.passages:,} passages"]),
        _share("archive_edit", f"archive {size} again, 1 % changed", edit_seconds, first_seconds,
               plan.target(0.05), [f"{embedded:,} passages embedded"]),
        Row(
            key="archive_restore",
            what=f"restore {size}",
            ours=Side(name="ArchiveService.restore", took=[restored]),
            other=Side(name="cold get", took=[read]),
            target=plan.target(5.0),
        ),
        found,
    ]  # fmt: skip


def sweep(client: redis.Redis, plan: Plan) -> list[Row]:
    """What a sweep of so many sessions costs in CPU, the server's included, if none is due."""
    count = plan.swept_sessions
    with closing(ContextStore(client)) as store:
        facts, index = SessionFactsReader(client, Durations()), DueIndex(client)
        aging = Aging(client, store, AccessDrain(client, store), facts, index)
        _make_sessions(client, facts.now_ms(), count)
        known_seconds = _cpu_seconds(client, aging.reconcile)
        looked_seconds = _cpu_seconds(client, aging.age)
        expect("sessions known", count, index.sizes()[0])
        took = [_cpu_seconds(client, aging.age) for _ in range(plan.rounds)]
    return [
        Row(
            key="sweep",
            what=f"sweep {count:,} sessions, nothing due: CPU",
            ours=Side(name="Aging.age", took=took),
            other=None,
            limit=1.0 if plan.full else None,
            facts=[
                f"finding them by SCAN, once an hour: {known_seconds:.2f} s of CPU",
                f"looking at each for the first time: {looked_seconds:.2f} s",
            ],
        )
    ]


def _size(plan: Plan) -> str:
    return f"{plan.archived_bytes / 1_000_000:g} MB"


def _planted(text: str) -> str:
    """The text with each fact on a line of its own, anywhere."""
    rng = random.Random(7)  # places, not secrets
    lines = text.split("\n")
    for place, fact in zip(sorted(rng.sample(range(len(lines)), len(FACTS))), FACTS, strict=True):
        lines[place] = f"{lines[place]}\n{fact.text}"
    return "\n".join(lines)


def _encoded(embedder: SentenceTransformerEmbedder, text: str, expected: int) -> float:
    """Seconds that the bare model takes for the passages, each once."""
    cut = (passage.text_in(text).strip() for passage in split_passages(text, embedder))
    texts = sorted({each for each in cut if each})
    # What is redacted makes a few of them equal.
    expect("passages", True, abs(len(texts) - expected) <= max(3, len(texts) // 50))
    bare = embedder.bare_model
    return timed(lambda: bare.encode(texts, normalize_embeddings=True, show_progress_bar=False))[0]


def _found(
    archive: ArchiveService, embedder: SentenceTransformerEmbedder, plan: Plan, text: str
) -> Row:
    near, far, took, encoded = 0, 0, [], []
    for fact in FACTS:
        seconds, hits = timed(lambda fact=fact: archive.search(fact.question, limit=_FIRST))
        took.append(seconds)
        encoded.append(timed(lambda fact=fact: embedder.embed_question(fact.question))[0])
        near += any(fact.text in hit.snippet for hit in hits)
        far += any(
            fact.text in hit.snippet for hit in archive.search(fact.far_question, limit=_FIRST)
        )
    ratio = percentile(took, 0.95) / percentile(encoded, 0.95)
    seen = sum(fact.text in text[:_WINDOW_CHARACTERS] for fact in FACTS)
    return Row(
        key="archive_planted",
        what=f"find facts planted in {_size(plan)}, snippets unsealed",
        ours=Side(name="ArchiveService.search", took=took),
        other=Side(name="floor: the question embedded", took=encoded),
        facts=[
            plan.judged(
                f"p95 {ratio:.1f} times that of embedding", target="3 times", met=ratio <= _SLOWER
            ),
            plan.judged(
                f"{near} of {len(FACTS)} among the first {_FIRST}",
                target=f"{_FOUND_SHARE:.0%}",
                met=near >= _FOUND_SHARE * len(FACTS),
            ),
            f"asked with hardly a word of theirs: {far}",
            f"one embedding of the whole text sees {seen} of them",
        ],
    )


def _restored(archive: ArchiveService, store: ContextStore, text: str) -> tuple[float, float]:
    """Seconds of a restore, and of a read with nothing cached."""
    restore_seconds, _ = timed(lambda: archive.restore(SESSION))
    get_seconds, found = timed(lambda: store.get(SESSION))
    expect("restore", text, found.content)
    store.flush_notes()
    return restore_seconds, get_seconds


def _edited(archive: ArchiveService, store: ContextStore, text: str) -> tuple[float, int]:
    """Seconds to archive after one stretch of 1 % was rewritten, and the passages embedded."""
    archive.restore(SESSION)
    size = len(text) // 100
    middle = text.index("\n", len(text) // 2)
    new = realistic_text(size, seed=6)
    store.put(SESSION, text[:middle] + new + text[middle + size :], agent_id="bench")
    seconds, done = timed(lambda: archive.archive(SESSION))
    expect("archive", "archived", done.outcome)
    return seconds, done.embedded


def _share(
    key: str, what: str, ours: float, first: float, target: float | None, facts: list[str]
) -> Row:
    return Row(
        key=key,
        what=what,
        ours=Side(name="ArchiveService.archive", took=[ours]),
        other=Side(name="the first time", took=[first]),
        target=target,
        facts=facts,
    )


def _make_sessions(client: redis.Redis, now_ms: int, count: int) -> None:
    """Sessions as the sweep sees them: a container, a version, a last access an hour ago."""
    for first in range(0, count, 1_000):
        pipeline = client.pipeline(transaction=False)
        for number in range(first, min(count, first + 1_000)):
            keys = SessionKeys.of(f"swept_{number}")
            names = (keys.base, f"{keys.base}:version", keys.metadata)
            pipeline.hset(names[0], mapping={"state": "live", "head": "1.0.0"})
            pipeline.set(names[1], "1.0.0")
            pipeline.hset(names[2], "last_accessed_at", str(now_ms - _HOUR_MS))
            for name in names:
                pipeline.pexpire(name, 24 * _HOUR_MS)
        pipeline.execute()


def _cpu_seconds(client: redis.Redis, work) -> float:
    """CPU that `work` takes here and in the server."""
    before, mine = _server_seconds(client), time.process_time()
    work()
    return time.process_time() - mine + _server_seconds(client) - before


def _server_seconds(client: redis.Redis) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])
