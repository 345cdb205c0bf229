"""Processes of one node: a bounded number, and none that nothing can end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from pydantic import SecretStr

from config.settings import AppSettings
from workers import apart, one_node

FROZEN = """
import sys
import time
from workers import lifeline
lifeline.end_when_frozen(1.0)
if sys.argv[1] == "frozen":
    sum(range(10**15))  # one call: no other thread of the process runs during it
else:
    for _ in range(40):
        time.sleep(0.05)
"""


@pytest.fixture
def settings():
    return AppSettings(redis_url=SecretStr("redis://127.0.0.1:1/0"))


@pytest.fixture
def one_place(monkeypatch):
    monkeypatch.setattr(apart, "WAIT_SECONDS", 0.01)
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(apart, "_places", places)
    return places


def test_node_that_finds_no_place_is_left_to_be_published_again(settings, one_place, monkeypatch):
    monkeypatch.setattr(apart, "_run", pytest.fail)
    assert one_place.acquire(blocking=False)
    apart.run_apart(settings, "handoff_1", "0")
    one_place.release()


def test_process_that_cannot_be_started_gives_its_place_back(settings, one_place, monkeypatch):
    monkeypatch.setattr(apart.sys, "executable", "/no/such/python")
    apart.run_apart(settings, "handoff_1", "0")
    assert one_place.acquire(blocking=False)


@pytest.mark.parametrize(("how", "code"), [("frozen", -signal.SIGALRM), ("alive", 0)])
def test_process_that_holds_the_interpreter_is_ended_by_the_kernel(how, code):
    """Its own threads could not: none of them runs. One that is at work lives on."""
    done = subprocess.run([sys.executable, "-c", FROZEN, how], check=False, timeout=60)
    assert done.returncode == code


def test_one_node_says_how_it_is_used(capsys):
    assert one_node.main(["only one"]) == one_node.USAGE
    assert "HANDOFF NODE" in capsys.readouterr().err
