"""A bench of workers for each test that asks for one, closed afterwards."""

from __future__ import annotations

import pytest

from handoff_bench import Bench, check_expiries


@pytest.fixture
def make_bench(redis_client):
    """Makes benches over the test's server; what they leave behind has its expiries."""
    benches = []

    def make(*args, client=None, **options):
        benches.append(Bench(client or redis_client, *args, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()
    check_expiries(redis_client)


@pytest.fixture
def bench(make_bench):
    """A bench with the `work` runner, which echoes its instruction."""
    return make_bench()
