"""`baton status`: what is reachable, which pools are up, which sweeps are late, versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from baton.cli.connection import client_settings
from baton.cli.exits import DONE, MISSING, USAGE, epilog
from baton.cli.health import check_health
from baton.cli.options import Json  # noqa: TC001 - Typer reads it
from baton.cli.output import show_fields, show_json, show_table, show_text, size
from baton.cli.pool_check import check_pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=epilog("baton status --json", codes=(DONE, MISSING, USAGE)))
def status(
    pool: Annotated[
        str | None, typer.Option(metavar="NAME", help="Tell only whether this pool is up.")
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Of that pool, look at this host's workers alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell whether Redis takes writes, which pools are up, how sweeps and archive fare, versions.

    Exit code 1 if something needed is missing: Redis, the broker, a pool, a sweep that is late, or
    an archive that is not fit to search.
    Starts nothing; writes one key, which it reads back and deletes. With --pool nothing is written,
    and exit code 1 means that no worker of it has reported for 20 s: a container's health check.
    """
    if pool is not None or here:
        answer = check_pool(client_settings(), pool, here=here)
        (show_json if as_json else _show_pool)(answer)
        raise typer.Exit(DONE if answer["up"] else MISSING)
    health = check_health(client_settings())
    if as_json:
        show_json(health)
    else:
        _show(health)
    raise typer.Exit(MISSING if health["missing"] else DONE)


def _show(health: Mapping[str, Any]) -> None:
    show_fields({"redis": _store(health["redis"]), "broker": _broker(health["broker"])})
    workers = [row for pool in health["pools"] for row in _workers(pool)]
    if workers:
        show_text("")
        show_table(("POOL", "WORKER", "STATE", "RESTARTS", "LAST EXIT"), workers)
    if health["sweeps"]:
        show_text("")
        show_table(("SWEEP", "EVERY", "LAST", "DID", "STATE"), map(_sweep, health["sweeps"]))
    if health["archive"] is not None:
        show_text("")
        show_fields({"archive": _archive(health["archive"])})
    show_text("")
    show_fields({name: value or "none" for name, value in health["versions"].items()})
    for kind in ("missing", "warnings"):
        for sentence in health[kind]:
            show_text(f"{kind.removesuffix('s')}: {sentence}")


def _show_pool(answer: Mapping[str, Any]) -> None:
    workers = ", ".join(f"{each['worker']} {each['state']}" for each in answer["workers"])
    show_text(f"{answer['pool']}: {'up' if answer['up'] else 'not up'} ({workers or 'no worker'})")


def _sweep(sweep: Mapping[str, Any]) -> tuple[str, ...]:
    age_seconds = sweep["seconds_since_success"]
    last = "never" if age_seconds is None else f"{age_seconds:.0f} s ago"
    state = "late" if sweep["late"] else "runs" if sweep["running"] else "on time"
    did = "-" if sweep["result"] is None else str(sweep["result"])
    return sweep["name"], f"{sweep['period_seconds']:g} s", last, did, state


def _archive(archive: Mapping[str, Any]) -> str:
    index = "searchable" if archive["problem"] is None else "not fit to search"
    return (
        f"{archive['archived']} archived ({archive['held']} held, {archive['waiting_for_index']} "
        f"not yet indexed); {index}, {archive['passages']} passages; "
        f"{size(archive['free_disk_bytes'])} free; as of {archive['checked_at']}"
    )


def _store(store: Mapping[str, Any]) -> str:
    if not store["reachable"]:
        return f"not reachable: {store['problem']}"
    kind = "embedded, " if store["embedded"] else ""
    if "version" not in store:
        return f"{kind}{store['address']}; {store['problem']}"
    persistence = "append-only file" if store["append_only_file"] else "no append-only file"
    return (
        f"{kind}{store['address']}; {store['server']} {store['version']}, {persistence}, "
        f"{store['maxmemory_policy']}, {size(store['memory_bytes'])} used"
    )


def _broker(broker: Mapping[str, Any]) -> str:
    if broker["reachable"] is None:
        return f"{broker['address']} (not checked)"
    return f"{broker['address'] or 'none'}{'' if broker['reachable'] else ' (not reachable)'}"


def _workers(pool: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for worker in pool["workers"]:
        wait = worker["retry_in_seconds"]
        state = worker["state"] if wait is None else f"{worker['state']}, again in {wait:g} s"
        restarts = str(worker["restarts"])
        yield pool["pool"], worker["worker"], state, restarts, worker["last_exit"] or "-"
