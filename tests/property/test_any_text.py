"""Any text survives the store, in any order of versions, whatever its size and alphabet."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from baton.store.contexts import ContextStore

MIB = 1 << 20
ON_A_SERVER = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PIECES = st.sampled_from(["ok\n", "é", "жук ", "版本", "🧭", "\x00", "\r\n", "a" * 4096, "\ufeff"])
TEXTS = st.one_of(
    st.text(max_size=2000),
    st.lists(PIECES, max_size=60).map("".join),
    st.builds(lambda unit, times: unit * times, PIECES, st.integers(0, 20_000)),
)


@ON_A_SERVER
@given(text=TEXTS)
@example(text="")
@example(text="x")
@example(text="🧭" * 70_000)
def test_put_then_get_is_the_identity(redis_client, text):
    store = ContextStore(redis_client)
    session = f"s{random.getrandbits(64):x}"
    store.put(session, text, agent_id="a")
    assert store.get(session).content == text
    store.delete(session, agent_id="a")


@ON_A_SERVER
@given(texts=st.lists(TEXTS, min_size=2, max_size=6))
def test_every_version_of_a_session_reads_back_as_it_was_written(redis_client, texts):
    store = ContextStore(redis_client)
    session = f"s{random.getrandbits(64):x}"
    written = {}
    for text in texts:
        written[store.put(session, text, agent_id="a").version] = text
    fresh = ContextStore(redis_client)
    assert {v: fresh.get(session, v).content for v in written} == written
    store.delete(session, agent_id="a")


@pytest.mark.parametrize("size_bytes", [MIB - 1, MIB, MIB + 1, 10 * MIB])
@pytest.mark.parametrize("alphabet", ["ab c\n", "ещё ж\n", "🧭é€a"])
def test_large_texts_survive(redis_client, size_bytes, alphabet):
    generator = random.Random(size_bytes)
    text = "".join(generator.choices(alphabet, k=200_000))
    text *= size_bytes // len(text.encode()) + 1
    text = text.encode()[:size_bytes].decode(errors="ignore")
    store = ContextStore(redis_client)
    store.put("s", text, agent_id="a")
    assert store.get("s").content == text
