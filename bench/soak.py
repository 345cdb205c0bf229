"""`python -m bench.soak`: Baton under random kills, freezes, cuts and crashes; Celery beside it.

Counts what was lost, committed twice, paid again or left hanging, from a ledger that the runners
write themselves. Exit code 0 if none was, 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from baton import routes
from bench import soak_ledger, stopping
from bench.corpus import ROOT
from bench.soak_faults import Faults
from bench.soak_load import STOCK_APPS, BatonLoad, Load, StockLoad, Verdict
from bench.soak_site import redis_behind_proxy
from config.settings import AppSettings
from workers import lifeline
from workers.pools import beat_command, pools, worker_command
from workers.supervisor import Backoff, Program, Supervisor

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence

    from bench.soak_site import CutProxy, SoakRedis

VIOLATED: Final = 1
CANCELLED: Final = 130

_LEASE_SECONDS: Final = 5.0
_PROCESSES: Final = 2
_THREADS: Final = 12
_TICK_SECONDS: Final = 0.05
_RUNNERS: Final = {
    f"soak_{name}": f"bench.soak_runners:{name}" for name in ("work", "family", "poison")
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak Baton, then stock Celery; print both; the exit code."""
    options = _parse(arguments)
    stopping.listen()
    print(f"seed {options.seed}: {options.minutes:g} minutes of faults each")
    contestants = ["Baton"] if options.no_stock else ["Baton", "default", "late"]
    results: dict[str, _Result] = {}
    try:
        for name in contestants:
            results[name] = _soak(name, options)
        if options.poison:
            _tell_poison(options)
    except KeyboardInterrupt:
        print("Stopped.")
        return CANCELLED
    # Celery's results, let go of only now, complain that their Redis has gone.
    sys.unraisablehook = lambda _: None
    Console(width=None if sys.stdout.isatty() else 110).print(_table(results))
    for problem in results["Baton"].verdict.other[:20]:
        print(f"VIOLATION {problem}")
    return VIOLATED if results["Baton"].verdict.violations else 0


class _Result:
    """What one contestant came to."""

    def __init__(self, verdict: Verdict, ledger: soak_ledger.Ledger, faults: Faults) -> None:
        self.verdict = verdict
        self.executions = soak_ledger.starts(ledger)
        self.recoveries = soak_ledger.recoveries(ledger, faults.kills)
        self.faults = faults.done


def _soak(name: str, options: argparse.Namespace) -> _Result:
    with _contestant(name, options) as (site, load, supervisor, server, proxy):
        chance = random.Random(options.seed + 1)
        workers = routes.AGENTS if name == "Baton" else "stock"
        faults = Faults(chance, server, proxy, supervisor, workers, 1.2 * _LEASE_SECONDS)
        _run(load, supervisor, faults, options)
        ledger = soak_ledger.read(site.ledger)
        with server.client() as client:
            result = _Result(load.judge(ledger, client), ledger, faults)
        if options.keep is not None:
            shutil.copytree(
                site.folder, options.keep / name, dirs_exist_ok=True, ignore=_ignore_sockets
            )
        return result


def _throughput(options: argparse.Namespace, *, poison: bool) -> tuple[float, str, list[float]]:
    """Nodes a second over a minute without faults, with or without a poison task beside them.

    Also what became of that, and how long each of its kills delayed what it interrupted.
    """
    with _contestant("Baton", options) as (site, load, supervisor, _, _):
        _warm_up(load, supervisor, site)
        poisoned = load.poison() if poison else None
        begin = time.time()
        while time.time() < begin + 60:
            _tick(load, supervisor, submits=True)
        ledger = soak_ledger.read(site.ledger)
        per_second = soak_ledger.ends(ledger, begin, begin + 60) / 60
        if poisoned is None:
            return per_second, "", []
        kills = soak_ledger.starts_of(ledger, poisoned)
        return per_second, load.fate(poisoned), soak_ledger.recoveries(ledger, kills)


def _warm_up(load: BatonLoad, supervisor: Supervisor, site: _Site) -> None:
    while soak_ledger.ends(soak_ledger.read(site.ledger), 0, time.time()) < 100:
        _tick(load, supervisor, submits=True)


