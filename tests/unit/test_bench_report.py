"""The bench: its arithmetic, its texts, its flawed baseline, and one small run of all of it."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from baton.content.wire_chunks import assemble_context, chunk_context
from bench import literal_listing
from bench.corpus import (
    EDIT_BYTES,
    ascii_text,
    edited,
    fresh_text,
    pieces,
    realistic_text,
    with_lines_changed,
)
from bench.measure import WrongResultError, expect, interleave
from bench.plan import Plan, quick
from bench.render import as_markdown, as_table, duration, size, times
from bench.report import Report, Row, Side

ROOT = Path(__file__).parents[2]


def row(ours: list[float], other: list[float], target: float | None = None) -> Row:
    return Row(
        key="store",
        what="store 10 MB",
        ours=Side(name="put", took=ours),
        other=Side(name="raw SET", took=other),
        target=target,
    )


def memory_row(used: float, limit: float | None) -> Row:
    return Row(
        key="versions_memory",
        what="1,000 versions",
        ours=Side(name="one session", took=[used]),
        other=Side(name="floor", took=[10e6]),
        unit="bytes",
        limit=limit,
    )


def markdown_line(row: Row) -> str:
    return as_markdown(report_of(row)).splitlines()[-1]


def report_of(row: Row) -> Report:
    return Report(measured_at="2026-01-01", machine={"cores": "2"}, method={}, rows=[row])


def test_ratio_is_taken_pair_by_pair():
    """Noise that slows both of a round leaves the ratio of that round as it is."""
    ratio = row([1.0, 10.0, 2.2], [2.0, 20.0, 2.0]).ratio
    assert (ratio.min, ratio.median, ratio.max) == (0.5, 0.5, 1.1)


@pytest.mark.parametrize(("target", "meets"), [(0.5, True), (0.4, False), (None, None)])
def test_target_is_met_by_the_median_ratio(target, meets):
    """A target is the largest median ratio that is still met."""
    assert row([1.0], [2.0], target).meets is meets


@pytest.mark.parametrize(("limit", "meets"), [(30e6, True), (20e6, False), (None, None)])
def test_limit_is_met_by_the_median_of_ours(limit, meets):
    """A limit is the largest median of ours that is still met, whatever the ratio."""
    assert memory_row(25e6, limit).meets is meets


def test_row_meets_both_its_target_and_its_limit():
    """A row with a target and a limit meets neither alone."""
    within_target = row([1.0], [2.0], 0.5)
    assert within_target.model_copy(update={"limit": 1.0}).meets is True
    assert within_target.model_copy(update={"limit": 0.9}).meets is False


def test_row_without_another_side_has_no_ratio_and_misses_no_target():
    """Where the peer is not installed there is nothing to say of a target."""
    alone = row([1.0], [2.0], 0.5).model_copy(update={"other": None})
    assert (alone.ratio, alone.meets) == (None, None)
    assert markdown_line(alone) == "| store 10 MB | 1 s | — | — | ≤ 0.5 × |  |"
    assert as_table(report_of(alone)).row_count == 1


def test_fact_with_a_target_is_judged_in_a_full_run_only():
    """A quick run, for whose sizes no target was set, tells the figure alone."""
    assert Plan(7).judged("85 KiB", target="≤ 96 KiB", met=True) == "85 KiB (target ≤ 96 KiB: met)"
    assert Plan(7).judged("99 KiB", target="≤ 96 KiB", met=False).endswith("missed)")
    assert quick(1).judged("99 KiB", target="≤ 96 KiB", met=False) == "99 KiB"


def test_interleave_takes_turns_and_leaves_the_warm_up_out():
    """Each round runs every contestant once; the first round is not counted."""
    calls = []

    def contestant(name):
        return lambda number: calls.append((name, number)) or float(number)

    took = interleave({"a": contestant("a"), "b": contestant("b")}, 2)
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert took == {"a": [1.0, 2.0], "b": [1.0, 2.0]}


def test_wrong_result_is_refused_by_the_contestants_name():
    """A contestant that gives a wrong result is named, with what was expected and got."""
    with pytest.raises(WrongResultError, match=r"put: expected 1, got 2"):
        expect("put", 1, 2)


def test_markdown_has_a_line_for_each_row():
    """The table for the documentation says times, ratio, target and whether it was missed."""
    line = markdown_line(row([1.0, 1.0], [2.0, 2.0], 0.4))
    assert line.startswith("| store 10 MB | 1 s (1 s to 1 s) | raw SET: 2 s")
    assert "(missed)" in line


def test_markdown_shows_bytes_as_bytes_and_one_figure_without_a_spread():
    """Memory is measured once; its limit is in the column of targets."""
    assert (
        markdown_line(memory_row(31.5e6, 30e6))
        == "| 1,000 versions | 31.5 MB | floor: 10 MB | 3.15 × | ≤ 30 MB (missed) |  |"
    )


def test_report_survives_its_json():
    """What was written can be shown again."""
    report = Report(measured_at="now", machine={}, method={}, rows=[row([1.0], [2.0], 0.4)])
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_figures_are_shown_with_three_digits_and_a_unit():
    """From microseconds to seconds, and small ratios as fractions."""
    shown = [duration(seconds) for seconds in (4.12e-4, 0.0162, 1.04, 123.4)]
    assert shown == ["412 µs", "16.2 ms", "1.04 s", "123 s"]
    assert [size(figure) for figure in (412e3, 31.52e6, 1.04e9)] == ["412 KB", "31.5 MB", "1.04 GB"]
    assert [times(ratio)[:-2] for ratio in (0.713, 1.5, 1 / 80)] == ["0.713", "1.5", "1/80"]


def test_realistic_text_has_the_size_asked_for_and_repeats_itself_exactly():
    """Same seed, same text, of exactly so many bytes of UTF-8, not all of it ASCII."""
    text = realistic_text(300_001)
    assert len(text.encode()) == 300_001
    assert text == realistic_text(300_001)
    assert not text.isascii()


def test_edit_changes_one_kilobyte_in_the_middle():
    """The rest of the text is as before, whatever the number of the edit."""
    text = realistic_text(100_000)
    changed = edited(text, 1)
    middle = len(text) // 2
    assert changed[:middle] == text[:middle]
    assert changed[middle + EDIT_BYTES :] == text[middle + EDIT_BYTES :]
    assert changed != edited(text, 2) != text


def test_edit_may_stand_elsewhere_and_be_longer():
    """What stands before and behind it is as before."""
    text = realistic_text(10_000)
    assert edited(text, 1, at=100, size=2_000) == text[:100] + fresh_text(2_000, 1) + text[2_100:]


def test_pieces_have_the_size_asked_for_and_split_no_character():
    """Up to three bytes are missing where a character would be split; the rest is left out."""
    text = realistic_text(10_500)
    made = pieces(text, 1_000)
    assert len(made) == 10
    assert all(997 <= len(piece.encode()) <= 1_000 for piece in made)
    assert all(piece in text for piece in made)


def test_changed_lines_of_two_sides_never_touch():
    """Each side has so many changes, and an unchanged line stands between any two of both."""
    lines = realistic_text(100_000).split("\n")
    changed = []
    for side in (0, 1):
        made = with_lines_changed("\n".join(lines), 20, side=side).split("\n")
        changed += [at for at, line in enumerate(lines) if made[at] != line]
    assert len(changed) == 40
    assert all(after - before > 1 for before, after in itertools.pairwise(sorted(changed)))


def test_literal_listing_loses_the_text_where_ours_gives_it_back():
    """The baseline is the protocol's listing with its flaw: overlaps are left in."""
    text = ascii_text(1_500_000)
    assert literal_listing.assemble(literal_listing.chunk(text)) != text
    assert assemble_context(chunk_context(text)) == text


@pytest.mark.slow
@pytest.mark.timeout(1_200)  # minutes beside other tests: it starts servers, pools and a model
def test_quick_run_measures_every_row_and_finds_no_wrong_result(tmp_path):
    """One round over real servers: exit code 0, every bench in the results, nothing wrong."""
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--rounds", "1", "--output", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "latest.json").read_text(encoding="utf-8"))
    assert report["wrong"] == []
    assert [each["key"] for each in report["rows"]] == [
        "store",
        "get_cold",
        "get_cached",
        "edit",
        "append",
        "conflict_last_write_wins",
        "conflict_reject",
        "merge",
        "sealed_put",
        "sealed_get",
        "redaction",
        "redaction_attack",
        "old_version",
        "notes",
        "versions_memory",
        "sessions_memory",
        "node_memory",
        "throughput_stores",
        "throughput_reads",
        "listing",
        "embed",
        "archive_find",
        "archive",
        "archive_again",
        "archive_edit",
        "archive_restore",
        "archive_planted",
        "sweep",
        "waiting_agents",
        "noop_20",
        "context_fan_out",
        "context_by_value",
        "fairness",
    ]
