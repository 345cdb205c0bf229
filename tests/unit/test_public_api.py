"""What `import baton` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import baton


def test_every_public_name_can_be_loaded():
    assert set(baton.__all__) == set(baton._MODULE_OF)
    for name in baton.__all__:
        assert getattr(baton, name).__name__ == name


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = baton.nonsense


def test_import_of_baton_and_of_the_store_loads_no_celery():
    """A process that only reads contexts does not pay for the task queue."""
    code = (
        "import sys, baton; baton.ContextStore; "
        "sys.exit(any(m in sys.modules for m in ('celery', 'kombu', 'typer')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
