"""Data keys of shelves, and of the sealed sessions there: wrapped, unwrapped, re-wrapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.archive.shelf_seal import ShelfSeal, new_shelf, shelf_wrap_context
from baton.content.sealing import Sealer, new_data_key, wrap_context
from baton.errors import ContextCorruptError, PermanentError
from baton.store.data_keys import decode_wrapped, encode_wrapped

if TYPE_CHECKING:
    from baton.archive.ledger import Ledger, ShelfRecord
    from baton.key_providers.provider import KeyProvider


@dataclass(frozen=True, slots=True)
class ShelfRewrap:
    """What a rotation did to the archive's shelves.

    `key`: the master key that was current. `failed`: session -> why a key of its shelf is still
    under another.
    """

    key: str
    rewrapped: int
    current: int
    failed: dict[str, str]


class ShelfKeys:
    """Wraps and unwraps the data keys in the ledger. No key leaves it as bytes.

    Every method raises what `KeyProvider` does.
    """

    def __init__(self, provider: KeyProvider) -> None:
        self._provider = provider

    def new(self) -> tuple[ShelfSeal, str]:
        """A new shelf's seal, and its data key as the ledger keeps it."""
        shelf, data_key = new_shelf(), new_data_key()
        wrapped = self._provider.wrap(data_key, context=shelf_wrap_context(shelf))
        return ShelfSeal(data_key, shelf), encode_wrapped(shelf, wrapped)

    def seal(self, record: ShelfRecord) -> ShelfSeal:
        """The seal of a shelf.

        Raises:
            ContextCorruptError: its key is not what was stored, or another shelf's.
        """
        where = f"{record.shelf}: its wrapped data key"
        shelf, wrapped = decode_wrapped(record.wrapped_key, where)
        if shelf != record.shelf:
            raise ContextCorruptError(f"{where} is that of {shelf}")
        data_key = self._provider.unwrap(wrapped, context=shelf_wrap_context(shelf))
        return ShelfSeal(data_key, record.shelf)

    def sealer(self, record: ShelfRecord) -> Sealer | None:
        """What opens a sealed session's own chunks and manifests; None where it is not sealed."""
        if not record.session_key:
            return None
        where = f"session {record.session}: its wrapped data key"
        data_key_id, wrapped = decode_wrapped(record.session_key, where)
        context = wrap_context(record.session, data_key_id)
        return Sealer(self._provider.unwrap(wrapped, context=context), data_key_id)

    def rewrap_all(self, ledger: Ledger) -> ShelfRewrap:
        """Bring every key under the current master key.

        May be repeated; what is done stays done. Nobody else may write to the ledger meanwhile.

        Raises:
            KeyUnavailableError: the keys' service did not answer.
        """
        rewrapped = current = 0
        failed: dict[str, str] = {}
        for record in ledger.all():
            try:
                changed = self._rewrap(ledger, record)
            except PermanentError as error:
                failed[record.session] = str(error)
                continue
            rewrapped += changed
            current += not changed
        return ShelfRewrap(self._provider.current_key_id(), rewrapped, current, failed)

    def _rewrap(self, ledger: Ledger, record: ShelfRecord) -> bool:
        own = self._rewrapped(record.wrapped_key, shelf_wrap_context(record.shelf))
        session = self._rewrapped_session(record)
        if (own, session) == (record.wrapped_key, record.session_key):
            return False
        ledger.change(record.shelf, wrapped_key=own, session_key=session)
        return True

    def _rewrapped_session(self, record: ShelfRecord) -> str:
        if not record.session_key:
            return ""
        data_key_id, _ = decode_wrapped(record.session_key, f"session {record.session}")
        return self._rewrapped(record.session_key, wrap_context(record.session, data_key_id))

    def _rewrapped(self, stored: str, context: bytes) -> str:
        data_key_id, wrapped = decode_wrapped(stored, "a wrapped data key of the ledger")
        if wrapped.key_id == self._provider.current_key_id():
            return stored
        data_key = self._provider.unwrap(wrapped, context=context)
        return encode_wrapped(data_key_id, self._provider.wrap(data_key, context=context))
