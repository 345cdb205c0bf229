"""Data keys of sealed sessions: made, kept wrapped in Redis, unwrapped once a process.

A rotation must find every data key, also one that a writer has wrapped and not stored yet. So a
writer *claims* its key in Redis before it wraps it, and the commit script stores no key whose claim
is gone. A rotation takes back all claims, and only then looks for stored keys. A key that was
claimed before is stored by then, and found; or it is refused, and its writer wraps another. What is
claimed later is wrapped later, under the master key that was current when the rotation began. A
mark that all sessions share would be simpler, but no script of a cluster could see it.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from baton.content.sealing import Sealer, new_data_key, new_data_key_id, wrap_context
from baton.errors import (
    ContextCorruptError,
    PermanentError,
    SealedError,
    SessionBusyError,
    UnsupportedFormatError,
)
from baton.key_providers.provider import WrappedKey
from baton.redis_client import redis_errors, require_binary
from baton.scripts import Script
from baton.store.forks import renew_in_children
from baton.store.keys import CLAIM_PATTERN, DATA_KEY_PATTERN, SessionKeys
from baton.store.scanning import SCAN_COUNT, scan_sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from baton.binary_redis import BinaryRedis
    from baton.key_providers.provider import KeyProvider
    from baton.store.audit_entries import Caller

_REWRAP: Final = Script("baton.store", "rewrap")

FORMAT: Final = 1
MAX_SEALERS: Final = 1_000
MAX_RACES: Final = 32
CLAIM_MS: Final = 60_000


class NewDataKey(NamedTuple):
    """A data key that no session has yet: how to seal under it, and what to store of it."""

    sealer: Sealer
    stored: str


@dataclass(frozen=True, slots=True)
class RewrapReport:
    """What a rotation did. `failed`: session id -> why its key is still under the old master."""

    rewrapped: int
    current: int
    failed: dict[str, str]


class DataKeys:
    """Sealers of sessions. Unwraps a session's key once, and keeps it in this process's memory.

    `on_use` is told the session and the master key's id at each unwrapping.
    """

    def __init__(
        self,
        client: BinaryRedis,
        provider: KeyProvider | None,
        on_use: Callable[[SessionKeys, str], None],
    ) -> None:
        self._redis = client
        self._provider = provider
        self._on_use = on_use
        self._sealers: OrderedDict[tuple[str, str], Sealer] = OrderedDict()
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """A lock of its own for a forked child; the sealers work there too."""
        self._lock = threading.Lock()

    @property
    def cache_scope(self) -> str:
        """Sets apart, in a shared cache, what this provider's stores have opened."""
        return f"{id(self._provider):x}"

    def new(self, session_id: str) -> NewDataKey:
        """A fresh data key for a session about to begin, claimed for a minute.

        Raises:
            SealedError: this store has no key provider.
            what `KeyProvider.wrap` raises.
        """
        provider = self._provided(f"session {session_id} cannot begin sealed")
        data_key, key_id = new_data_key(), new_data_key_id()
        # Before the wrapping: where a rotation misses it, the wrapping comes after the new key did.
        self._redis.set(SessionKeys.of(session_id).claim(key_id), "", px=CLAIM_MS)
        wrapped = provider.wrap(data_key, context=wrap_context(session_id, key_id))
        return NewDataKey(Sealer(data_key, key_id), encode_wrapped(key_id, wrapped))

    def find_kept(self, session_id: str, data_key_id: str) -> Sealer | None:
        """The sealer this process has already, if any; None as well where nothing is sealed."""
        with self._lock:
            return self._sealers.get((session_id, data_key_id))

    def keep(self, session_id: str, sealer: Sealer) -> None:
        """Remember a sealer whose session has begun."""
        with self._lock:
            self._sealers[session_id, sealer.data_key_id] = sealer
            if len(self._sealers) > MAX_SEALERS:
                self._sealers.popitem(last=False)

    def unwrap(self, keys: SessionKeys, session_id: str, data_key_id: str) -> Sealer:
        """The sealer of a session, from what Redis holds.

        Raises:
            SealedError: this store has no key provider.
            ContextCorruptError: the stored key is missing, damaged or another session's.
            what `KeyProvider.unwrap` raises.
        """
        provider = self._provided(f"session {session_id} is sealed")
        stored = self._redis.get(keys.data_key)
        if stored is None:
            raise ContextCorruptError(f"session {session_id}: its wrapped data key is missing")
        found, wrapped = decode_wrapped(stored, f"session {session_id}: its wrapped data key")
        if found != data_key_id:
            raise ContextCorruptError(f"session {session_id}: its wrapped data key is another")
        data_key = provider.unwrap(wrapped, context=wrap_context(session_id, data_key_id))
        sealer = Sealer(data_key, data_key_id)
        self.keep(session_id, sealer)
        self._on_use(keys, wrapped.key_id)
        return sealer

    def _provided(self, need: str) -> KeyProvider:
        if self._provider is None:
            raise SealedError(
                f"{need}, and no master key is configured: this store has no key provider; give "
                "it one (BATON_KEY_FILE or BATON_MASTER_KEYS)"
            )
        return self._provider


