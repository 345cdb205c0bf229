"""What the model is to answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from baton.testing.fake_anthropic.failures import Failure
    from baton.testing.fake_anthropic.pacing import Pace


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model asks for.

    Attributes:
        name: the tool's.
        arguments: by name, or JSON text that is sent as it stands: broken, or not an object.
        id: None: one made from the number of the call.
    """

    name: str
    arguments: Mapping[str, object] | str = field(default_factory=dict)
    id: str | None = None

    @property
    def arguments_json(self) -> str:
        """The arguments as the model writes them."""
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Cut:
    """Where an answer breaks off. The model has worked, so it is paid for.

    Attributes:
        after_events: how many events of a stream go out first. A plain answer is cut amid its
            body, or, with 0, before its first byte.
        cleanly: the stream ends as if it were whole, as through a proxy that lost its upstream;
            otherwise the connection just closes.
        error: sent as the stream's last event instead of either; a plain answer is that error.
    """

    after_events: int = 1
    cleanly: bool = False
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: text, then tool calls.

    Attributes:
        text: may be empty.
        tool_calls: in their order.
        stop_reason: sent as it stands, known to the API or not; None: what follows from the
            answer and the request's limits.
        cut: where it breaks off.
        pace: None: the server's.
        breaks_json: a plain answer's body, or a stream's `message_delta`, is half of its JSON.
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    stop_reason: str | None = None
    cut: Cut | None = None
    pace: Pace | None = None
    breaks_json: bool = False
