"""The handoff's path: start -> chord(agent.run x N -> join); children by a chord of their own.

What is more than a handoff's window is published by the engine, node by node, as others end.
"""

from __future__ import annotations

from typing import Any

from celery import Signature, Task, chain, chord, shared_task

from baton import routes
from baton.errors import TransientError
from baton.failpoints import reach
from tasks.retrying import retry_or_leave
from tasks.services import services_of


@shared_task(name=routes.START, bind=True)
def start(self: Task[Any, Any], handoff_id: str) -> str:
    """Fan a handoff's first level out."""
    try:
        reach("start.received")
        nodes = services_of(self).engine.launch(handoff_id)
        reach("start.launched")
    except TransientError as error:
        return retry_or_leave(self, error)
    if nodes:
        chord([run.si(handoff_id, node_id) for node_id in nodes], join.si(handoff_id)).apply_async()
    reach("start.published")
    return f"{len(nodes)} nodes"


# Chords count results, so this one task keeps its (a word) until they expire.
@shared_task(name=routes.RUN, bind=True, ignore_result=False)
def run(self: Task[Any, Any], handoff_id: str, node_id: str) -> str:
    """Run a node; where it spawned children, become their chord, with the node as callback."""
    try:
        reach("run.received")
        chained = bool(self.request.chain)
        outcome = services_of(self).engine.run_node(handoff_id, node_id, chained=chained)
        reach("run.returned")
    except TransientError as error:
        return retry_or_leave(self, error)
    if outcome.children:
        children = [_run_in_turn(handoff_id, node_ids) for node_ids in outcome.children]
        self.replace(chord(children, run.si(handoff_id, node_id)))
    return outcome.state


def _run_in_turn(handoff_id: str, node_ids: tuple[str, ...]) -> Signature[Any]:
    runs = [run.si(handoff_id, node_id) for node_id in node_ids]
    return runs[0] if len(runs) == 1 else chain(*runs)


@shared_task(name=routes.JOIN, bind=True)
def join(self: Task[Any, Any], handoff_id: str) -> str:
    """Merge a handoff's results, if its tree says that this is due."""
    try:
        reach("join.received")
        state = services_of(self).engine.join(handoff_id)
        reach("join.returned")
    except TransientError as error:
        return retry_or_leave(self, error)
    return state
