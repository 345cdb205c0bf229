"""The guide to views: its examples run as they are printed."""

import re
from pathlib import Path

GUIDE = Path(__file__).parents[3] / "docs" / "views.md"


def test_views_guide_examples_run():
    """Each Python block of docs/views.md, on its own."""
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", GUIDE.read_text("utf-8"))
    assert blocks
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), {})  # noqa: S102
