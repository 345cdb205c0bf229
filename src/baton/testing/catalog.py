"""All cases, in the order they are run: the plainest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.testing.cases import (
    audit,
    checkpoints,
    concurrency,
    deletion,
    deployment,
    documents,
    envelopes,
    expiry,
    idempotency,
    input_limits,
    integrity,
    merging,
    reading,
    retention,
    sealing,
    text,
    time_travel,
    versions,
    writing,
)

if TYPE_CHECKING:
    from baton.testing.case import Case

_GROUPS: Final = (
    deployment.case,
    writing.case,
    versions.case,
    reading.case,
    text.case,
    input_limits.case,
    merging.case,
    documents.case,
    time_travel.case,
    checkpoints.case,
    retention.case,
    envelopes.case,
    expiry.case,
    deletion.case,
    idempotency.case,
    concurrency.case,
    audit.case,
    sealing.case,
    integrity.case,
)

CASES: Final[tuple[Case, ...]] = tuple(case for group in _GROUPS for case in group.cases)
GROUPS: Final = tuple(group.name for group in _GROUPS)
