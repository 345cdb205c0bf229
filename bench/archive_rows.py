"""Embedding passages and finding them again, against the bare model on the same texts."""

from __future__ import annotations

import tempfile
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from baton.archive.chroma_index import ChromaIndex
from baton.archive.passages import split_passages
from baton.archive.sentence_transformer import SentenceTransformerEmbedder
from baton.archive.vector_index import VectorRow
from bench.corpus import realistic_text
from bench.measure import expect, interleave, timed
from bench.report import Row, Side
from bench.soak_ledger import percentile

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from baton.archive.embedder import Vectors
    from bench.plan import Plan

_CLUSTERS: Final = 200
_CLUSTER_WIDTH: Final = 0.6
_PUT_AT_ONCE: Final = 5_000
_SHELF_ROWS: Final = 500
# As many as a search for a few hits asks for.
_LIMIT: Final = 300
_SAME_VECTOR: Final = 0.999


class ArchiveRows:
    """The rows of the archive's embedder and vector index, in a folder that is removed again."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._embedder = SentenceTransformerEmbedder()
        self._folder = tempfile.TemporaryDirectory(prefix="baton-bench-")
        self._index = ChromaIndex(
            lambda: self._embedder.model_id, folder=Path(self._folder.name) / "chroma"
        )

    def close(self) -> None:
        """Let go of the index and remove it."""
        self._index.close()
        self._folder.cleanup()

    def embed(self) -> Row:
        """Passages into vectors; both with the same weights, numbers and machine."""
        texts = self._passages(self._plan.passages)
        expected = self._bare.encode(texts, normalize_embeddings=True)

        def ours(_: int) -> float:
            took, vectors = timed(lambda: self._embedder.embed(texts))
            _expect_same(expected, vectors)
            return took

        def bare(_: int) -> float:
            took, vectors = timed(
                lambda: self._bare.encode(texts, normalize_embeddings=True, show_progress_bar=False)
            )
            _expect_same(expected, vectors)
            return took

        took = interleave({"ours": ours, "bare": bare}, min(3, self._plan.rounds))
        best = len(texts) / min(took["ours"])
        return Row(
            key="embed",
            what=f"embed {len(texts)} passages",
            ours=Side(name="Embedder.embed", took=took["ours"]),
            other=Side(name="floor: bare SentenceTransformer.encode", took=took["bare"]),
            target=self._plan.target(1 / 0.9),
            facts=[f"{best:.0f} passages/s"],
        )

    def find(self) -> Row:
        """A question among many vectors, most of them made up: nearly all is the model's time."""
        rows = self._fill()
        questions = self._passages(self._plan.questions, words=12)
        took = interleave({"ours": self._search(questions), "bare": self._encode(questions)}, 1)
        p95_ms = [1000 * percentile(self._seconds[name], 0.95) for name in ("ours", "bare")]
        ratio = p95_ms[0] / p95_ms[1]
        return Row(
            key="archive_find",
            what=f"find among {rows:,} passages, question embedded",
            ours=Side(name="embed_question, VectorIndex.find", took=took["ours"]),
            other=Side(name="floor: bare SentenceTransformer.encode", took=took["bare"]),
            target=self._plan.target(3.0),
            facts=[
                self._plan.judged(
                    f"p95 {p95_ms[0]:.0f} ms against {p95_ms[1]:.0f} ms: {ratio:.1f} times",
                    target="3 times",
                    met=ratio <= 3.0,
                ),
                f"each time is the mean of {len(questions)} questions",
            ],
        )

    @cached_property
    def _bare(self) -> SentenceTransformer:
        self._embedder.embed_question("load the model")
        return self._embedder.bare_model

    @cached_property
    def _seconds(self) -> dict[str, list[float]]:
        return {"ours": [], "bare": []}

    def _passages(self, count: int, *, words: int | None = None) -> list[str]:
        text = realistic_text(1_500 * count)
        texts = [passage.text_in(text) for passage in split_passages(text, self._embedder)]
        return [" ".join(each.split()[:words]) if words else each for each in texts[:count]]

    def _fill(self) -> int:
        """Vectors in clusters, as those of real texts are; how many are in."""
        count = self._plan.index_rows
        rng = np.random.default_rng(1)
        centers = rng.standard_normal((_CLUSTERS, self._embedder.dimensions))
        for first in range(0, count, _PUT_AT_ONCE):
            size = min(_PUT_AT_ONCE, count - first)
            made = centers[rng.integers(_CLUSTERS, size=size)]
            made = made + _CLUSTER_WIDTH * rng.standard_normal(made.shape)
            made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
            self._index.put(
                [
                    VectorRow(f"{number}", f"shelf{number // _SHELF_ROWS}", vector)
                    for number, vector in enumerate(made, start=first)
                ]
            )
        expect("VectorIndex.count", count, self._index.count())
        return count

    def _search(self, questions: list[str]):
        def run(_: int) -> float:
            self._seconds["ours"] = []
            for question in questions:
                took, found = timed(lambda question=question: self._found(question))
                expect("VectorIndex.find", _LIMIT, len(found))
                self._seconds["ours"].append(took)
            return sum(self._seconds["ours"]) / len(questions)

        return run

    def _found(self, question: str):
        return self._index.find(self._embedder.embed_question(question), _LIMIT)

    def _encode(self, questions: list[str]):
        def run(_: int) -> float:
            self._seconds["bare"] = []
            for question in questions:
                took, _vector = timed(
                    lambda question=question: self._bare.encode(
                        [question], normalize_embeddings=True, show_progress_bar=False
                    )
                )
                self._seconds["bare"].append(took)
            return sum(self._seconds["bare"]) / len(questions)

        return run


def archive_rows(plan: Plan, wanted: str) -> list[Row]:
    """One row by its method's name, with an archive of its own."""
    with closing(ArchiveRows(plan)) as rows:
        return [getattr(rows, wanted)()]


def _expect_same(expected: Vectors, got: Vectors) -> None:
    expect("vectors", True, bool(((expected * got).sum(axis=1) > _SAME_VECTOR).all()))
