"""`python -m workers.one_node HANDOFF NODE`: runs one node in a process that does nothing else.

It was killed in other processes, or they with it; here it can take only itself along.
"""

from __future__ import annotations

import logging
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from baton.errors import BatonError
from workers.app import app, prepare
from workers.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = 4
USAGE = 2


def main(arguments: Sequence[str]) -> int:
    """Run the node; 0 whatever became of it, as the tree tells that."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m workers.one_node HANDOFF NODE\n")
        return USAGE
    handoff_id, node_id = arguments
    logging.basicConfig(level=app.settings.log_level)
    prepare()
    try:
        with closing(Runtime(app.settings, app, apart=False)) as runtime:
            run = runtime.engine.run_here_apart(handoff_id, node_id)
    except BatonError as error:
        sys.stderr.write(f"node {node_id} of {handoff_id}: {error}\n")
        return FAILED
    logging.getLogger(__name__).info("node %s of %s: %s", node_id, handoff_id, run.state)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
