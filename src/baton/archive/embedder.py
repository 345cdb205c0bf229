"""The embedder contract: what turns passages and questions into vectors of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Vectors: TypeAlias = NDArray[np.float32]
    Starts: TypeAlias = NDArray[np.int64]
    Progress: TypeAlias = Callable[[int], None]


class Tokenization(Protocol):
    """The part of an embedder that cutting passages needs.

    Raises (every member):
        EmbedderUnavailableError: the model is not there or cannot be loaded. Nothing else was
            done; the first use of any member loads the model, and a later one may try again.
    """

    @property
    def max_tokens(self) -> int:
        """Tokens that the model reads of one text, its special tokens not counted."""

    def token_starts(self, texts: Sequence[str]) -> list[Starts]:
        """For each text, the character index at which each of its tokens begins, ascending.

        Special tokens are left out, nothing is cut off. Several tokens may share a start.

        Raises:
            InvalidTextError: a text holds a lone surrogate.
        """


class Embedder(Tokenization, Protocol):
    """One model's vectors of texts.

    Its methods change nothing that is stored, give the same vectors for the same texts (up to
    rounding, whatever stands beside them in the call), and may be called by several threads,
    which take turns. The model is loaded at first use, by the process that uses it: an embedder
    that was used before a fork refuses to work in the child.
    """

    @property
    def model_id(self) -> str:
        """Name and digest of the model: texts embedded under another id cannot be compared.

        `name@digest`, at most 200 printable characters; the digest is of the weights and of how
        they are used, so that the same model has one id wherever it lies. Reads the weights' file,
        but does not load the model.
        """

    @property
    def dimensions(self) -> int:
        """Length of a vector."""

    def embed(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """A matrix of one row of length 1 for each text, in order, as float32.

        A text of more than `max_tokens` is embedded in parts, whose mean stands for it: no word
        goes unseen. `progress` is told how many texts are done, now and then and at the end.

        Raises:
            EmbedderUnavailableError: see above.
            InvalidTextError: a text holds a lone surrogate.
        """

    def embed_question(self, question: str) -> Vectors:
        """One vector to look for passages with; some models embed a question in another way.

        Raises: as `embed`.
        """