class KeyRotation:
    """Brings every sealed session's data key under the current master key. Contents stay as is.

    Readers and writers go on meanwhile: a data key does not change, only its wrapping. May be
    repeated, and run twice at once. An old master key may go once nothing failed and no process
    has it as its current one: such a process shows in the next rotation, as what it re-wraps.
    """

    def __init__(self, redis_client: redis.Redis, provider: KeyProvider, caller: Caller) -> None:
        self._redis = require_binary(redis_client)
        self._provider = provider
        self._caller = caller

    def rewrap_all(self, agent_id: str) -> RewrapReport:
        """Re-wrap what another master key wraps, or is about to: see the module.

        Returns:
            What was done. Without `failed`, no session that a provider with this current key has
            begun or begins is under another key.

        Raises:
            StoreUnavailableError: Redis did not answer; what was re-wrapped stays so.
            KeyUnavailableError: the keys' service did not answer; likewise.
        """
        rewrapped = current = 0
        failed: dict[str, str] = {}
        with redis_errors(self._redis):
            self._take_back_claims()
            batches = scan_sessions(self._redis, DATA_KEY_PATTERN)
            for session_id in itertools.chain.from_iterable(batches):
                try:
                    changed = self._rewrap(session_id, agent_id)
                except (PermanentError, SessionBusyError) as error:
                    failed[session_id] = str(error)
                    continue
                rewrapped += changed
                current += not changed
        return RewrapReport(rewrapped, current, failed)

    def _take_back_claims(self) -> None:
        """Have writers that may have wrapped under an older key wrap anew.

        A SCAN gives all that is there from its beginning to its end: a claim that it misses was
        used up meanwhile, by a commit that stored its key.
        """
        for claim in self._redis.scan_iter(match=CLAIM_PATTERN, count=SCAN_COUNT):
            self._redis.delete(claim)

    def _rewrap(self, session_id: str, agent_id: str) -> bool:
        """Bring one session under the current key; False if it is, or is gone."""
        keys = SessionKeys.of(session_id)
        for _ in range(MAX_RACES):
            stored = self._redis.get(keys.data_key)
            if stored is None:
                return False
            data_key_id, wrapped = decode_wrapped(
                stored, f"session {session_id}: its wrapped data key"
            )
            if wrapped.key_id == self._provider.current_key_id():
                return False
            # Where an older rotation came between, the key is under one that is not current.
            if self._replace(keys, stored, data_key_id, wrapped, agent_id):
                return True
        raise SessionBusyError(
            f"session {session_id}: other rotations won {MAX_RACES} races in a row"
        )

    def _replace(
        self,
        keys: SessionKeys,
        stored: bytes,
        data_key_id: str,
        wrapped: WrappedKey,
        agent_id: str,
    ) -> bool:
        """Wrap anew what is `stored`; False if something else is stored by now."""
        context = wrap_context(keys.session_id, data_key_id)
        data_key = self._provider.unwrap(wrapped, context=context)
        new = self._provider.wrap(data_key, context=context)
        request = {
            "agent": agent_id,
            "caller": self._caller.as_dict(),
            "from": wrapped.key_id,
            "to": new.key_id,
        }
        done = _REWRAP(
            self._redis,
            [keys.base],
            [json.dumps(request), stored, encode_wrapped(data_key_id, new)],
        )
        return bool(done)


def encode_wrapped(data_key_id: str, wrapped: WrappedKey) -> str:
    """A wrapped data key as it is stored."""
    return json.dumps(
        {
            "format": FORMAT,
            "data_key_id": data_key_id,
            "key_id": wrapped.key_id,
            "blob": base64.b64encode(wrapped.blob).decode(),
        },
        sort_keys=True,
    )


def decode_wrapped(stored: str | bytes, where: str) -> tuple[str, WrappedKey]:
    """The data key's id, and the key as it is wrapped; `where` names it in errors.

    Raises:
        ContextCorruptError: it is not what was stored.
        UnsupportedFormatError: a newer Baton stored it.
    """
    try:
        fields: Any = json.loads(stored)
        if fields["format"] != FORMAT:
            raise UnsupportedFormatError(
                f"{where} has format {fields['format']!r}; this Baton reads {FORMAT}. Upgrade it."
            )
        blob = base64.b64decode(fields["blob"], validate=True)
        return str(fields["data_key_id"]), WrappedKey(str(fields["key_id"]), blob)
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise ContextCorruptError(f"{where} is not what was stored ({error})") from error
