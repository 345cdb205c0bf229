"""Every error Baton raises, as one tree.

```
BatonError
├── TransientError                 trying again may help
│   ├── StoreUnavailableError      Redis did not answer
│   ├── StoreRefusedError          Redis takes no writes now: full, a replica, cannot persist
│   ├── BrokerUnavailableError     the message could not be published
│   ├── HandoffBacklogError        too many handoffs are open; nothing was recorded
│   ├── StoreFullError             Redis has no memory for new handoffs; nothing was recorded
│   ├── SessionBusyError           the session is being deleted or keeps moving
│   ├── PoolsUnavailableError      no worker pools run, and none could be started
│   ├── ModelUnavailableError      the model gave no answer, or may not be asked now
│   ├── KeyUnavailableError        whoever holds the master keys did not answer
│   ├── LockHeldError              somebody else has the lock
│   ├── AnchorUnavailableError     the heads of audit chains could not be kept, or read back
│   ├── IndexUnavailableError      the archive's vector index did not answer, or takes no writes
│   ├── ArchiveBusyError           another process has the archive's folder
│   ├── ArchiveAnswerError         the archive's pool did not answer, or not in a way we know
│   ├── ColdStoreUnavailableError  the archive's files cannot be written or read now
│   └── EmbeddedRedisError         the embedded server could not be started
└── PermanentError                 trying again will not help
    ├── InvalidInputError          a value was refused (also a ValueError)
    │   ├── InvalidIdError
    │   ├── InvalidVersionError
    │   ├── InvalidTextError
    │   ├── ContextTooLargeError
    │   ├── RedactionRuleError     a user's own rule of redaction was refused
    │   └── SettingsError
    ├── NotFoundError              (also a LookupError)
    │   ├── ContextNotFoundError
    │   ├── VersionNotFoundError
    │   ├── AgentNotFoundError
    │   ├── CheckpointNotFoundError
    │   ├── TagNotFoundError
    │   ├── ConflictNotFoundError  resolved, or expired
    │   ├── HandoffNotFoundError
    │   ├── RunnerNotFoundError
    │   ├── PriceNotFoundError     the price table has no such model, or not at that time
    │   ├── PointerNotFoundError   a view has no such tag
    │   └── KeyNotFoundError       no master key has the id that is needed
    ├── AccessDeniedError          this Redis user may not do that
    ├── VolatileStoreError         Redis is not set up to keep what it is given
    ├── UnexpectedAnswerError      Redis answered with an error that Baton does not expect
    ├── ContextCorruptError        stored bytes are not what was stored
    │   ├── SealBrokenError        what was sealed does not open with this key, in this place
    │   └── ColdStoreCorruptError  a file of the archive, or a copy in it, is damaged
    ├── ArchiveNotInstalledError   Baton was installed without the archive's packages
    ├── EmbedderUnavailableError   the embedding model is not there, or cannot be loaded
    ├── IndexCorruptError          the vector index's files are damaged; it can be made anew
    ├── IndexModelError            the vector index holds another model's vectors
    ├── AuditBrokenError           the audit trail is not what was recorded
    ├── WriteRejectedError         another writer came first
    ├── SessionExistsError         a fork or an import needs a session that is not there yet
    ├── TagExistsError             the tag is on another version
    ├── CheckpointExistsError      the id is that of a checkpoint at another place
    ├── SealedError                the session is sealed, and this store has no key for it
    ├── ContextImmutableError
    ├── ContextArchivedError
    ├── SessionHeldError           the session is under hold
    ├── ArchiveKeyError            the archive has no master key, or not the one that is needed
    ├── UnsupportedFormatError     stored by a version of Baton that this one does not know
    ├── ModelRetiredError          the model is gone by its date in the price table
    ├── RedactionError             secrets were not looked for to the end; index nothing
    ├── LockLostError              the lock's lease ended before it was renewed
    ├── AgentCompatibilityError    a role may not hand work to that one
    ├── StaleHandoffError          what a handoff package demands does not hold any more
    ├── FencedError                a late worker; its claim has passed to another
    ├── SpawnLimitError            too deep, too wide or too many children
    ├── TokenBudgetExceededError   an allocation of the window has fewer tokens left
    ├── ViewBudgetError            what a view must hold is above its budget
    ├── OverBudgetError            the handoff's budget has no room for the next call
    ├── NodeCancelledError         the handoff was cancelled under the runner
    └── RunnerError                the runner failed or returned what is not a result
```

A docstring below is the template of its message: what was expected, what was got, what to do.
"""

