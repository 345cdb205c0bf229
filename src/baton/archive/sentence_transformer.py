"""The embedder that runs a sentence-transformers model in this process."""

from __future__ import annotations

import itertools
import os
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from baton.archive.model_folder import find_model_folder, model_digest, model_name
from baton.errors import EmbedderUnavailableError, InvalidTextError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

    from baton.archive.embedder import Progress, Starts, Vectors
    from baton.settings import ClientSettings

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16"]

# Texts whose tokens are counted, sorted and embedded together: what bounds memory.
_BLOCK_TEXTS: Final = 1_024
_BATCHES_BETWEEN_PROGRESS: Final = 4
_TINY: Final = np.float32(1e-12)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model ready for use, by this process only."""

    model: SentenceTransformer
    tokenizer: Tokenizer
    max_tokens: int
    dimensions: int
    pid: int


@dataclass(frozen=True, slots=True)
class _Part:
    """What the model takes at once: a text, or some of it; `owner` is the text's place."""

    owner: int
    text: str
    tokens: int


class SentenceTransformerEmbedder:
    """An `Embedder`; its model is found and loaded at first use and then stays in memory.

    Args:
        model: a folder (begins with `/`, `~` or `.`) or a name at the Hugging Face hub, perhaps
            with `@revision`; None: all-MiniLM-L6-v2, from its offline package if installed.
        device: where it runs, as torch names it.
        dtype: `auto` is bfloat16 where the processor has instructions for it. (Elsewhere torch
            can do it too, in a third of float32's speed.)
        batch_size: texts that the model takes at once.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        device: str = "cpu",
        dtype: Dtype = "auto",
        batch_size: int = 32,
    ) -> None:
        self._setting = model
        self._device = device
        self._dtype = dtype
        self._batch_size = batch_size
        self._loaded: _Loaded | None = None
        self._turn = threading.RLock()

    @classmethod
    def from_settings(cls, settings: ClientSettings) -> SentenceTransformerEmbedder:
        """The embedder that the settings ask for; nothing is loaded yet."""
        return cls(
            settings.embedding_model,
            device=settings.embedding_device,
            dtype=settings.embedding_dtype,
        )

    def __repr__(self) -> str:
        return f"SentenceTransformerEmbedder({model_name(self._setting)!r})"

    @cached_property
    def model_id(self) -> str:
        """See `Embedder.model_id`."""
        return f"{model_name(self._setting)}@{model_digest(self._folder)}"

    @property
    def bare_model(self) -> SentenceTransformer:
        """The model itself, to be measured against."""
        return self._get().model

    @property
    def max_tokens(self) -> int:
        """See `Tokenization.max_tokens`."""
        return self._get().max_tokens

    @property
    def dimensions(self) -> int:
        """See `Embedder.dimensions`."""
        return self._get().dimensions

    def token_starts(self, texts: Sequence[str]) -> list[Starts]:
        """See `Tokenization.token_starts`."""
        tokenizer = self._get().tokenizer
        return [
            np.fromiter((start for start, _ in found.offsets), np.int64, len(found.offsets))
            for found in tokenizer.encode_batch(_encodable(texts), add_special_tokens=False)
        ]

    def embed(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """See `Embedder.embed`."""
        dimensions = self.dimensions
        vectors = np.zeros((len(texts), dimensions), dtype=np.float32)
        for first in range(0, len(texts), _BLOCK_TEXTS):
            block = vectors[first : first + _BLOCK_TEXTS]
            for share in self._fill(block, texts[first : first + _BLOCK_TEXTS]):
                if progress is not None:
                    progress(first + int(share * len(block)))
        return vectors

    def embed_question(self, question: str) -> Vectors:
        """See `Embedder.embed_question`."""
        loaded = self._get()
        with self._turn:
            vectors = loaded.model.encode_query(
                _encodable([question]), normalize_embeddings=True, show_progress_bar=False
            )
        return np.asarray(vectors[0], dtype=np.float32)

    def _fill(self, vectors: Vectors, texts: Sequence[str]) -> Iterator[float]:
        """Put the texts' vectors in place; yields the share that is done, now and then."""
        loaded = self._get()
        parts = _parts(texts, self.token_starts(texts), loaded.max_tokens)
        # Of equal length, so that nearly nothing is padding.
        parts.sort(key=lambda part: part.tokens, reverse=True)
        step = self._batch_size * _BATCHES_BETWEEN_PROGRESS
        for first in range(0, len(parts), step):
            group = parts[first : first + step]
            with self._turn:
                found = loaded.model.encode_document(
                    [part.text for part in group],
                    batch_size=self._batch_size,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
            for part, row in zip(group, found, strict=True):
                vectors[part.owner] += row * part.tokens
            if first + step < len(parts):
                yield first / len(parts)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
        yield 1.0

    @cached_property
    def _folder(self) -> Path:
        return find_model_folder(self._setting)

    def _get(self) -> _Loaded:
        with self._turn:
            if self._loaded is None:
                self._loaded = _load(self._folder, self._setting, self._device, self._dtype)
        if self._loaded.pid != os.getpid():
            # Torch's threads do not survive a fork; what waits for them waits for ever.
            raise EmbedderUnavailableError(
                f"Embedding model {model_name(self._setting)} cannot be used (it was loaded before "
                "this process was forked); make an embedder in the process that uses it."
            )
        return self._loaded


def _load(folder: Path, setting: str | None, device: str, dtype: Dtype) -> _Loaded:
    try:
        model = _new_model(folder, device, dtype)
        return _Loaded(
            model=model,
            tokenizer=_own_tokenizer(model),
            max_tokens=_content_tokens(model),
            dimensions=int(model.get_embedding_dimension() or 0),
            pid=os.getpid(),
        )
    except ImportError as error:
        reason, advice = f"{error.name} is not installed", "install Baton with its extra `archive`"
        raise _unavailable(setting, reason, advice) from error
    except Exception as error:  # a damaged folder raises whatever its reader meets first
        reason = f"{type(error).__name__} while loading {folder}"
        raise _unavailable(setting, reason, "see the cause above, or name another") from error


def _new_model(folder: Path, device: str, dtype: Dtype) -> SentenceTransformer:
    import torch  # noqa: PLC0415  # seconds and hundreds of megabytes: only where a model is used
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415  # the same
    from transformers.utils import logging  # noqa: PLC0415  # the same

    logging.disable_progress_bar()
    wanted = torch.bfloat16 if _takes_bfloat16(device, dtype) else torch.float32
    return SentenceTransformer(
        str(folder), device=device, local_files_only=True, model_kwargs={"dtype": wanted}
    )


def _takes_bfloat16(device: str, dtype: Dtype) -> bool:
    if dtype != "auto":
        return dtype == "bfloat16"
    import torch  # noqa: PLC0415  # as above

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Not `torch.ops.mkldnn._is_mkldnn_bf16_supported`: it is true where torch emulates it.
    instructions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device == "cpu" and any(
        getattr(torch.cpu, instruction, bool)() for instruction in instructions
    )


def _own_tokenizer(model: SentenceTransformer) -> Tokenizer:
    """A copy: the model's own is cut and padded anew by each call of the model."""
    from tokenizers import Tokenizer  # noqa: PLC0415  # as above

    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _content_tokens(model: SentenceTransformer) -> int:
    """What the window leaves beside special tokens and the model's own prompt."""
    prompt = model.prompts.get("document") or ""
    around = len(model.tokenizer(prompt)["input_ids"])
    window = model.max_seq_length or model.tokenizer.model_max_length
    if window - around < 1:
        raise ValueError(f"a window of {window} tokens leaves no room for text")
    return int(window - around)


def _unavailable(setting: str | None, reason: str, advice: str) -> EmbedderUnavailableError:
    return EmbedderUnavailableError(
        f"Embedding model {model_name(setting)} cannot be used ({reason}); {advice}."
    )


def _encodable(texts: Sequence[str]) -> list[str]:
    for text in texts:
        if not text.isascii():
            _check_encodable(text)
    return list(texts)


def _check_encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidTextError("text", "text that UTF-8 can encode", "<a lone surrogate>") from None


def _parts(texts: Sequence[str], starts: Sequence[Starts], limit: int) -> list[_Part]:
    parts = []
    for owner, (text, begins) in enumerate(zip(texts, starts, strict=True)):
        cuts = [0, *begins[limit::limit].tolist(), len(text)]
        parts += [
            _Part(owner, text[start:end], max(1, min(limit, len(begins) - place * limit)))
            for place, (start, end) in enumerate(itertools.pairwise(cuts))
        ]
    return parts
