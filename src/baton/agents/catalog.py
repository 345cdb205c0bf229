"""The runners of a process by name, each loaded when it is first asked for."""

from __future__ import annotations

import re
import threading
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from baton.agents.function import FunctionRunner, told
from baton.agents.offline import OfflineRunner
from baton.agents.runner import Runner
from baton.errors import BatonError, RunnerError, RunnerNotFoundError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GROUP: Final = "baton.runners"

_NAME: Final = re.compile(r"[\w.:-]{1,128}")
_DOTTED: Final = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TARGET: Final = re.compile(rf"{_DOTTED}:{_DOTTED}")


class Runners(Protocol):
    """Runners by name; `RunnerCatalog` says what is raised."""

    def get(self, name: str) -> Runner:
        """The runner called `name`."""


class RunnerCatalog:
    """Runners by name. Safe for threads; a runner that cannot be loaded does not affect others.

    Names come from configuration alone, never from stored data: a name that is not known here is
    refused before anything is imported.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], Runner]]) -> None:
        self._loaders = dict(loaders)
        self._loaded: dict[str, Runner] = {}
        self._lock = threading.RLock()  # a runner's module may ask for another runner

    def get(self, name: str) -> Runner:
        """The runner called `name`, the same object each time.

        Raises:
            RunnerNotFoundError: there is none; names those that are known.
            RunnerError: its module cannot be imported, or what it names is not a runner.
        """
        loader = self._loaders.get(name)
        if loader is None:
            raise RunnerNotFoundError(
                f"No runner is called {name!r:.140}; known are {', '.join(self.names())}. "
                f"Declare yours as a `{GROUP}` entry point."
            )
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = loader()
            return self._loaded[name]

    def close(self) -> None:
        """Close the runners that were loaded and have something to close."""
        with self._lock:
            loaded, self._loaded = list(self._loaded.values()), {}
        for runner in loaded:
            close = getattr(runner, "close", None)
            if callable(close):
                close()

    def names(self) -> list[str]:
        """All names, sorted; being listed does not mean that a runner can be loaded."""
        return sorted(self._loaders)


def load_runners(
    functions: Mapping[str, str], *, built_in: Mapping[str, Callable[[], Runner]] | None = None
) -> RunnerCatalog:
    """The built-in runners, those of `baton.runners` entry points, and those of a setting.

    Where names meet, the setting wins over an entry point, and that over a built-in.

    Args:
        functions: the setting, name -> `module:function`. As with an entry point, the target is
            a function of one `Assignment`, a `Runner`, or a class that makes one.
        built_in: loaders of runners that need services, beside the offline runner. One is called
            when its runner is first asked for, and again as long as it raises.

    Raises:
        SettingsError: a name or a target of the setting is malformed.
    """
    loaders: dict[str, Callable[[], Runner]] = {
        OfflineRunner.name: OfflineRunner,
        **(built_in or {}),
    }
    loaders.update(_installed())
    for name, target in functions.items():
        if not _NAME.fullmatch(name):
            raise SettingsError("BATON_RUNNER_FUNCTIONS", "names of letters, digits and _.:-", name)
        if not isinstance(target, str) or not _TARGET.fullmatch(target):
            raise SettingsError("BATON_RUNNER_FUNCTIONS", f"module:function for {name}", target)
        loaders[name] = partial(_load, name, target)
    return RunnerCatalog(loaders)


def _installed() -> dict[str, Callable[[], Runner]]:
    targets: dict[str, set[str]] = {}
    for entry in entry_points(group=GROUP):
        targets.setdefault(entry.name, set()).add(entry.value)
    return {name: partial(_load, name, *sorted(values)) for name, values in targets.items()}


def _load(name: str, *targets: str) -> Runner:
    """Import one target; several mean that installed packages disagree about the name."""
    if len(targets) > 1:
        raise RunnerError(
            f"Runner {name} failed: installed packages declare it as {' and as '.join(targets)}; "
            "choose one in BATON_RUNNER_FUNCTIONS."
        )
    try:
        found = EntryPoint(name, targets[0], GROUP).load()
        return _as_runner(name, found() if isinstance(found, type) else found)
    except BatonError:
        raise
    # Importing runs the user's module, which may raise anything and may even call sys.exit().
    except (Exception, SystemExit) as error:
        raise RunnerError(
            f"Runner {name} failed: {targets[0]} cannot be loaded ({told(error)})."
        ) from error


def _as_runner(name: str, found: Any) -> Runner:
    if isinstance(found, Runner):
        return found
    if callable(found):
        return FunctionRunner(name, cast("Callable[[Any], str]", found))
    raise RunnerError(
        f"Runner {name} failed: expected a function or a Runner, got {type(found).__name__}."
    )
