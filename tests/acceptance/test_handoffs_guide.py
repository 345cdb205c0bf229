"""The guide to handoffs: its examples run as they are printed, over real pools."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from nodes import ROOT

GUIDE = Path(ROOT, "docs", "handoffs.md")

pytestmark = pytest.mark.acceptance


def test_handoffs_guide_examples_run(stack, tmp_path, monkeypatch):
    """Its module is what the pools import; its other Python blocks follow one another."""
    text = GUIDE.read_text("utf-8")
    module, *examples = re.findall(r"(?ms)^```python\n(.*?)^```$", text)
    (tmp_path / "mymodule.py").write_text(module)
    named = json.loads(re.findall(r"BATON_RUNNER_FUNCTIONS='(.*?)'", text, re.DOTALL)[0])
    assert examples
    running = stack(
        "agents", "context", "lifecycle", beat=True,
        env={"BATON_RUNNER_FUNCTIONS": json.dumps(named), "BATON_RUNNER_PATH": str(tmp_path),
             "BATON_NODE_SWEEP_SECONDS": "0.5", "BATON_WARM_SHUTDOWN_SECONDS": "1"},
    )  # fmt: skip
    monkeypatch.setenv("BATON_REDIS_URL", running.url)
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, str(GUIDE), "exec"), names)  # noqa: S102
    names["swarm"].close()
