"""`python -m workers.one_node HANDOFF NODE`: runs one node in a process that does nothing else.

It was killed in other processes, or they with it; here it can take only itself along.
"""

from __future__ import annotations

import logging
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Final

from baton.errors import BatonError
from workers import lifeline
from workers.app import app, prepare
from workers.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED: Final = 4
USAGE: Final = 2
FROZEN_SECONDS: Final = 60.0


def main(arguments: Sequence[str]) -> int:
    """Run the node; 0 whatever became of it, as the tree tells that."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m workers.one_node HANDOFF NODE\n")
        return USAGE
    handoff_id, node_id = arguments
    logging.basicConfig(level=app.settings.log_level)
    prepare()
    lifeline.end_when_frozen(FROZEN_SECONDS)
    try:
        with closing(Runtime(app.settings, app, apart=False)) as runtime:
            run = runtime.engine.run_here_apart(handoff_id, node_id)
    except BatonError as error:
        sys.stderr.write(f"node {node_id} of {handoff_id}: {error}\n")
        return FAILED
    finally:
        # Threads that a runner left behind would hold the interpreter.
        lifeline.exit_in(app.settings.warm_shutdown_seconds)
    logging.getLogger(__name__).info("node %s of %s: %s", node_id, handoff_id, run.state)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
