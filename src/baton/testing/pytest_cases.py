"""The cases as pytest tests, one each, without an import of pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from baton.testing.catalog import CASES
from baton.testing.running import run_case

if TYPE_CHECKING:
    from baton.testing.case import Case
    from baton.testing.deployment import Deployment


class StoreConformance:
    """To be subclassed by a `Test...` class that has a fixture `baton_deployment`."""

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """One test a case, named `group-case`."""
        if "conformance_case" in metafunc.fixturenames:
            ids = [f"{case.group}-{case.name}" for case in CASES]
            metafunc.parametrize("conformance_case", CASES, ids=ids)

    def test_conforms(self, conformance_case: Case, baton_deployment: Deployment) -> None:
        """What the case says holds."""
        run_case(conformance_case, baton_deployment)
