"""Failpoints: what a setting means, what is refused, and that code, list and manual agree."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from baton import failpoints
from baton.errors import BrokerUnavailableError, SettingsError, StoreUnavailableError
from baton.failpoints import FAILPOINTS, arm, parse, reach
from baton.settings import ClientSettings, load_settings

ROOT = Path(__file__).parents[2]
POINT = "node.committed"


@pytest.fixture(autouse=True)
def disarmed():
    yield
    arm("")


def reach_in_a_process(setting: str) -> subprocess.Popen[bytes]:
    code = f"from baton.failpoints import arm, reach; arm({setting!r}); reach({POINT!r})"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


def raises_at(setting: str, reaches: int) -> list[int]:
    """At which of so many reachings an error came, from 1."""
    arm(setting)
    raised = []
    for count in range(1, reaches + 1):
        try:
            reach(POINT)
        except StoreUnavailableError:
            raised.append(count)
    return raised


def test_reach_does_nothing_while_nothing_is_armed():
    """One look at a variable."""
    assert failpoints._armed is None
    for name in FAILPOINTS:
        reach(name)


@pytest.mark.parametrize(
    ("setting", "raised"),
    [
        (f"{POINT}=raise", [1, 2, 3, 4]),
        (f" {POINT}=raise@3 , ", [3]),
        (f"{POINT}=raise%1", [1, 2, 3, 4]),
        (f"{POINT}=raise%0.0", []),
        ("node.claimed=raise", []),
        ("", []),
    ],
)
def test_reach_fails_when_the_setting_says(setting, raised):
    """Always, at one count, with a chance; and at no other place."""
    assert raises_at(setting, 4) == raised


def test_chances_of_a_seed_come_again_whatever_else_is_armed():
    """The same seed gives the same failures; another seed gives others."""
    first = raises_at(f"{POINT}=raise%.5,seed=7", 60)
    arm("")
    again = raises_at(f"seed=7,node.ran=raise%.5,{POINT}=raise%.5", 60)
    assert first == again
    assert 10 < len(first) < 50
    assert raises_at(f"{POINT}=raise%.5,seed=8", 60) != first


def test_raise_raises_the_error_that_is_named():
    """Its message says that it was asked for."""
    arm(f"{POINT}=raise:BrokerUnavailableError")
    with pytest.raises(BrokerUnavailableError, match=f"failpoint {POINT}"):
        reach(POINT)


def test_delay_waits():
    """At least as long as it is told to."""
    arm(f"{POINT}=delay:30")
    begin = time.monotonic()
    reach(POINT)
    assert time.monotonic() - begin >= 0.03


def test_kill_ends_the_process_as_sigkill_does():
    """No handler runs, nothing is flushed."""
    assert reach_in_a_process(f"{POINT}=kill").wait(30) == -signal.SIGKILL


def test_stop_freezes_the_process_until_it_is_continued():
    """As a machine that is suspended."""
    process = reach_in_a_process(f"{POINT}=stop")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 0


@pytest.mark.parametrize(
    "setting",
    [
        "nowhere=kill",
        f"{POINT}",
        f"{POINT}=explode",
        f"{POINT}=kill@0",
        f"{POINT}=kill@1%.5",
        f"{POINT}=kill%1.5",
        f"{POINT}=kill:now",
        f"{POINT}=delay",
        f"{POINT}=delay:soon",
        f"{POINT}=raise:KeyError",
        f"{POINT}=raise:FencedError",
        f"{POINT}=kill,{POINT}=stop",
        "seed=x",
    ],
)
def test_wrong_setting_is_refused_by_its_variables_name(monkeypatch, setting):
    """At the start of the process, and armed by hand."""
    monkeypatch.setenv("BATON_FAILPOINTS", setting)
    with pytest.raises(SettingsError, match=r"^BATON_FAILPOINTS: expected "):
        load_settings(ClientSettings)
    with pytest.raises(SettingsError, match=r"^BATON_FAILPOINTS: expected "):
        arm(setting)
    assert failpoints._armed is None


def test_setting_reaches_whoever_loads_settings(monkeypatch):
    """It is read with the others; none is armed before an entry point does."""
    monkeypatch.setenv("BATON_FAILPOINTS", f"{POINT}=kill")
    assert parse(load_settings(ClientSettings).failpoints)[0][0].name == POINT
    reach(POINT)


def test_arming_is_said_loudly(caplog):
    """Nobody runs with failpoints unawares."""
    arm(f"{POINT}=raise")
    assert [(r.levelname, "FAILPOINTS ARE ON" in r.message) for r in caplog.records] == [
        ("CRITICAL", True)
    ]
    arm("")
    assert len(caplog.records) == 1


def test_every_failpoint_of_the_code_is_declared_and_the_reverse():
    """`reach` is given names as they stand in FAILPOINTS, each at one place or more."""
    sources = [*(ROOT / "src" / "baton").rglob("*.py"), *(ROOT / "tasks").glob("*.py")]
    sources += (ROOT / "workers").glob("*.py")
    text = "\n".join(path.read_text() for path in sources if path.name != "failpoints.py")
    calls = re.findall(r"(?<!def )(?<![.\w])reach\(([^)]*)\)", text)
    assert {call.strip('"') for call in calls} == set(FAILPOINTS)
    assert len(FAILPOINTS) >= 25


def test_manual_lists_every_failpoint():
    """docs/operations.md has them with these words, in this order."""
    manual = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", manual, re.MULTILINE)
    assert [row for row in rows if row[0] in FAILPOINTS] == list(FAILPOINTS.items())
