"""A conformance suite of the context store, to be run against a deployment of one's own.

`python -m baton.testing --redis-url URL` runs it as a command. In a test suite of yours:

    class TestMyRedis(StoreConformance):
        @pytest.fixture
        def baton_deployment(self, my_client):
            return Deployment(my_client)

Nothing here imports pytest. `FakeAnthropic` plays the model's API for tests without a network
(`docs/testing.md`); it is loaded at first use, and needs no SDK of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from baton.testing.case import Case
from baton.testing.catalog import CASES
from baton.testing.deployment import Deployment
from baton.testing.kit import Kit
from baton.testing.pytest_cases import StoreConformance
from baton.testing.running import Verdict, judge, run_case

if TYPE_CHECKING:
    from baton.testing.fake_anthropic import FakeAnthropic

__all__ = [
    "CASES",
    "Case",
    "Deployment",
    "FakeAnthropic",
    "Kit",
    "StoreConformance",
    "Verdict",
    "judge",
    "run_case",
]


def __getattr__(name: str) -> Any:
    if name != "FakeAnthropic":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("baton.testing.fake_anthropic").FakeAnthropic
