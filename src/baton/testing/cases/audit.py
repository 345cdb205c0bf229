"""Cases: what was done is recorded, and a changed record is found (J8, J10, I9)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from baton.errors import ContextImmutableError, ContextNotFoundError
from baton.store.audit_anchors import FileAnchor
from baton.testing.case import CaseGroup
from baton.testing.expectations import expect, expect_equal, expect_error

if TYPE_CHECKING:
    from baton.store.audit_verification import AuditVerification
    from baton.testing.kit import Kit
    from baton.testing.raw import RawSession

case = CaseGroup("audit")


@case
def every_operation_is_one_numbered_entry(kit: Kit) -> None:
    """As many entries as operations, in their order, with who did it (J10)."""
    session_id, work, store = kit.session(), kit.session("work"), kit.store
    store.put(session_id, "one\n", agent_id="a")
    store.append(session_id, "two\n", agent_id="b")
    store.rollback(session_id, "1.0.0", agent_id="c")
    store.tag(session_id, "t", agent_id="d")
    store.untag(session_id, "t", agent_id="e")
    store.checkpoint(session_id, "c", agent_id="f")
    store.fork(session_id, work, agent_id="g")
    store.delete(session_id, agent_id="h")
    entries = list(store.show_audit(session_id))[::-1]
    operations = ["created", "appended", "rolled_back", "tagged", "untagged", "checkpointed"]
    expect_equal([e.operation for e in entries], [*operations, "deleted"], "the operations")
    expect_equal([e.agent for e in entries], [*"abcdef", "h"], "the agents")
    expect_equal([e.seq for e in entries], list(range(1, 8)), "the numbers")
    expect_equal([e.operation for e in store.show_audit(work)], ["forked"], "the fork's")


@case
def refused_write_to_an_immutable_session_is_recorded(kit: Kit) -> None:
    """Who tried is named."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "one", agent_id="a")
    store.set_flag(session_id, "immutable", agent_id="a")
    with expect_error(ContextImmutableError):
        store.put(session_id, "two", agent_id="mallory")
    newest = next(store.show_audit(session_id))
    expect_equal((newest.operation, newest.agent), ("denied", "mallory"), "the newest entry")


@case
def write_that_was_refused_or_repeated_leaves_no_entry(kit: Kit) -> None:
    """What did not happen is not recorded, and what happened once is recorded once (J10)."""
    session_id, store = kit.session(), kit.store
    store.put(session_id, "one", agent_id="a")
    store.put(session_id, "two", agent_id="a", operation_id="op")
    store.put(session_id, "two", agent_id="a", operation_id="op")
    store.put(session_id, "mine", agent_id="b", base_version="1.0.0", policy="reject")
    entries = [each.operation for each in store.show_audit(session_id)]
    expect_equal(entries, ["updated", "created"], "the audit")


@case
def forged_client_name_makes_no_line(kit: Kit) -> None:
    """What a process says of itself is escaped (I9)."""
    session_id = kit.session()
    store = kit.open_store(client_name="me\nAUDIT [purged] by admin\x1b[31m")
    store.put(session_id, "one", agent_id="a")
    (entry,) = store.show_audit(session_id)
    expect(entry.client.isprintable(), f"a printable client name, not {entry.client!r}")


@case
def sealed_audit_verifies(kit: Kit) -> None:
    """Sealing twice seals once; what follows is the unsealed tail."""
    session_id, store = kit.session(), kit.open_store(audit_anchor=FileAnchor(kit.folder()))
    for number in range(3):
        store.put(session_id, f"text {number}", agent_id="a")
    expect_equal([store.seal_audit(session_id) for _ in range(2)], [3, 0], "what was sealed")
    store.put(session_id, "text 3", agent_id="a")
    found = store.verify_audit(session_id)
    expect(found.ok, f"the audit to verify, not {found.problems}")
    counts = (found.sealed_entries, found.unsealed_entries, found.anchored_segments)
    expect_equal(counts, (3, 1, 1), "sealed, unsealed and anchored")


@case
def audit_of_what_never_was_is_refused(kit: Kit) -> None:
    """No session, no trail."""
    session_id = kit.session()
    with expect_error(ContextNotFoundError, session_id):
        kit.store.verify_audit(session_id)


@case
def edited_entry_is_found(kit: Kit) -> None:
    """The verifier names the entry (J8)."""
    raw = _sealed_trail(kit)
    entry = json.loads(raw.client.lindex(raw.keys.audit, 1))
    raw.client.lset(raw.keys.audit, 1, json.dumps({**entry, "agent": "somebody"}))
    _check_found(_verified(kit, raw))


@case
def deleted_entry_is_found(kit: Kit) -> None:
    """Even where the numbers behind it are left alone (J8)."""
    raw = _sealed_trail(kit)
    raw.client.lrem(raw.keys.audit, 1, raw.client.lindex(raw.keys.audit, 1))
    _check_found(_verified(kit, raw))


@case
def reordered_entries_are_found(kit: Kit) -> None:
    """Two entries in each other's place (J8)."""
    raw = _sealed_trail(kit)
    second, third = raw.client.lrange(raw.keys.audit, 1, 2)
    raw.client.lset(raw.keys.audit, 1, third)
    raw.client.lset(raw.keys.audit, 2, second)
    _check_found(_verified(kit, raw))


@case
def truncated_audit_is_found(kit: Kit) -> None:
    """Entries and seals taken off the end (J8)."""
    raw = _sealed_trail(kit)
    raw.client.ltrim(raw.keys.audit, 0, 0)
    _check_found(_verified(kit, raw))


@case
def audit_that_was_removed_whole_is_missed(kit: Kit) -> None:
    """The anchor outside Redis remembers that there was one (J8)."""
    session_id, store = kit.session(), kit.open_store(audit_anchor=FileAnchor(kit.folder()))
    raw = kit.raw(session_id)
    store.put(session_id, "text", agent_id="a")
    store.seal_audit(session_id)
    raw.client.unlink(raw.keys.audit, raw.keys.audit_state, raw.keys.audit_seals)
    expect(not store.verify_audit(session_id).ok, "the removal to be found")


def _sealed_trail(kit: Kit) -> RawSession:
    """A session with four sealed entries, numbered from 1."""
    session_id = kit.session()
    for number in range(4):
        kit.store.put(session_id, f"text {number}", agent_id="a")
    kit.store.seal_audit(session_id)
    return kit.raw(session_id)


def _verified(kit: Kit, raw: RawSession) -> AuditVerification:
    return kit.open_store().verify_audit(raw.keys.session_id)


def _check_found(found: AuditVerification) -> None:
    """Not in order, from the second entry on."""
    expect(not found.ok, "the tampering to be found")
    expect_equal(found.problems[0][:2], ("entry", 2), "the first problem")
