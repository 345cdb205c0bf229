"""Made-up vectors for tests of the archive's index."""

from __future__ import annotations

import numpy as np

from baton.archive.vector_index import VectorRow


def unit_vectors(count: int, *, seed: int = 0, dimensions: int = 384) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, dimensions))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def rows_of(shelf: str, count: int, *, seed: int = 0) -> list[VectorRow]:
    vectors = unit_vectors(count, seed=seed)
    return [VectorRow(f"{shelf}.{i}", shelf, vector) for i, vector in enumerate(vectors)]