from __future__ import annotations


class BatonError(Exception):
    """The root: catch this to catch everything Baton raises on purpose."""


class TransientError(BatonError):
    """Something outside the request failed; the same call may succeed later."""


class PermanentError(BatonError):
    """The request itself cannot succeed; repeating it gives the same answer."""


class StoreUnavailableError(TransientError):
    """Redis at <address> did not answer (<reason>); is it running, and is the URL right?"""


class StoreRefusedError(TransientError):
    """Redis at <address> takes no writes now (<reason>); free memory, or see why it refuses."""


class BrokerUnavailableError(TransientError):
    """The broker at <address> took no message (<reason>); the sweep will publish it."""


class HandoffBacklogError(TransientError):
    """<n> handoffs are open, and <limit> may be; submit again when some have ended."""


class StoreFullError(TransientError):
    """Redis uses <used> of <limit> bytes, above <share>; submit again when memory was freed."""

    def __init__(self, used_bytes: int, limit_bytes: int, share: float) -> None:
        self.used_bytes = used_bytes
        self.limit_bytes = limit_bytes
        self.share = share
        super().__init__(
            f"Redis uses {used_bytes:,} of {limit_bytes:,} bytes (maxmemory), which is more than "
            f"{share:.0%}: what is left is for handoffs that were accepted. Submit again when "
            "memory was freed, or raise the limit"
        )

    def __reduce__(self) -> tuple[type[StoreFullError], tuple[int, int, float]]:
        return type(self), (self.used_bytes, self.limit_bytes, self.share)


class SessionBusyError(TransientError):
    """Session <id> is being deleted, or other writers won every race; try again."""


class PoolsUnavailableError(TransientError):
    """The worker pools did not start (<reason>); see <log>."""


class ModelUnavailableError(TransientError):
    """Model <model> gave no answer (<reason>); the node is tried again, within its attempts."""


class KeyUnavailableError(TransientError):
    """<provider>: <reason>; the master key may be there, but could not be used."""


class AnchorUnavailableError(TransientError):
    """The audit's anchor (<reason>); entries stay in Redis, the next sealing keeps their head."""


class IndexUnavailableError(TransientError):
    """The vector index at <place> did not <call> (<reason>); nothing of the archive is lost."""


class ArchiveAnswerError(TransientError):
    """The archive's pool gave no answer for <n> s; it may be busy, or not run."""


class ColdStoreUnavailableError(TransientError):
    """<file>: <reason>; nothing was deleted from Redis, and the archive tries again."""


class ArchiveBusyError(TransientError):
    """<folder> is in use by <process> on <host>; one process at a time may open it."""


class LockHeldError(TransientError):
    """Session <id>: lock <name> is held by <agent>, for at most <n> s more."""


class PermitExpiredError(TransientError):
    """Permit <id> was to be used within <n> s; ask for another before the call is sent."""


class EmbeddedRedisError(TransientError):
    """The embedded Redis did not start (<reason>); install redis-server or set BATON_REDIS_URL."""


class InvalidInputError(PermanentError, ValueError):
    """<field>: expected <expected>, got <got>."""

    def __init__(self, field: str, expected: str, got: object) -> None:
        self.field = field
        self.expected = expected
        self.got = got
        shown = got if isinstance(got, str) and got.startswith("<") else _shown(got)
        super().__init__(f"{field}: expected {expected}, got {shown}")

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[str, str, object]]:
        return type(self), (self.field, self.expected, self.got)


