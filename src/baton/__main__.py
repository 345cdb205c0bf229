"""`python -m baton`: the `baton` command."""

from __future__ import annotations

from baton.cli.main import run

if __name__ == "__main__":
    run()
