"""What the archive did is counted: sessions, bytes, passages, and what it could not do."""

from __future__ import annotations

import hashlib
import re
from contextlib import closing

import numpy as np
import pytest

from baton.archive.metered import MeteredArchive
from baton.archive.opening import open_archive
from baton.errors import ContextNotFoundError, EmbedderUnavailableError
from baton.metrics.catalog import BY_NAME
from baton.metrics.tally import CLIENTS, RedisTally, read_sums
from baton.settings import ClientSettings
from baton.store.contexts import ContextStore

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

TEXT = (
    "The lease of a node lasts thirty seconds. A thread renews it. Tokens fence late writers.\n"
    * 40
)


class WordEmbedder:
    """Vectors of hashed words: like texts are alike. `broken`: as a model that cannot be loaded."""

    model_id = "words@1"
    dimensions = 64
    max_tokens = 254
    broken = False

    def token_starts(self, texts):
        return [
            np.array([m.start() for m in re.finditer(r"\S+", t)], dtype=np.int64) for t in texts
        ]

    def embed(self, texts, *, progress=None):
        if self.broken:
            raise EmbedderUnavailableError("the model is not there")
        vectors = np.array([self._vector(text) for text in texts], dtype=np.float32)
        if progress is not None:
            progress(len(texts))
        return vectors.reshape(len(texts), self.dimensions)

    def embed_question(self, question):
        return self.embed([question])[0]

    def _vector(self, text):
        vector = np.full(self.dimensions, 1e-6)
        for word in re.findall(r"\w+", text.lower()):
            vector[hashlib.sha256(word.encode()).digest()[0] % self.dimensions] += 1
        return vector / np.linalg.norm(vector)


@pytest.fixture
def embedder():
    return WordEmbedder()


@pytest.fixture
def archive(redis_client, tmp_path, embedder):
    settings = ClientSettings(state_dir=tmp_path)
    with (
        closing(ContextStore(redis_client, meter=RedisTally(redis_client, CLIENTS))) as store,
        closing(open_archive(settings, redis_client, store, embedder=embedder)) as service,
    ):
        store.put("notes", TEXT, agent_id="writer_1")
        yield service


def _sums(archive, client):
    archive._meter.flush()
    return {
        name: count
        for name, count in read_sums(client, CLIENTS).items()
        if name.startswith("baton_archive_")
    }


def test_work_of_the_archive_is_counted(archive, redis_client):
    """Archived, found, restored, purged; a session that is not there is no failure."""
    assert isinstance(archive, MeteredArchive)
    done = archive.archive("notes")
    assert archive.search("how long does a lease last")
    archive.restore("notes")
    archive.purge("notes")
    with pytest.raises(ContextNotFoundError):
        archive.restore("nobody")
    assert done.stored_bytes > 0
    assert done.embedded > 0
    assert _sums(archive, redis_client) == {
        "baton_archive_archived_total": 1,
        "baton_archive_restored_total": 1,
        "baton_archive_purged_total": 1,
        "baton_archive_bytes_total": done.stored_bytes,
        "baton_archive_passages_total": done.embedded,
    }


def test_what_the_archive_cannot_do_is_counted(archive, embedder, redis_client):
    """A missing model stops archiving and searching; both are failures, by what was asked."""
    archive.archive("notes")
    done = _sums(archive, redis_client)
    with closing(ContextStore(redis_client)) as store:
        store.put("more", TEXT, agent_id="writer_1")
    embedder.broken = True
    with pytest.raises(EmbedderUnavailableError):
        archive.archive("more")
    with pytest.raises(EmbedderUnavailableError):
        archive.search("lease")
    sums = _sums(archive, redis_client)
    assert sums.pop("baton_archive_failures_total|archive") == 1
    assert sums.pop("baton_archive_failures_total|search") == 1
    assert sums.keys() == done.keys()
    assert all(name.split("|")[0] in BY_NAME for name in sums)
