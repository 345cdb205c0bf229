"""`python -m bench`: measures, prints a table, writes `latest.json` and `latest.png`."""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import importlib.util
import os
import platform
import sys
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from isal import igzip
from pydantic import ValidationError
from rich.console import Console

from baton.content.digests import content_hash
from baton.redis_client import connect
from bench import lifecycle_rows, memory_rows, stopping
from bench.agent_rows import waiting_agents
from bench.archive_rows import archive_rows
from bench.conflict_rows import ConflictRows, merge
from bench.corpus import ROOT, realistic_text
from bench.handoff_rows import HandoffRows
from bench.listing_rows import round_trip
from bench.measure import WrongResultError
from bench.note_rows import notes
from bench.plan import Plan, quick
from bench.redaction_rows import redaction
from bench.render import as_markdown, as_table
from bench.report import Report, Row
from bench.sealed_rows import SealedRows
from bench.servers import private_redis, settle, worker_pools
from bench.store_rows import StoreRows
from bench.throughput_rows import throughput
from bench.version_rows import old_version

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import redis

    from config.settings import AppSettings

    _Bench = tuple[str, Callable[[], list[Row]]]

WRONG_RESULT: Final = 1
USAGE: Final = 2
CANCELLED: Final = 130

_progress = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or show the last run again; the exit code."""
    options = _parse(arguments)
    stopping.listen()
    try:
        report = _load(options.output) if options.last else _measure(options)
    except KeyboardInterrupt:
        # Celery's results, let go of only now, complain that their Redis has gone.
        sys.unraisablehook = lambda _: None
        _progress.print("Stopped; nothing was written.")
        return CANCELLED
    if report is None:
        _progress.print(f"{options.output}: no readable results; run without --last")
        return USAGE
    if not report.rows and not report.wrong:
        _progress.print(f"no bench is called {options.only!r}; see docs/benchmarks.md")
        return USAGE
    if not options.last:
        _save(report, options.output)
    if options.markdown:
        print(as_markdown(report))
    else:
        _terminal().print(as_table(report))
    for wrong in report.wrong:
        _progress.print(f"[red]WRONG RESULT[/red] {wrong}")
    return WRONG_RESULT if report.wrong else 0


def _measure(options: argparse.Namespace) -> Report:
    plan = quick(options.rounds or 3) if options.quick else Plan(options.rounds or 7)
    text = realistic_text(plan.size_bytes)
    load_before = os.getloadavg()[0]
    rows: list[Row] = []
    wrong: list[str] = []
    with private_redis() as settings, closing(_client(settings)) as client:
        machine = _machine(client)
        wanted = partial(fnmatch.fnmatch, pat=options.only)
        # Closed here, not when it is collected: the workers must stop before their Redis.
        with closing(_benches(client, settings, plan, text, wanted)) as benches:
            for name, measure in benches:
                _progress.print(f"measuring {name} …", style="dim")
                try:
                    rows += measure()
                except WrongResultError as error:
                    wrong.append(str(error))
                settle(client)
    load = f"{load_before:.1f} before, {os.getloadavg()[0]:.1f} after"
    return Report(
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine | {"load": load},
        method=_method(plan, text, settings),
        rows=rows,
        wrong=wrong,
    )


def _benches(
    client: redis.Redis,
    settings: AppSettings,
    plan: Plan,
    text: str,
    wanted: Callable[[str], bool],
) -> Generator[_Bench, None, None]:
    """The wanted benches by name. The workers start last: the others are to have the cores."""
    with (
        closing(StoreRows(client, plan, text)) as store,
        closing(ConflictRows(client, plan, text)) as conflicts,
        closing(SealedRows(client, plan, text)) as sealed,
    ):
        alone: list[_Bench] = [
            ("store", lambda: [store.store_new()]),
            ("get_cold", lambda: [store.get_cold()]),
            ("get_cached", lambda: [store.get_cached()]),
            ("edit", lambda: [store.edit()]),
            ("append", lambda: [store.append()]),
            ("conflict", conflicts.rows),
            ("merge", lambda: [merge(plan, text)]),
            ("sealed_put", lambda: [sealed.put()]),
            ("sealed_get", lambda: [sealed.get()]),
            ("redaction", lambda: redaction(plan, text)),
            ("old_version", lambda: [old_version(client, plan, text)]),
            ("notes", lambda: [notes(client, plan, text)]),
            ("versions_memory", lambda: [memory_rows.versions(client, plan, text)]),
            ("sessions_memory", lambda: [memory_rows.sessions(client, plan, text)]),
            ("node_memory", lambda: [memory_rows.waiting_nodes(client, plan)]),
            ("throughput", lambda: throughput(client, settings, plan, text)),
            ("listing", lambda: [round_trip(plan)]),
            ("embed", partial(archive_rows, plan, "embed")),
            ("archive_find", partial(archive_rows, plan, "find")),
            ("archiving", lambda: lifecycle_rows.archiving(client, plan)),
            ("sweep", lambda: lifecycle_rows.sweep(client, plan)),
        ]
        yield from (bench for bench in alone if wanted(bench[0]))
    # Before the others' pools: it starts its own, of as many threads as it has agents.
    if wanted("waiting_agents"):
        yield "waiting_agents", partial(_waiting_agents, client, settings, plan)
    widths = {f"noop_{nodes}": nodes for nodes in (plan.nodes, *plan.wide_nodes)}
    if not any(map(wanted, (*widths, "context_fan_out", "fairness"))):
        return
    with worker_pools(settings), closing(HandoffRows(client, settings, plan, text)) as handoffs:
        for name, nodes in widths.items():
            if wanted(name):
                yield name, partial(_one, handoffs.no_ops, nodes)
        if wanted("context_fan_out"):
            yield "context_fan_out", handoffs.over_context
        if wanted("fairness"):
            yield "fairness", lambda: [handoffs.behind_many()]


def _waiting_agents(client: redis.Redis, settings: AppSettings, plan: Plan) -> list[Row]:
    return [waiting_agents(client, settings, plan)]


def _one(measure: Callable[[int], Row], nodes: int) -> list[Row]:
    return [measure(nodes)]


def _terminal() -> Console:
    """Standard output; as wide as the table likes it where that is a file."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def _client(settings: AppSettings) -> redis.Redis:
    return connect(settings.redis_url.get_secret_value() if settings.redis_url else "", settings)


