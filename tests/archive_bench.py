"""An archive over a test's Redis and a folder of its own, with what tests ask of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from baton import ContextStore
from baton.archive.opening import open_archive
from baton.key_providers.file import FileKeyProvider
from baton.settings import ClientSettings

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from baton.archive.embedder import Embedder
    from baton.archive.service import ArchiveService

FACTS = (
    "The spare key of the pump house hangs behind the third barrel in the cellar.",
    "Retries of the billing importer stop after seven attempts, as agreed with Okonkwo.",
    "The ferry to the northern island leaves at a quarter past six in the morning.",
)
QUESTIONS = (
    "Where can I find something to unlock the building with the water machinery?",
    "How often does the job that loads invoices try again before it gives up?",
    "When does the boat go that takes people to the isle up north?",
)


def essay(words: int, seed: str = "a") -> str:
    """Text about nothing that is asked for, in sentences and paragraphs."""
    subjects = ("The committee", "A gardener", "Our reviewer", "The orchestra", "Nobody", seed)
    verbs = ("considered", "painted", "postponed", "weighed", "described", "repaired")
    objects = ("the proposal", "an old fence", "two letters", "the second movement", "a bridge")
    sentences = []
    for number in range(words // 6):
        subject = subjects[number % len(subjects)]
        verb = verbs[(number // 3) % len(verbs)]
        thing = objects[(number // 7) % len(objects)]
        sentences.append(f"{subject} {verb} {thing} on day {number}.")
        if number % 5 == 4:
            sentences.append("\n\n")
    return " ".join(sentences)


class ArchiveBench:
    """One store and one archive; both are closed with it, and the archive can be opened anew."""

    def __init__(
        self, client: redis.Redis, folder: Path, embedder: Embedder | None, **settings: Any
    ) -> None:
        self.client = client
        self.folder = folder
        self._embedder = embedder
        self.settings = ClientSettings(state_dir=folder, **settings)
        keys = None if self.settings.key_file is None else FileKeyProvider(self.settings.key_file)
        self.store = ContextStore(client, key_provider=keys)
        self._archive: ArchiveService | None = None

    @property
    def archive(self) -> ArchiveService:
        """The archive, opened at first use."""
        if self._archive is None:
            self._archive = open_archive(
                self.settings, self.client, self.store, embedder=self._embedder
            )
        return self._archive

    def reopen(self, **settings: Any) -> ArchiveService:
        """The archive as another process would find it."""
        self.close_archive()
        self.settings = self.settings.model_copy(update=settings)
        return self.archive

    def close_archive(self) -> None:
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def close(self) -> None:
        self.close_archive()
        self.store.close()

    def state(self, session_id: str) -> str:
        """Where the session is, by what readers and the archive say."""
        with suppress(Exception):
            self.store.get(session_id)
            return "here"
        records = self.archive.ledger.of_session(session_id)
        return records[0].state if records else "gone"

    def files(self) -> bytes:
        """Every byte of the archive's files."""
        folder = self.folder / "archive"
        return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
