"""One call of a model's API, as rate limits and circuit breakers know it."""

from __future__ import annotations

from dataclasses import dataclass, field

from baton.ids import check_id, new_operation_id
from baton.whole_numbers import check_whole_number


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be made: for which handoff, and how many tokens it may use.

    `tokens` is what the API counts against its limit per minute, at most: say the prompt without
    what is read from the cache, and the longest reply. `call_id` names this one attempt: asked
    for again under its id it is the same call, a retry of it is another `Call`.

    Raises:
        InvalidIdError: a model, handoff or call id that is none.
        InvalidInputError: `tokens` is not a whole number of at least 0.
    """

    model: str
    handoff_id: str
    tokens: int
    call_id: str = field(default_factory=new_operation_id)

    def __post_init__(self) -> None:
        check_id(self.model, "model")
        check_id(self.handoff_id, "handoff_id")
        check_id(self.call_id, "call_id")
        check_whole_number(self.tokens, "tokens")
