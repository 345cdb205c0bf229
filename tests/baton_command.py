"""Runs `baton` within the test's process, by its own entry point: arguments, streams, exit code."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from baton.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Done:
    stdout: bytes
    stderr: bytes


class BatonCommand:
    """`baton GROUP …` in a folder of its own, with only the variables it is given."""

    def __init__(self, place: Path, *group: str, **variables: str) -> None:
        self.place = place
        self._group = group
        self._variables = {"BATON_STATE_DIR": str(place / "state")} | variables

    def __call__(self, *arguments: str, stdin: bytes = b"", code: int = 0, **variables: str):
        out, err = io.BytesIO(), io.BytesIO()
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("BATON_")]:
                patch.delenv(name)
            for name, value in (self._variables | variables).items():
                patch.setenv(name, value)
            patch.chdir(self.place)
            patch.setattr(sys, "argv", ["baton", *self._group, *arguments])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8"))
            patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding="utf-8"))
            patch.setattr(main, "raise_on_signals", lambda: None)  # they are pytest's here
            with pytest.raises(SystemExit) as ended:
                main.run()
            sys.stdout.flush()
            sys.stderr.flush()
            done = Done(out.getvalue(), err.getvalue())
        assert (ended.value.code or 0) == code, done.stderr.decode()
        return done

    def json(self, *arguments: str, **more):
        return json.loads(self(*arguments, "--json", **more).stdout)

    def error(self, *arguments: str, code: int, **more) -> str:
        done = self(*arguments, code=code, **more)
        assert done.stdout == b""
        return done.stderr.decode()

    def file(self, name: str, data: bytes) -> str:
        (self.place / name).write_bytes(data)
        return name
