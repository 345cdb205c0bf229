"""Chroma's collection of passages' vectors: every call of the vendor is here.

Runs in the process that `chroma_index` starts for it. Chroma is never given a text: with
`documents=` it would keep it, in clear and for ever.
"""

from __future__ import annotations

import contextlib
import shutil
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import chromadb
import numpy as np
from chromadb.config import Settings
from chromadb.errors import NotFoundError, UniqueConstraintError

from baton.archive.folder_lock import LOCK_NAME
from baton.errors import IndexCorruptError, IndexModelError, IndexUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_Answer = TypeVar("_Answer")

COLLECTION: Final = "archived_contexts"
FORMAT: Final = 1
PROBE: Final = "probe"
# How many rows a search looks at, at least. A passage unlike all others, which is what people look
# for, has few links in the graph: of 46 that were among the five nearest of 33,456 rows, Chroma's
# own 100 found 28 (at 300 rows asked for), 800 found 35, 4,000 found 40 (measured, 4, 7, 14 ms).
_EF_SEARCH: Final = 3_000
_ASKED: Final = 100
_SAMPLES: Final = 16
# The search is approximate: one row in a thousand may miss itself, a lost index misses most.
_MISSES_ALLOWED: Final = 4
_SAME: Final = 1e-2
_DAMAGE: Final = (
    "file is not a database", "malformed", "no such table", "hnsw", "error finding id",
    "disk image", "invalid uuid",
)  # fmt: skip


def empty_folder(folder: Path) -> None:
    """Remove whatever Chroma keeps in its folder; our lock stays."""
    for path in folder.iterdir():
        if path.name == LOCK_NAME:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


