"""The lifecycle as the settings have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.errors import SettingsError
from baton.lifecycle.states import Durations

if TYPE_CHECKING:
    from baton.settings import ClientSettings


def configured_durations(settings: ClientSettings) -> Durations:
    """How long a session stays in each state, if it has no durations of its own.

    Raises:
        SettingsError: sessions would be archived before they are inactive.
    """
    active, archive = settings.lifecycle_active_seconds, settings.lifecycle_archive_seconds
    if active > archive:
        raise SettingsError(
            "BATON_LIFECYCLE_ACTIVE_SECONDS",
            f"at most BATON_LIFECYCLE_ARCHIVE_SECONDS ({archive:g})",
            active,
        )
    return Durations(
        round(active * 1000), round(archive * 1000), round(settings.lifecycle_keep_seconds * 1000)
    )
