"""What an envelope brings into a session: its text, its metadata, and marks to put beside them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from baton.clock import utc_from_ms
from baton.content.fernet import open_fernet
from baton.envelope.model import ROOT
from baton.errors import SealedError
from baton.store.marks import MAX_MARKS, check_label, checkpoint_exists, too_many_checkpoints
from baton.store.records import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.envelope.model import EnvelopeHeader
    from baton.envelope.reading import EnvelopeContent
    from baton.store.heads import OpenedVersion
    from baton.store.marks import Flag
    from baton.store.records import Commit
    from baton.store.writing import ContextWriter, Draft

logger = logging.getLogger(__name__)

_CHECKPOINTS: Final = f"{ROOT}.checkpoints"


def imported_text(content: EnvelopeContent, fernet_key: str | None) -> str:
    """The envelope's text; opened, where it is a Fernet token.

    Raises:
        SealedError: it is a token, and no key was given.
        SealBrokenError, InvalidInputError: the token or the key is none, or they do not fit.
    """
    if not content.header.flags.encrypted:
        return content.text
    if fernet_key is None:
        raise SealedError(
            f"the envelope of session {content.header.session_id} is encrypted; give its Fernet key"
        )
    return open_fernet(content.text, fernet_key)


def imported_checkpoints(header: EnvelopeHeader, agent_id: str) -> list[Checkpoint]:
    """The envelope's checkpoints for the session's next version; their time is that of the import.

    Raises:
        InvalidInputError: a label is none that `checkpoint` takes; names its path.
    """
    return [
        Checkpoint(
            checkpoint_id=each.checkpoint_id,
            label=check_label(each.label, f"{_CHECKPOINTS}[{index}].label"),
            version="",
            byte_position=each.byte_position,
            token_position=each.token_position,
            agent_id=agent_id,
            created_at=utc_from_ms(0),
        )
        for index, each in enumerate(header.checkpoints)
    ]


def imported_flags(header: EnvelopeHeader) -> list[Flag]:
    """The flags that the session is to have."""
    flags: dict[Flag, bool] = {
        "sensitive": header.flags.sensitive,
        "immutable": header.flags.immutable,
    }
    return [flag for flag, is_set in flags.items() if is_set]


def check_room(
    session_id: str, imported: Sequence[Checkpoint], there: Sequence[Checkpoint], version: str
) -> None:
    """Hold an envelope's checkpoints to those that are there; `version` they will be in, or empty.

    Raises:
        CheckpointExistsError: an id is that of another place.
        InvalidInputError: together they are more than a session may have.
    """
    known = {each.checkpoint_id: each for each in there}
    for index, each in enumerate(imported):
        found = known.get(each.checkpoint_id)
        if found is not None and _place(found) != _place(replace(each, version=version)):
            where = f"{each.checkpoint_id} ({_CHECKPOINTS}[{index}].checkpoint_id)"
            raise checkpoint_exists(session_id, where)
    added = sum(each.checkpoint_id not in known for each in imported)
    if added and len(there) + added > MAX_MARKS:
        raise too_many_checkpoints(_CHECKPOINTS, added)


def adds_nothing(head: OpenedVersion, draft: Draft, writer: ContextWriter) -> bool:
    """Whether a commit of the draft on this head makes no new version."""
    manifest = head.manifest
    return (
        draft.metadata == manifest.metadata
        and draft.content_type in (None, manifest.content_type)
        and writer.has_content(head, draft)
    )


def without_checkpoints(commit: Commit, checkpoints: Sequence[Checkpoint]) -> Commit:
    """The outcome, where what was committed is not what the checkpoints are places of."""
    if not checkpoints:
        return commit
    logger.warning(
        "session %s: %d checkpoints of the envelope not put: %s does not hold the text they are of",
        commit.session_id,
        len(checkpoints),
        commit.version,
    )
    return replace(commit, unplaced_checkpoints=tuple(each.checkpoint_id for each in checkpoints))


def _place(checkpoint: Checkpoint) -> tuple[str, int, str]:
    return checkpoint.version, checkpoint.byte_position, checkpoint.label