@contextlib.contextmanager
def _contestant(
    name: str, options: argparse.Namespace
) -> Iterator[tuple[_Site, Any, Supervisor, SoakRedis, CutProxy]]:
    """A contestant's processes, started over a Redis of their own; all gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="baton-soak-") as temporary,
        redis_behind_proxy(Path(temporary)) as (server, proxy),
        lifeline.opened() as lifeline_fd,
        contextlib.ExitStack() as stack,
    ):
        site = _Site(
            name=name,
            folder=Path(temporary),
            url=f"redis://127.0.0.1:{proxy.port}/0",
            ledger=Path(temporary) / "ledger.jsonl",
            lifeline_fd=lifeline_fd,
            chance=random.Random(options.seed),
        )
        load, supervisor = _baton(site) if name == "Baton" else _stock(site)
        stack.callback(load.close)
        stack.callback(supervisor.kill)
        supervisor.start()
        yield site, load, supervisor, server, proxy


def _run(load: Load, supervisor: Supervisor, faults: Faults, options: argparse.Namespace) -> None:
    """Faults over the load for so many minutes; then no faults, until all has ended or may not."""
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        _tick(load, supervisor, submits=True)
        faults.tick()
    faults.heal()
    give_up_at = time.monotonic() + options.grace_seconds
    while load.under_way and time.monotonic() < give_up_at:
        _tick(load, supervisor, submits=False)


def _tick(load: Load, supervisor: Supervisor, *, submits: bool) -> None:
    stopping.check()
    supervisor.check()
    load.tick(submits=submits)
    time.sleep(_TICK_SECONDS)


# --- the contestants -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Site:
    """What a contestant is made for."""

    name: str
    folder: Path
    url: str
    ledger: Path
    lifeline_fd: int
    chance: random.Random


def _baton(site: _Site) -> tuple[Load, Supervisor]:
    """The pools and beat by their real command lines, with a lease of 5 s."""
    settings = AppSettings.model_construct(
        redis_url=SecretStr(site.url),
        state_dir=site.folder,
        agents_processes=_PROCESSES,
        agents_threads=_THREADS,
        lease_seconds=_LEASE_SECONDS,
        redis_timeout_seconds=3.0,
        audit_anchor="off",
    )
    environment = {
        "BATON_REDIS_URL": site.url,
        "BATON_STATE_DIR": str(site.folder),
        "BATON_AGENTS_THREADS": str(_THREADS),
        "BATON_LEASE_SECONDS": str(_LEASE_SECONDS),
        "BATON_NODE_SWEEP_SECONDS": "1",
        "BATON_REDIS_TIMEOUT_SECONDS": "3",
        "BATON_AUDIT_ANCHOR": "off",
        "BATON_RUNNER_FUNCTIONS": json.dumps(_RUNNERS),
        "BATON_RUNNER_PATH": str(ROOT),
        "BATON_LIFELINE_FD": str(site.lifeline_fd),
        "BATON_WARM_SHUTDOWN_SECONDS": "2",
    }
    programs = [
        Program(f"{pool.name}-{number}@soak", pool.name,
                worker_command(pool, f"{pool.name}-{number}@soak", settings),
                site.folder / f"{pool.name}-{number}.log")
        for pool in pools(settings) if pool.name != routes.ARCHIVE
        for number in range(pool.processes)
    ]  # fmt: skip
    beat = beat_command("beat@soak", settings)
    programs.append(Program("beat@soak", "beat", beat, site.folder / "beat.log"))
    load = BatonLoad(site.url, settings, site.ledger, site.chance)
    return load, _supervisor(site, programs, environment)


def _stock(site: _Site) -> tuple[Load, Supervisor]:
    """As many workers, under Celery's own defaults, or those with late acks."""
    broker = site.url.removesuffix("/0")
    programs = []
    for number in range(_PROCESSES):
        node = f"stock-{number}@soak"
        command = [
            sys.executable, "-m", "celery", "--app", f"bench.soak_stock:{site.name}",
            "--broker", f"{broker}/1", "--result-backend", f"{broker}/1",
            "worker", "--hostname", node, "--pool", "threads", "--concurrency", str(_THREADS),
        ]  # fmt: skip
        programs.append(Program(node, "stock", command, site.folder / f"stock-{number}.log"))
    app = STOCK_APPS[site.name]
    app.conf.update(broker_url=f"{broker}/1", result_backend=f"{broker}/1")
    return StockLoad(app, site.ledger, site.chance), _supervisor(site, programs, {})


def _supervisor(site: _Site, programs: list[Program], environment: dict[str, str]) -> Supervisor:
    """It says nothing of deaths: they are what this is about."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("BATON_")}
    return Supervisor(
        programs=programs,
        environment=inherited | environment,
        folder=ROOT,
        backoff=Backoff(0.2, 2.0),
        say=lambda _: None,
        pass_fds=(site.lifeline_fd,),
    )


def _ignore_sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_socket()]


# --- what is told --------------------------------------------------------------------------------


_ROWS: Final[dict[str, Callable[[_Result], object]]] = {
    "submitted": lambda r: r.verdict.submitted,
    "nodes": lambda r: r.verdict.nodes,
    "executions": lambda r: r.executions,
    "lost": lambda r: r.verdict.lost,
    "committed (joined) twice": lambda r: r.verdict.twice,
    "run again after a stored result": lambda r: r.verdict.paid_again,
    "stuck": lambda r: r.verdict.stuck,
    "census wrong": lambda r: r.verdict.miscounted,
    "other violations": lambda r: len(r.verdict.other),
    "states of nodes": lambda r: _counts(r.verdict.states),
    "faults": lambda r: _counts(r.faults),
    "SIGKILL to next start": lambda r: _recovery(r.recoveries),
}


def _table(results: dict[str, _Result]) -> Table:
    titles = {"default": "Celery, defaults", "late": "Celery, acks_late"}
    table = Table("", *(titles.get(name, name) for name in results))
    for row, show in _ROWS.items():
        table.add_row(row, *(str(show(result)) for result in results.values()))
    return table


def _tell_poison(options: argparse.Namespace) -> None:
    alone, _, _ = _throughput(options, poison=False)
    beside, fate, recoveries = _throughput(options, poison=True)
    share = beside / alone if alone else 0.0
    print(
        f"beside a task that kills its process: {beside:.1f} of {alone:.1f} nodes/s "
        f"({share:.0%}); it {fate}; each kill to the next start: {_recovery(recoveries)}"
    )


def _counts(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counted.items()))


def _recovery(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    p50, p95 = (soak_ledger.percentile(seconds, share) for share in (0.5, 0.95))
    return f"p50 {p50:.1f} s, p95 {p95:.1f} s, of {len(seconds)}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description="Run trees of nodes while workers are killed and frozen, connections cut, and "
        "Redis crashed; count what was lost or done twice. Then the same on stock Celery.",
        epilog="example: python -m bench.soak --minutes 10 --seed 7",
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="of faults, for each (2)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of everything")
    parser.add_argument("--grace-seconds", type=float, default=90.0, help="to end in, after (90)")
    parser.add_argument("--no-stock", action="store_true", help="Baton only")
    parser.add_argument("--poison", action="store_true", help="throughput beside a poison task")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep ledger, logs and data there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