class ChromaCollection:
    """The collection, made at the first `put`; what is asked before finds nothing.

    Every method raises IndexUnavailableError, IndexCorruptError or IndexModelError, as the
    contract `VectorIndex` says.

    Args:
        place: the folder, or a server's URL; errors name it.
        folder: the folder, or None for a server.
        model_id: whose vectors these are.
    """

    def __init__(self, place: str, folder: Path | None, model_id: str) -> None:
        self._place = place
        self._model_id = model_id
        self._known: Any = None
        with self._vendor_errors("open"):
            self._client = _new_client(place, folder)

    def put(self, ids: list[str], shelves: list[str], vectors: NDArray[np.float32]) -> None:
        """Upsert rows, at most `batch_rows` of them."""
        with self._vendor_errors("put"):
            self._again_if_gone(lambda: self._put(ids, shelves, vectors))

    def find(
        self, vector: NDArray[np.float32], limit: int, shelves: list[str] | None
    ) -> list[tuple[str, str, float]]:
        """Ids, shelves and distances of the nearest rows."""
        where = None if shelves is None else {"shelf": {"$in": shelves}}
        with self._vendor_errors("find"):
            return self._again_if_gone(lambda: self._query(vector, limit, where))

    def vectors(self, ids: list[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Those of these rows that are there, and their vectors."""
        with self._vendor_errors("get"):
            return self._again_if_gone(lambda: self._vectors(ids))

    def ids(self, shelf: str) -> list[str]:
        """The ids of a shelf's rows."""
        with self._vendor_errors("list"):
            return self._again_if_gone(lambda: self._ids(shelf))

    def delete(self, ids: list[str]) -> None:
        """Delete rows, at most `batch_rows` of them."""
        with self._vendor_errors("delete"):
            self._again_if_gone(lambda: self._delete(ids))

    def count(self) -> int:
        """How many rows there are, the probe left out."""
        with self._vendor_errors("count"):
            return self._again_if_gone(self._count)

    def drop(self) -> None:
        """Remove the collection, of whatever model."""
        with self._vendor_errors("clear"), contextlib.suppress(NotFoundError):
            self._client.delete_collection(COLLECTION)
        self._known = None

    def faults(self) -> str:
        """What is wrong with the collection; empty if its rows are found."""
        with self._vendor_errors("check"):
            return self._again_if_gone(self._faults)

    @cached_property
    def batch_rows(self) -> int:
        """The most rows that one call may put or delete."""
        with self._vendor_errors("open"):
            return int(self._client.get_max_batch_size())

    def _find(self) -> Any:
        """The collection; None while there is none."""
        if self._known is None:
            try:
                found = self._client.get_collection(COLLECTION, embedding_function=None)
            except NotFoundError:
                return None
            self._check_model(found.metadata or {})
            self._known = found
        return self._known

    def _get(self, dimensions: int) -> Any:
        """The collection, made with its probe if need be."""
        found = self._find() or self._create(dimensions)
        if self._dimensions != dimensions:
            raise IndexModelError(
                f"The vector index at {self._place} holds vectors of {self._dimensions} "
                f"dimensions, these have {dimensions}; rebuild it: `baton archive reindex`."
            )
        return found

    def _create(self, dimensions: int) -> Any:
        metadata = {"format": FORMAT, "model_id": self._model_id, "dimensions": dimensions}
        # Of two clients of a server that make it at once, one finds it made.
        with contextlib.suppress(UniqueConstraintError):
            self._client.create_collection(
                COLLECTION,
                metadata=metadata,
                configuration={"hnsw": {"space": "cosine", "ef_search": _EF_SEARCH}},
                embedding_function=None,
            )
        return self._find()

    def _check_model(self, metadata: dict[str, Any]) -> None:
        if metadata.get("format") != FORMAT:
            raise IndexModelError(
                f"The vector index at {self._place} has format {metadata.get('format')}, this "
                f"Baton reads {FORMAT}; rebuild it: `baton archive reindex`."
            )
        if metadata.get("model_id") != self._model_id:
            raise IndexModelError(
                f"The vector index at {self._place} is of model {metadata.get('model_id')}, this "
                f"is {self._model_id}; rebuild it with this one: `baton archive reindex`, or set "
                "BATON_EMBEDDING_MODEL to that one."
            )
        self._dimensions = int(metadata["dimensions"])

    def _put(self, ids: list[str], shelves: list[str], vectors: NDArray[np.float32]) -> None:
        collection = self._get(vectors.shape[1])
        self._put_probe(collection)
        collection.upsert(
            ids=ids, embeddings=vectors, metadatas=[{"shelf": shelf} for shelf in shelves]
        )

    def _put_probe(self, collection: Any) -> None:
        """Before any other row, so that a collection of rows without a probe is damaged."""
        if not collection.get(ids=[PROBE], include=[])["ids"]:
            collection.upsert(ids=[PROBE], embeddings=[self._probe()], metadatas=[{"shelf": PROBE}])

    def _probe(self) -> NDArray[np.float32]:
        # Any fixed direction will do; a made-up one is nearly at right angles to all texts'.
        vector = np.random.default_rng(FORMAT).standard_normal(self._dimensions)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)

    def _query(
        self, vector: NDArray[np.float32], limit: int, where: Any
    ) -> list[tuple[str, str, float]]:
        collection = self._find()
        if collection is None:
            return []
        # One more, as the probe may be among them.
        found = collection.query(
            query_embeddings=vector.reshape(1, -1),
            n_results=limit + 1,
            where=where,
            include=["metadatas", "distances"],
        )
        rows = zip(found["ids"][0], found["metadatas"][0], found["distances"][0], strict=True)
        return [
            (row_id, str(metadata["shelf"]), float(distance))
            for row_id, metadata, distance in rows
            if row_id != PROBE
        ][:limit]

    def _vectors(self, ids: list[str]) -> tuple[list[str], NDArray[np.float32]]:
        collection = self._find()
        if collection is None or not ids:
            return [], np.empty((0, 0), np.float32)
        found = collection.get(ids=ids, include=["embeddings"])
        return list(found["ids"]), np.asarray(found["embeddings"], dtype=np.float32)

    def _ids(self, shelf: str) -> list[str]:
        collection = self._find()
        if collection is None:
            return []
        return list(collection.get(where={"shelf": shelf}, include=[])["ids"])

    def _delete(self, ids: Sequence[str]) -> None:
        collection = self._find()
        if collection is not None:
            collection.delete(ids=list(ids))

    def _count(self) -> int:
        collection = self._find()
        return 0 if collection is None else max(0, int(collection.count()) - 1)

    def _faults(self) -> str:
        collection = self._find()
        if collection is None or not collection.count():
            return ""
        total = int(collection.count())
        asked = min(total, _ASKED)
        found = collection.query(query_embeddings=[self._probe()], n_results=asked)
        distances = found["distances"][0]
        if not distances or distances[0] > _SAME:
            return "the probe was not found"
        if len(distances) < asked:
            return f"a question for {asked} rows was answered with {len(distances)}"
        return self._sampled(collection, total)

    def _sampled(self, collection: Any, total: int) -> str:
        """Whether rows, the oldest among them, are found by their own vectors."""
        vectors = []
        for offset in sorted({total * sample // _SAMPLES for sample in range(_SAMPLES)}):
            got = collection.get(limit=1, offset=offset, include=["embeddings"])
            vectors += list(got["embeddings"])
        if not vectors:
            return "rows are counted, and none can be read"
        found = collection.query(query_embeddings=vectors, n_results=1, include=["distances"])
        missed = sum(not each or each[0] > _SAME for each in found["distances"])
        # In a small collection every row is found, or something is wrong.
        allowed = _MISSES_ALLOWED if len(vectors) == _SAMPLES else 0
        return f"{missed} of {len(vectors)} rows were not found" if missed > allowed else ""

    def _again_if_gone(self, call: Callable[[], _Answer]) -> _Answer:
        """Chroma's own answer to a collection that another client of the server made anew."""
        try:
            return call()
        except NotFoundError:
            self._known = None
            return call()

    @contextlib.contextmanager
    def _vendor_errors(self, call: str) -> Iterator[None]:
        try:
            yield
        except (IndexModelError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of Chroma's Rust is no Exception
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if any(sign in reason.lower() for sign in _DAMAGE):
                raise IndexCorruptError(
                    f"The vector index at {self._place} cannot be read ({reason}); rebuild it: "
                    "`baton archive reindex`. Nothing of the archive is lost."
                ) from error
            raise IndexUnavailableError(
                f"The vector index at {self._place} did not {call} ({reason}); nothing of the "
                "archive is lost."
            ) from error


def _new_client(place: str, folder: Path | None) -> Any:
    settings = Settings(anonymized_telemetry=False)
    if folder is not None:
        return chromadb.PersistentClient(path=str(folder), settings=settings)
    address = urlsplit(place)
    secure = address.scheme == "https"
    return chromadb.HttpClient(
        host=address.hostname or "",
        port=address.port or (443 if secure else 80),
        ssl=secure,
        settings=settings,
    )
