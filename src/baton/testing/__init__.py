"""A conformance suite of the context store, to be run against a deployment of one's own.

`python -m baton.testing --redis-url URL` runs it as a command. In a test suite of yours:

    class TestMyRedis(StoreConformance):
        @pytest.fixture
        def baton_deployment(self, my_client):
            return Deployment(my_client)

Nothing here imports pytest.
"""

from __future__ import annotations

from baton.testing.case import Case
from baton.testing.catalog import CASES
from baton.testing.deployment import Deployment
from baton.testing.kit import Kit
from baton.testing.pytest_cases import StoreConformance
from baton.testing.running import Verdict, judge, run_case

__all__ = [
    "CASES",
    "Case",
    "Deployment",
    "Kit",
    "StoreConformance",
    "Verdict",
    "judge",
    "run_case",
]
