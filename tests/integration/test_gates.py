"""The gates of `make check`: each fails on a violation planted in a copy of the sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
# One import for each contract that forbids it.
FORBIDDEN = {
    "src/baton/store/manifest.py": "import baton.handoff.engine, celery",
    "src/baton/merge/text.py": "import redis",
    "src/baton/handoff/merging.py": "import anthropic",
    "src/baton/coordinator.py": "import workers.pools",
    "tasks/context.py": "import redis",
    "config/queues.py": "import baton.store.contexts",
}


@pytest.fixture
def copy(tmp_path):
    """The sources and their configuration, to be spoilt."""
    for folder in ("src", "config", "workers", "tasks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for file in ("pyproject.toml", "beat_schedule.py"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def gate(folder, command, *arguments):
    """The exit code and all output of a tool of this environment."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / command), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder / 'src'}:{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def plant(folder, name, text):
    with (folder / name).open("a") as file:
        file.write(f"\n{text}\n")


def test_ruff_fails_on_a_planted_violation(copy):
    """What it says of the file without the violation is not what it says with it."""
    gates = [("check", "--no-cache", "src"), ("format", "--no-cache", "--check", "src")]
    assert not [tool for tool in gates if "versions.py" in gate(copy, "ruff", *tool)[1]]
    plant(copy, "src/baton/versions.py", "import  os")
    for tool in gates:
        code, output = gate(copy, "ruff", *tool)
        assert code == 1
        assert "src/baton/versions.py" in output


def test_mypy_fails_on_a_planted_violation(copy):
    """`--strict`, as the project sets it: a function without annotations is an error."""
    cache = copy / "cache"
    if (ROOT / ".mypy_cache").is_dir():  # what mypy knows of the libraries, if it ran before
        shutil.copytree(ROOT / ".mypy_cache", cache)
    plant(copy, "src/baton/clock.py", "def f(a):\n    return a")
    code, output = gate(copy, "mypy", "--cache-dir", str(cache), "src/baton/clock.py")
    assert code == 1
    assert "no-untyped-def" in output


def test_import_linter_fails_on_every_planted_violation(copy):
    """Every contract of pyproject.toml is broken by an import that it forbids, and named."""
    names = {contract["name"] for contract in CONTRACTS}
    for name, violation in FORBIDDEN.items():
        plant(copy, name, violation)
    code, output = gate(copy, "lint-imports", "--no-cache")
    assert code == 1
    assert set(re.findall(r"^(.+) BROKEN$", output, re.MULTILINE)) == names