class InvalidIdError(InvalidInputError):
    """<field>: expected an id of letters, digits, `_`, `.`, `-` (at most 128), got <got>."""


class InvalidVersionError(InvalidInputError):
    """<field>: expected MAJOR.MINOR.PATCH, or one above the head, got <got>."""


class InvalidTextError(InvalidInputError):
    """<field>: expected text that UTF-8 can encode, got a lone surrogate at character <n>."""


class ContextTooLargeError(InvalidInputError):
    """<field>: expected at most <limit> bytes, got <size>."""


class RedactionRuleError(InvalidInputError):
    """redaction rule <name>: expected <expected>, got <got>."""

    def __init__(self, name: str, expected: str, got: object) -> None:
        self.name = name
        super().__init__(f"redaction rule {name:.80}", expected, got)

    def __reduce__(self) -> tuple[type[RedactionRuleError], tuple[str, str, object]]:
        return type(self), (self.name, self.expected, self.got)


class SettingsError(InvalidInputError):
    """BATON_<FIELD>: expected <type and bounds>, got <got>."""


class NotFoundError(PermanentError, LookupError):
    """What was asked for does not exist."""


class ContextNotFoundError(NotFoundError):
    """Session <id> holds no context; `baton context list` shows those that do."""


class VersionNotFoundError(NotFoundError):
    """Session <id> has no version <version>; `baton context history <id>` lists them."""


class CheckpointNotFoundError(NotFoundError):
    """Session <id> has no checkpoint <id>; `baton context checkpoints <id>` lists them."""


class TagNotFoundError(NotFoundError):
    """Session <id> has no tag <name>."""


class ConflictNotFoundError(NotFoundError):
    """Session <id> has no pending conflict <id>; it was resolved, or it expired."""


class AgentNotFoundError(NotFoundError):
    """Agent <id> is not registered; it was never, or it was cleaned up."""


class HandoffNotFoundError(NotFoundError):
    """Handoff <id> does not exist or has expired; `baton handoff list` shows those that do."""


class RunnerNotFoundError(NotFoundError):
    """No runner is called <name>; known are <names>. Declare yours as an entry point."""


class PointerNotFoundError(NotFoundError):
    """The view has no tag <tag>; it has <first> to <last>."""


class PriceNotFoundError(NotFoundError):
    """Price table <name> has no <model, or time>; add it to a price file of your own."""


class KeyNotFoundError(NotFoundError):
    """<provider>: expected master key <id>, got only <ids>; put it back to read what it wrapped."""


class AccessDeniedError(PermanentError):
    """Redis at <address>: this user may not do that (<reason>)."""


class VolatileStoreError(PermanentError):
    """<address>: <what may lose data>; <the commands that mend it>, or --allow-volatile."""


class UnexpectedAnswerError(PermanentError):
    """Redis at <address> answered <error>; does a key hold what Baton did not put there?"""


class ContextCorruptError(PermanentError):
    """Session <id> version <version>: <part> is not what was stored. Nothing was served."""


class SealBrokenError(ContextCorruptError):
    """<part> does not open under <key>: it was changed, moved, or sealed under another key."""


class ArchiveNotInstalledError(PermanentError):
    """The archive needs a package that is not installed (<name>); pip install 'baton[archive]'."""


class EmbedderUnavailableError(PermanentError):
    """Embedding model <name> cannot be used (<reason>); install it or set BATON_EMBEDDING_MODEL."""


class IndexCorruptError(PermanentError):
    """The vector index at <place> cannot be read (<reason>); rebuild it from the archive."""


class IndexModelError(PermanentError):
    """The vector index at <place> is of model <id>, this is <id>; rebuild it with this one."""


class ColdStoreCorruptError(ContextCorruptError):
    """<file or copy> is damaged (<reason>); put its backup back. What is in Redis is whole."""


class AuditBrokenError(PermanentError):
    """Session <id>: its audit trail <what is wrong>; `baton audit verify <id>` says where."""


class WriteRejectedError(PermanentError):
    """Session <id>: the head is <version>, not <base>; read it and write on top of it."""


