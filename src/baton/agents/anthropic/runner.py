"""The Anthropic runner: does a node's work by a model, over the Messages API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.agents.anthropic.calling import Caller, Errand
from baton.agents.anthropic.context_tools import ContextReader
from baton.agents.anthropic.conversation import Conversation
from baton.agents.anthropic.gate import Gate
from baton.agents.anthropic.launching import Launcher
from baton.agents.anthropic.ledger import Ledger
from baton.agents.anthropic.shared_prompt import SharedPrompts
from baton.agents.anthropic.task import FOUND_SHARE, first_message
from baton.agents.anthropic.toolbox import Toolbox
from baton.agents.anthropic.wire import Wire
from baton.agents.runner import RunnerResult

if TYPE_CHECKING:
    from baton.agents.anthropic.options import AnthropicOptions
    from baton.agents.breakers import HandoffBreakers, ModelBreakers
    from baton.agents.prices import PriceTable
    from baton.agents.rate_limits import RateLimits
    from baton.agents.runner import Assignment
    from baton.agents.warming import Warming

_TOOL_SHARE: Final = 0.15  # of the window, for what the tools return of the context


class AnthropicRunner:
    """One serves a whole process, from many threads at once. Nothing connects before the first run.

    Its results' `details` tell of the calls and of the prompt cache; what they cost is settled
    with the assignment, so `usage` and `cost_usd` are zeros. `docs/runner.md` is its guide.

    Args:
        options: the account, the model, and bounds.
        prices: knows the model.
        rate_limits: shared by all processes, as all that follow.
        model_breakers: opened by overload.
        handoff_breakers: opened where key, quota or account are refused.
        warming: has prefixes cached once; None: each worker writes them.

    Raises:
        PriceNotFoundError: the table does not know the model.
    """

    name = "anthropic"

    def __init__(
        self,
        options: AnthropicOptions,
        *,
        prices: PriceTable,
        rate_limits: RateLimits,
        model_breakers: ModelBreakers,
        handoff_breakers: HandoffBreakers,
        warming: Warming | None = None,
    ) -> None:
        card = prices.get(options.model)
        self._options = options
        self._prices = prices
        self._reply_tokens = min(options.max_output_tokens, card.max_output_tokens)
        self._tool_tokens = int(_TOOL_SHARE * card.context_window_tokens)
        self._found_characters = int(FOUND_SHARE * card.context_window_tokens)
        self._reader = ContextReader()
        self._wire = Wire(options)
        gate = Gate(model_breakers, rate_limits)
        self._caller = Caller(options, self._wire, gate, prices, handoff_breakers)
        self._launcher = Launcher(options, self._caller, SharedPrompts(options, prices), warming)

    def run(self, assignment: Assignment) -> RunnerResult:
        """Have the model do the task.

        Raises:
            RunnerError: it ended without a result, or the API refused; says why.
            ModelUnavailableError: it gave no answer; worth another attempt.
            BatonError: as `Assignment`, and `PriceTable.most`.
        """
        assignment.raise_if_cancelled()
        options = self._options
        ledger = Ledger(options.model, self._prices, options.cache_ttl)
        errand = Errand(assignment, ledger)
        launch = self._launcher.launch(errand)
        conversation = Conversation(
            options, self._caller, self._launcher, launch, self._reply_tokens
        )
        toolbox = Toolbox(assignment, self._reader, self._tool_tokens)
        task = first_message(assignment, self._found_characters)
        result = conversation.run(errand, task, toolbox)
        return RunnerResult(result, details={**ledger.details(), "context": launch.details})

    def close(self) -> None:
        """Close the connections to the API."""
        self._wire.close()
