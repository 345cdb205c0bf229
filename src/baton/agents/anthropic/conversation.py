"""One run's conversation with the model: calls, tools, and why it ends."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from baton.agents.anthropic.launching import extent_of
from baton.errors import RunnerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from baton.agents.anthropic.answers import Answer
    from baton.agents.anthropic.calling import Caller, Errand
    from baton.agents.anthropic.launching import Launch, Launcher
    from baton.agents.anthropic.options import AnthropicOptions
    from baton.agents.anthropic.toolbox import Toolbox, ToolReply

_ENDINGS: Final[Mapping[str | None, str]] = {
    "max_tokens": "the answer was cut at {max_tokens} tokens; raise "
    "BATON_ANTHROPIC_MAX_OUTPUT_TOKENS, or ask for less",
    "stop_sequence": "the answer stopped at a stop sequence, though none was asked for",
    "refusal": "the model refused the task",
    "model_context_window_exceeded": "context, task and answer are longer than the model's window",
    None: "the answer has no stop reason",
}


class Conversation:
    """One run, for one thread."""

    def __init__(
        self,
        options: AnthropicOptions,
        caller: Caller,
        launcher: Launcher,
        launch: Launch,
        reply_tokens: int,
    ) -> None:
        self._options = options
        self._caller = caller
        self._launcher = launcher
        self._launch = launch
        self._reply_tokens = reply_tokens
        self._messages: list[dict[str, Any]] = []
        self._paused_text = ""
        self._mistakes = 0

    def run(self, errand: Errand, task: str, toolbox: Toolbox) -> str:
        """The node's result.

        Raises:
            RunnerError: the model ended without one; says why.
            BatonError: as `Caller.ask` and `Toolbox.use`.
        """
        self._messages.append({"role": "user", "content": [_text(task)]})
        for _ in range(self._options.max_turns):
            answer = self._answer(errand)
            if answer.stop_reason == "end_turn":
                return self._result(answer, toolbox)
            if answer.stop_reason == "pause_turn" and answer.blocks:
                # The API goes on where it paused when it gets its own words back.
                self._messages.append(_said(answer))
                self._paused_text += answer.text
            elif answer.stop_reason == "tool_use" and answer.tool_uses:
                result = self._use_tools(errand, answer, toolbox)
                if result is not None:
                    return result
            else:
                raise self._failed(self._why(answer))
        raise self._failed(f"no result after {self._options.max_turns} turns")

    def _answer(self, errand: Errand) -> Answer:
        body = {
            "model": self._options.model,
            "max_tokens": self._reply_tokens,
            "tools": self._launch.prompt.tools,
            "system": self._launch.prompt.system,
            "messages": self._messages,
        }
        messages = json.dumps(self._messages, ensure_ascii=False, separators=(",", ":"))
        extent = extent_of(self._launch, messages, self._reply_tokens)
        began_at = time.monotonic()
        answer = self._caller.ask(errand, body, extent)
        self._launcher.note(self._launch, answer, began_at)
        return answer

    def _result(self, answer: Answer, toolbox: Toolbox) -> str:
        text = self._paused_text + answer.text
        if not text.strip() and not toolbox.spawned:
            raise self._failed("the model ended its turn without a word")
        return text

    def _use_tools(self, errand: Errand, answer: Answer, toolbox: Toolbox) -> str | None:
        """Carry out the calls in order, up to a report, whose result is returned."""
        self._paused_text = ""
        replies = []
        for asked in answer.tool_uses:
            errand.assignment.raise_if_cancelled()
            reply = toolbox.use(asked)
            if reply.result is not None:
                return reply.result
            replies.append((asked.use_id, reply))
        errand.assignment.progress(f"used {', '.join(_names(answer, replies))}")
        self._count_mistakes([reply for _, reply in replies])
        self._messages.append(_said(answer))
        self._messages.append({"role": "user", "content": [_told(*each) for each in replies]})
        return None

    def _count_mistakes(self, replies: Sequence[ToolReply]) -> None:
        refused = [reply.text for reply in replies if reply.refused]
        self._mistakes += bool(refused)
        if self._mistakes > self._options.max_mistakes:
            raise self._failed(
                f"{self._mistakes} answers had wrong tool calls; the last: {refused[-1]}"
            )

    def _why(self, answer: Answer) -> str:
        if answer.stop_reason in _ENDINGS:
            why = _ENDINGS[answer.stop_reason].format(max_tokens=self._reply_tokens)
            return f"{why} ({answer.detail})" if answer.detail else why
        if answer.stop_reason in ("tool_use", "pause_turn"):
            return f"the answer ends with {answer.stop_reason}, and holds nothing to go on with"
        return f"the answer ends with {answer.stop_reason!r:.60}, which Baton does not know"

    @staticmethod
    def _failed(why: str) -> RunnerError:
        return RunnerError(f"Runner anthropic failed: {why}.")


def _names(answer: Answer, replies: Sequence[tuple[str, ToolReply]]) -> list[str]:
    return [
        f"{asked.name[:40]}{' (refused)' if reply.refused else ''}"
        for asked, (_, reply) in zip(answer.tool_uses, replies, strict=True)
    ]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _said(answer: Answer) -> dict[str, Any]:
    return {"role": "assistant", "content": list(answer.blocks)}


def _told(use_id: str, reply: ToolReply) -> dict[str, Any]:
    result = {"type": "tool_result", "tool_use_id": use_id, "content": [_text(reply.text)]}
    return {**result, "is_error": True} if reply.refused else result