class SessionExistsError(PermanentError):
    """Session <id> exists already; choose another name."""


class TagExistsError(PermanentError):
    """Session <id>: tag <name> is on version <version>; move it, or choose another name."""


class CheckpointExistsError(PermanentError):
    """Session <id>: checkpoint <id> is at another place already; choose another id."""


class SealedError(PermanentError):
    """Session <id> is sealed, and this store has no key provider; give it one."""


class ContextImmutableError(PermanentError):
    """Session <id> is immutable; write to a new session instead."""


class ContextArchivedError(PermanentError):
    """Session <id> is archived; `baton archive restore <id>` brings it back."""


class SessionHeldError(PermanentError):
    """Session <id> is under hold (<reason>); `baton lifecycle release <id>` first."""


class ArchiveKeyError(PermanentError):
    """The archive's data keys need a master key (<reason>); see BATON_KEY_FILE."""


class UnsupportedFormatError(PermanentError):
    """<what> has format <n>; this Baton reads <known>. Upgrade Baton to read it."""


class ModelRetiredError(PermanentError):
    """Model <model> retired on <day> by price table <name>; choose another, or correct it."""


class RedactionError(PermanentError):
    """The text was not redacted (<reason>); nothing of it may become searchable."""


class LockLostError(PermanentError):
    """Session <id>: lock <name> is no longer held by <agent> under <fence>; stop."""


class AgentCompatibilityError(PermanentError):
    """<agent or role> may not hand over to <agent or role>: <the rule>."""


class StaleHandoffError(PermanentError):
    """Handoff <id> was stopped: <check>: <reason>; … `failed` has each as (check, reason)."""

    def __init__(self, handoff_id: str, failed: tuple[tuple[str, str], ...]) -> None:
        self.handoff_id = handoff_id
        self.failed = failed
        reasons = "; ".join(f"{check}: {reason}" for check, reason in failed)
        super().__init__(f"Handoff {handoff_id} was stopped: {reasons}")

    def __reduce__(self) -> tuple[type[StaleHandoffError], tuple[str, tuple[tuple[str, str], ...]]]:
        return type(self), (self.handoff_id, self.failed)


class FencedError(PermanentError):
    """Node <node>: claim <token> has passed to another worker; this result is refused."""


class SpawnLimitError(PermanentError):
    """Node <node> may not spawn <n> children: <limit name> is <limit>."""


class TokenBudgetExceededError(PermanentError):
    """Allocation <name>: expected at most <left> tokens, got <n>; release some, or condense."""

    def __init__(self, allocation: str, tokens: int, left_tokens: int) -> None:
        self.allocation = allocation
        self.tokens = tokens
        self.left_tokens = left_tokens
        super().__init__(
            f"Allocation {allocation}: expected at most {left_tokens} tokens, got {tokens}; "
            "release some, or condense."
        )

    def __reduce__(self) -> tuple[type[TokenBudgetExceededError], tuple[str, int, int]]:
        return type(self), (self.allocation, self.tokens, self.left_tokens)


class ViewBudgetError(PermanentError):
    """The view needs <needed> tokens, its budget is <budget>; raise it, or pin less."""

    def __init__(self, needed_tokens: int, budget_tokens: int) -> None:
        self.needed_tokens = needed_tokens
        self.budget_tokens = budget_tokens
        super().__init__(
            f"The view needs {needed_tokens} tokens, its budget is {budget_tokens}; "
            "raise it, or pin less."
        )

    def __reduce__(self) -> tuple[type[ViewBudgetError], tuple[int, int]]:
        return type(self), (self.needed_tokens, self.budget_tokens)


class OverBudgetError(PermanentError):
    """Node <node>: the budget of <cap> has <left> left, and the call may take <n>."""


class NodeCancelledError(PermanentError):
    """Node <node> was cancelled; stop and return."""


class RunnerError(PermanentError):
    """Runner <name> failed: <reason>."""


def _shown(value: object) -> str:
    """A short, one-line, escaped form: bad input must not forge a log line or flood it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
