"""`baton agents`: who takes part, and who was heard of lately."""

from __future__ import annotations

import typer

from baton.cli.connection import open_client, registry_of
from baton.cli.exits import STORE_CODES, epilog
from baton.cli.options import Json  # noqa: TC001 - Typer reads it
from baton.cli.output import instant, plain, show_json, show_table

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=epilog("baton agents --json", codes=STORE_CODES))
def agents(as_json: Json = False) -> None:
    """List the registered agents, the last heard of first."""
    with open_client() as (settings, client):
        registry = registry_of(client, settings)
        found = registry.list_all()
        # A sweep marks the dead, if one runs; silence tells without it.
        active = {agent.agent_id for agent in registry.list_active()}
    listed = [(agent, "active" if agent.agent_id in active else "dead") for agent in found]
    if as_json:
        show_json({"agents": [{**plain(agent), "state": state} for agent, state in listed]})
        return
    show_table(
        ("AGENT", "STATE", "SESSION", "PARENT", "LAST HEARTBEAT"),
        [
            (
                agent.agent_id,
                state,
                agent.session_id,
                agent.parent_id or "-",
                instant(agent.last_heartbeat_at),
            )
            for agent, state in listed
        ],
    )
