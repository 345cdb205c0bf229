"""Clients between a store and Redis that do what a bad network or a restart would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import redis

if TYPE_CHECKING:
    from collections.abc import Callable

_UNKNOWN_SHA: Final = "0" * 40


class _Scripts:
    """Passes everything on, be it to a client or a pipeline, but has a say in running scripts."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Watched(_Scripts):
    """Calls `before_script` and `after_script` around each script, or pipeline with one in it."""

    def before_script(self) -> None:
        """Nothing has been sent yet."""

    def after_script(self) -> None:
        """The answer has come."""

    def evalsha(self, *args: Any) -> Any:
        """As EVALSHA."""
        return self._watch(self._inner.evalsha, *args)

    def eval(self, *args: Any) -> Any:
        """As EVAL."""
        return self._watch(self._inner.eval, *args)

    def pipeline(self, *args: Any, **options: Any) -> Any:
        """As a pipeline's."""
        return _WatchedPipeline(self._inner.pipeline(*args, **options), self)

    def _watch(self, run: Callable[..., Any], *args: Any) -> Any:
        self.before_script()
        answer = run(*args)
        self.after_script()
        return answer


class _WatchedPipeline(_Scripts):
    def __init__(self, pipeline: Any, client: _Watched) -> None:
        super().__init__(pipeline)
        self._client = client
        self._has_script = False

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self._has_script = self._has_script or args[0] == "EVALSHA"
        return self._inner.execute_command(*args, **options)

    def execute(self, **options: Any) -> Any:
        if not self._has_script:
            return self._inner.execute(**options)
        self._client.before_script()
        answers = self._inner.execute(**options)
        # What the server has forgotten did not run; it is sent again, by EVAL.
        if not any(isinstance(each, redis.exceptions.NoScriptError) for each in answers):
            self._client.after_script()
        return answers


class LosingClient(_Watched):
    """Loses the reply to a script that has run, once each time `lose_next` was called."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self._armed = False

    def lose_next(self) -> None:
        """The next script runs, and its reply is lost."""
        self._armed = True

    @property
    def lost(self) -> bool:
        """Whether the reply was lost since."""
        return not self._armed

    def after_script(self) -> None:
        """Lose the reply, if it is time to.

        Raises:
            ConnectionError: as redis-py does.
        """
        if self._armed:
            self._armed = False
            raise redis.ConnectionError("the reply was lost on purpose")


class OvertakenClient(_Watched):
    """Lets somebody else in between what a store looks at and the first script it then runs."""

    def __init__(self, client: redis.Redis, somebody: Callable[[], object]) -> None:
        super().__init__(client)
        self._waiting = [somebody]

    def before_script(self) -> None:
        """Let them, once."""
        while self._waiting:
            self._waiting.pop()()


class ForgottenScripts(_Scripts):
    """Asks for scripts by a hash that no server knows, as if each had just been restarted."""

    def evalsha(self, _sha: str, *args: Any) -> Any:
        """As EVALSHA of what the server has forgotten."""
        return self._inner.evalsha(_UNKNOWN_SHA, *args)

    def pipeline(self, *args: Any, **options: Any) -> Any:
        """As a pipeline's, likewise."""
        return _ForgottenPipeline(self._inner.pipeline(*args, **options))


class _ForgottenPipeline(_Scripts):
    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "EVALSHA":
            args = (args[0], _UNKNOWN_SHA, *args[2:])
        return self._inner.execute_command(*args, **options)
