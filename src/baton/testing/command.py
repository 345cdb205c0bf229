"""The command `python -m baton.testing`: judges a deployment and prints a table of it."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from baton.cli.exits import DONE, code_of_error
from baton.cli.interrupts import raise_on_signals
from baton.cli.output import say, show_error, show_table, show_text, use_safe_streams
from baton.errors import BatonError, InvalidInputError, StoreUnavailableError
from baton.redis_client import connect, redact_url, why_silent
from baton.settings import ClientSettings, load_settings
from baton.testing.catalog import CASES, GROUPS
from baton.testing.deployment import Deployment
from baton.testing.running import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.testing.running import Verdict

UNFIT: Final = 1

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Exit codes: 0 fit, 1 a case failed, 2 wrong usage, 4 Redis does not answer.")
def conform(
    redis_url: Annotated[
        str | None, typer.Option(help="What to judge; without it, BATON_REDIS_URL.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help=f"Only these: {', '.join(GROUPS)}.")
    ] = None,
    tamper: Annotated[
        bool, typer.Option(help="Look at what is stored and damage it, in sessions of its own.")
    ] = True,
    allow_volatile: Annotated[
        bool, typer.Option(help="It is meant to lose everything when Redis crashes.")
    ] = False,
    verbose: Annotated[bool, typer.Option(help="Print every case, not only groups.")] = False,
) -> None:
    """Is this Redis, with its settings, rights and proxies, fit for Baton's contexts?

    Works on sessions of its own, named at random, and deletes them; their audit trails stay, and
    expire after 128 days. Flushes nothing and changes no setting.
    """
    settings = load_settings(ClientSettings)
    url = _url(redis_url, settings)
    cases = [case for case in CASES if not group or case.group in _known(group)]
    silent = why_silent(url)
    if silent is not None:
        raise StoreUnavailableError(silent)
    with closing(connect(url, settings, field="--redis-url")) as client:
        deployment = Deployment(client, tampers=tamper, allow_volatile=allow_volatile)
        verdicts = list(judge(cases, deployment))
    _show(verdicts, verbose=verbose)
    say(
        f"Sessions {deployment.prefix}* of {redact_url(url)} are deleted; of some the audit stays "
        "and expires after 128 days."
    )
    raise typer.Exit(UNFIT if any(each.outcome == "failed" for each in verdicts) else DONE)


def run() -> NoReturn:
    """Run what the command line says, and exit with its code."""
    use_safe_streams()
    raise_on_signals()
    try:
        typer.main.get_command(app).main(prog_name="python -m baton.testing")
    except BatonError as error:
        show_error(error, as_json=False)
        sys.exit(code_of_error(error))
    sys.exit(DONE)


def _url(given: str | None, settings: ClientSettings) -> str:
    if given is not None:
        return given
    if settings.redis_url is None:
        raise InvalidInputError("--redis-url", "a URL, here or in BATON_REDIS_URL", "<none>")
    return settings.redis_url.get_secret_value()


def _known(groups: Sequence[str]) -> Sequence[str]:
    for group in groups:
        if group not in GROUPS:
            raise InvalidInputError("--group", f"one of {', '.join(GROUPS)}", group)
    return groups


def _show(verdicts: Sequence[Verdict], *, verbose: bool) -> None:
    if verbose:
        rows = [(v.case.group, v.case.name, v.outcome, f"{v.seconds:.2f}") for v in verdicts]
        show_table(("GROUP", "CASE", "OUTCOME", "SECONDS"), rows)
    else:
        show_table(("GROUP", "PASSED", "FAILED", "SKIPPED", "SECONDS"), _rows_of_groups(verdicts))
    for each in verdicts:
        if each.outcome != "passed":
            show_text(f"\n{each.outcome}: {each.case.group}: {each.case.name}")
            show_text(f"  {each.case.sentence}\n  {each.reason}")


def _rows_of_groups(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    rows = [
        _row(group, of_group)
        for group in GROUPS
        if (of_group := [each for each in verdicts if each.case.group == group])
    ]
    return [*rows, _row("all", verdicts)]


def _row(name: str, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    counts = Counter(each.outcome for each in verdicts)
    seconds = sum(each.seconds for each in verdicts)
    counted = (str(counts[outcome]) for outcome in ("passed", "failed", "skipped"))
    return (name, *counted, f"{seconds:.1f}")