def _machine(client: redis.Redis) -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    server = client.info("server")
    versions = {name: importlib.metadata.version(name) for name in ("celery", "redis", "isal")}
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(cores),
        "Python": platform.python_version(),
        "redis-server": str(server["redis_version"]),
        "redis-py": versions["redis"],
        "Celery": versions["celery"],
        "isal": versions["isal"],
    }


def _method(plan: Plan, text: str, settings: AppSettings) -> dict[str, str]:
    data = text.encode()
    ratio = len(data) / len(igzip.compress(data, 1))
    return {
        "rounds": f"{plan.rounds}, interleaved, after a warm-up",
        "text": f"{len(data):,} bytes, {ratio:.2f} times smaller by igzip -1, "
        f"{content_hash(data)[:19]}",
        "agents pool": f"{settings.agents_processes} process of {settings.agents_threads} threads",
    }


def _save(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _progress.print(f"wrote {folder / 'latest.json'}", style="dim")
    if not report.rows:
        return
    if importlib.util.find_spec("matplotlib") is None:
        _progress.print("no picture: matplotlib is not installed (`make bench` does)", style="dim")
        return
    from bench.plot import save_plot  # noqa: PLC0415  # an extra that may be missing

    save_plot(report, folder / "latest.png")
    _progress.print(f"wrote {folder / 'latest.png'}", style="dim")


def _load(folder: Path) -> Report | None:
    try:
        return Report.model_validate_json((folder / "latest.json").read_bytes())
    except (OSError, ValidationError):
        return None


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Baton beside floors and peers, on a private Redis and private "
        "workers. Exit code 0 unless a result is wrong; slow is not wrong.",
        epilog="example: python -m bench --only 'get_*' --rounds 21",
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="default 7; 3 with --quick")
    parser.add_argument("--quick", action="store_true", help="1 MB, a smoke run")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="benches, e.g. 'noop_*'")
    parser.add_argument("--markdown", action="store_true", help="print docs/benchmarks.md's table")
    parser.add_argument("--last", action="store_true", help="show the last run; measure nothing")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "bench" / "results", metavar="DIR", help="results"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
