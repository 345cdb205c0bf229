"""The key provider contract: who holds the master keys that wrap the sessions' data keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key under a master key: what may be stored.

    `key_id` names the master key and is shown in errors and logs; `blob` is the provider's own,
    and says its format itself.
    """

    key_id: str
    blob: bytes


@runtime_checkable
class KeyProvider(Protocol):
    """Wraps and unwraps data keys under master keys that never leave it.

    Its methods are called by many threads at once, and by a forked child of the process that
    made it. They change nothing that is stored and may be repeated. They wait for their service
    a few seconds at most and do not retry: callers do, on a `TransientError`. A caller keeps an
    unwrapped key for as long as it works with the session, so `unwrap` is called once for each
    session and process, not for each read.

    No key may show in a repr, an error, a log line or a pickle.
    """

    def current_key_id(self) -> str:
        """The id of the master key that `wrap` uses now; another one once it was rotated.

        At most 256 printable characters, fit for a log. An id means one key for ever.

        Raises:
            KeyNotFoundError: there is no key.
            KeyUnavailableError: the keys' service did not answer.
        """

    def wrap(self, data_key: bytes, *, context: bytes) -> WrappedKey:
        """`data_key`, 32 bytes, under the current master key and bound to `context`.

        Two calls need not give the same blob.

        Raises:
            InvalidInputError: `data_key` is not 32 bytes; the error does not show it.
            KeyNotFoundError: there is no key.
            KeyUnavailableError: the keys' service did not answer.
        """

    def unwrap(self, wrapped: WrappedKey, *, context: bytes) -> bytes:
        """The data key in `wrapped`, under whichever master key it names, current or not.

        Raises:
            KeyNotFoundError: no key has that id; the error names it.
            SealBrokenError: the blob was changed, was wrapped for another context, or the key
                of that id is not the one that wrapped it.
            UnsupportedFormatError: a newer provider wrote the blob.
            KeyUnavailableError: the keys' service did not answer.
        """
