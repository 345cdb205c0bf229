"""What of the models the settings name: options of the runner `anthropic`, and who condenses."""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import TYPE_CHECKING

from baton.agents.anthropic.loading import open_summariser
from baton.agents.anthropic.options import AnthropicOptions
from baton.errors import SettingsError

if TYPE_CHECKING:
    from baton.agents.summariser import Summariser
    from baton.settings import ClientSettings


def anthropic_options(settings: ClientSettings) -> AnthropicOptions:
    """The options of the runner `anthropic`.

    Raises:
        SettingsError: there is no key.
    """
    if settings.anthropic_api_key is None:
        raise SettingsError("BATON_ANTHROPIC_API_KEY", "a key of the API", "<unset>")
    return AnthropicOptions(
        api_key=settings.anthropic_api_key,
        base_url=settings.anthropic_base_url,
        model=settings.anthropic_model,
        max_output_tokens=settings.anthropic_max_output_tokens,
        timeout_seconds=settings.anthropic_timeout_seconds,
    )


class _OpenedAtFirstUse:
    """A summariser by the model: most who could condense never do, and the SDK takes its time."""

    def __init__(self, options: AnthropicOptions) -> None:
        self.name = f"model {options.model}"
        self._options = options

    def summarise(self, text: str, max_tokens: int) -> str:
        return self._opened.summarise(text, max_tokens)

    @cached_property
    def _opened(self) -> Summariser:
        opened = open_summariser(self._options)
        weakref.finalize(self, opened.close)
        return opened


def configured_summariser(settings: ClientSettings) -> Summariser | None:
    """Who condenses contexts: the model, where its runner is the default and there is a key.

    None: the extractive one, which needs no model.
    """
    if settings.default_runner != "anthropic" or settings.anthropic_api_key is None:
        return None
    return _OpenedAtFirstUse(anthropic_options(settings))
