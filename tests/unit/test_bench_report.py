"""The bench: its arithmetic, its texts, its flawed baseline, and one small run of all of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from baton.content.wire_chunks import assemble_context, chunk_context
from bench import literal_listing
from bench.corpus import EDIT_BYTES, ascii_text, edited, realistic_text
from bench.measure import WrongResultError, expect, interleave
from bench.render import as_markdown, duration, times
from bench.report import Report, Row, Side

ROOT = Path(__file__).parents[2]


def row(ours: list[float], other: list[float], target: float | None = None) -> Row:
    return Row(
        key="store",
        what="store 10 MB",
        ours=Side(name="put", seconds=ours),
        other=Side(name="raw SET", seconds=other),
        target=target,
    )


def test_ratio_is_taken_pair_by_pair():
    """Noise that slows both of a round leaves the ratio of that round as it is."""
    ratio = row([1.0, 10.0, 2.2], [2.0, 20.0, 2.0]).ratio
    assert (ratio.min, ratio.median, ratio.max) == (0.5, 0.5, 1.1)


@pytest.mark.parametrize(("target", "meets"), [(0.5, True), (0.4, False), (None, None)])
def test_target_is_met_by_the_median_ratio(target, meets):
    """A target is the largest median ratio that is still met."""
    assert row([1.0], [2.0], target).meets is meets


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
    report = Report(
        measured_at="2026-01-01", machine={"cores": "2"}, method={}, rows=[row([1.0], [2.0], 0.4)]
    )
    line = as_markdown(report).splitlines()[-1]
    assert line.startswith("| store 10 MB | 1 s (1 s to 1 s) | raw SET: 2 s")
    assert "(missed)" in line


def test_report_survives_its_json():
    """What was written can be shown again."""
    report = Report(measured_at="now", machine={}, method={}, rows=[row([1.0], [2.0], 0.4)])
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_figures_are_shown_with_three_digits_and_a_unit():
    """From microseconds to seconds, and small ratios as fractions."""
    shown = [duration(seconds) for seconds in (4.12e-4, 0.0162, 1.04, 123.4)]
    assert shown == ["412 µs", "16.2 ms", "1.04 s", "123 s"]
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


def test_literal_listing_loses_the_text_where_ours_gives_it_back():
    """The baseline is the protocol's listing with its flaw: overlaps are left in."""
    text = ascii_text(1_500_000)
    assert literal_listing.assemble(literal_listing.chunk(text)) != text
    assert assemble_context(chunk_context(text)) == text


@pytest.mark.slow
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
        "listing",
        "noop_20",
        "context_fan_out",
        "context_by_value",
    ]
