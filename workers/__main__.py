"""`python -m workers`: the whole stack, until Ctrl-C."""

from __future__ import annotations

import sys

from workers.launcher import main

if __name__ == "__main__":
    sys.exit(main())
