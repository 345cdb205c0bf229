"""`python -m bench`: measures, prints a table, writes `latest.json` and `latest.png`."""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import importlib.util
import os
import platform
import signal
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from isal import igzip
from pydantic import ValidationError
from rich.console import Console

from baton.content.digests import content_hash
from baton.redis_client import connect
from bench.corpus import ROOT, realistic_text
from bench.handoff_rows import HandoffRows
from bench.listing_rows import round_trip
from bench.measure import WrongResultError
from bench.plan import Plan, quick
from bench.render import as_markdown, as_table
from bench.report import Report, Row
from bench.servers import private_redis, settle, worker_pools
from bench.store_rows import StoreRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from config.settings import AppSettings

WRONG_RESULT: Final = 1
USAGE: Final = 2
CANCELLED: Final = 130

_progress = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or show the last run again; the exit code."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop the servers on it, too
    try:
        report = _load(options.output) if options.last else _measure(options)
    except KeyboardInterrupt:
        _progress.print("Stopped; nothing was written.")
        return CANCELLED
    if report is None:
        _progress.print(f"{options.output}: no readable results; run without --last")
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
        for name, measure in _benches(client, settings, plan, text):
            if fnmatch.fnmatch(name, options.only):
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
    client: redis.Redis, settings: AppSettings, plan: Plan, text: str
) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Each bench by name. The workers start last: the others are to have the cores."""
    with closing(StoreRows(client, plan, text)) as store:
        yield "store", lambda: [store.store_new()]
        yield "get_cold", lambda: [store.get_cold()]
        yield "get_cached", lambda: [store.get_cached()]
        yield "edit", lambda: [store.edit()]
    yield "listing", lambda: [round_trip(plan)]
    with worker_pools(settings), closing(HandoffRows(client, settings, plan, text)) as handoffs:
        for nodes in filter(None, (plan.nodes, plan.wide_nodes)):
            yield f"noop_{nodes}", lambda: [handoffs.no_ops(nodes)]  # noqa: B023  # called at once
        yield "context_fan_out", handoffs.over_context


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
