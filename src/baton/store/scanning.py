"""Finds sessions by one of their keys: SCAN, in slices between which others are served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.store.keys import session_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.binary_redis import BinaryRedis

# Half a millisecond of the server; of a busy machine's, a few.
SCAN_COUNT: Final = 500


def scan_sessions(client: BinaryRedis, pattern: str) -> Iterator[list[str]]:
    """Ids of the sessions that have a key like `pattern`, at most five hundred at a time.

    It costs the server about 1 ms for each thousand of all its keys. Raises redis-py's errors.
    """
    batch: list[str] = []
    for key in client.scan_iter(match=pattern, count=SCAN_COUNT):
        session_id = session_id_of(key)
        if session_id is not None:
            batch.append(session_id)
        if len(batch) >= SCAN_COUNT:
            yield batch
            batch = []
    if batch:
        yield batch
