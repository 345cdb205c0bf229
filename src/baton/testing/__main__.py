"""`python -m baton.testing`: is this deployment fit for contexts?"""

from __future__ import annotations

from baton.testing.command import run

if __name__ == "__main__":
    run()
