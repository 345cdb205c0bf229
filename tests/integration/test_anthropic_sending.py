"""When the Anthropic runner may send, and when it stops reading: permits, pings, times."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from anthropic_bench import HAIKU
from baton.agents.anthropic.options import AnthropicOptions
from baton.agents.anthropic.watch import Watch
from baton.agents.anthropic.wire import Wire
from baton.errors import (
    ModelUnavailableError,
    NodeCancelledError,
    PermitExpiredError,
    RunnerError,
)
from baton.testing.fake_anthropic import Failure
from paid_assignment import PaidAssignment
from waiting import until

# No server makes a difference here; scripts and commands are tested on both elsewhere.
pytestmark = pytest.mark.one_redis

BODY = {"model": HAIKU, "messages": [{"role": "user", "content": "Hello."}]}
BEGINNING = {
    "type": "message_start",
    "message": {
        "id": "m", "type": "message", "role": "assistant", "model": HAIKU, "content": [],
        "stop_reason": None, "stop_sequence": None,
        "usage": {"input_tokens": 1_500, "output_tokens": 1},
    },
}  # fmt: skip


class PingingHandler(BaseHTTPRequestHandler):
    """Begins each answer, then pings for as long as anybody listens."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(404 if self.path.endswith("count_tokens") else 200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if self.path.endswith("count_tokens"):
            return
        try:
            self.say("message_start", BEGINNING)
            while not self.server.closing.wait(0.02):
                self.server.pings += 1
                self.say("ping", {"type": "ping"})
        except OSError:
            self.server.left.set()

    def say(self, name, data):
        self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def pinging():
    server = ThreadingHTTPServer(("127.0.0.1", 0), PingingHandler)
    server.daemon_threads = True
    server.closing, server.left, server.pings = threading.Event(), threading.Event(), 0
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_cancellation_is_seen_while_the_api_only_pings(anthropic_bench, pinging):
    """A long silence of the model is filled with pings: each is a moment to stop reading."""
    bench = anthropic_bench
    runner = bench.runner(warms=False, base_url=f"http://127.0.0.1:{pinging.server_port}")
    work = bench.assignment(context="")
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(runner.run, work)
        until(lambda: pinging.pings > 3, what="pings")
        work.stop.set()
        with pytest.raises(NodeCancelledError):
            run.result(30)
    assert pinging.left.wait(30)
    assert work.budget.outstanding == {}
    usage, _ = list(work.budget.settled.values())[-1]
    assert (usage.input_tokens, usage.output_tokens) == (1_500, 1)


def test_pings_do_not_prolong_a_call(anthropic_bench, pinging):
    """A call ends by its timeout, also where bytes keep coming."""
    bench = anthropic_bench
    runner = bench.runner(
        warms=False, base_url=f"http://127.0.0.1:{pinging.server_port}", timeout_seconds=0.3
    )
    work = bench.assignment(context="")
    with pytest.raises(ModelUnavailableError, match="took longer than the call may take"):
        runner.run(work)
    assert work.budget.outstanding == {}


@contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


@pytest.mark.parametrize("method", ["stream", "send", "count"])
def test_a_permit_is_looked_at_once_connected_and_nothing_sent_behind_it(method):
    """Connecting takes its time: a permit that ends meanwhile sends not a byte."""
    with listening() as server:
        wire = Wire(
            AnthropicOptions(
                api_key=SecretStr("key"), base_url=f"http://127.0.0.1:{server.getsockname()[1]}"
            )
        )
        connections = []

        def check():
            connections.append(server.accept()[0])  # so it is connected by now
            raise PermitExpiredError("permit 1 ended 0.1 s ago; ask for another")

        more = {"begun": lambda: None} if method == "stream" else {}
        body = BODY if method == "count" else {**BODY, "max_tokens": 9}
        outcome = getattr(wire, method)(body, Watch(check, lambda: False, 30), **more)
        wire.close()
        assert outcome.kind == "expired"
        (connection,) = connections
        with connection:
            connection.settimeout(30)
            assert connection.recv(1) == b""


def test_a_call_that_was_never_sent_costs_nothing(anthropic_bench):
    """A node whose time ends between the permit and the call settles it with nothing."""
    bench = anthropic_bench
    work = bench.assignment()
    reserve = work.reserve

    def late(tokens, usd, *, seconds):
        permit = reserve(tokens, usd, seconds=seconds)
        if tokens:  # not for the count
            work.deadline = 0.0
        return permit

    work.reserve = late
    with pytest.raises(ModelUnavailableError, match="time is up"):
        bench.runner(warms=False).run(work)
    assert bench.calls() == []
    assert work.budget.spent == (0, Decimal(0))
    assert work.budget.outstanding == {}


def test_counting_takes_nothing_of_a_budget(anthropic_bench):
    """It is free, so a permit for it reserves nothing: it only says that nothing was cancelled."""
    bench = anthropic_bench
    work = bench.assignment()
    reserved, reserve = [], work.reserve

    def noted(tokens, usd, *, seconds):
        reserved.append((tokens, usd))
        return reserve(tokens, usd, seconds=seconds)

    work.reserve = noted
    bench.runner(warms=False).run(work)
    assert reserved[0] == (0, 0)
    assert len(reserved) == 2


class Leaving(PaidAssignment):
    """Whoever asks whether it was cancelled, amid an answer, is told to leave the process."""

    @property
    def cancelled(self):
        if any(tokens for tokens, _ in self.budget.outstanding.values()):
            raise SystemExit
        return False

    def raise_if_cancelled(self):
        """It was not."""


def test_an_answer_amid_which_the_thread_is_interrupted_counts_in_full(anthropic_bench):
    """Whatever ends a call, its permit is settled, and as it was sent it was paid."""
    bench = anthropic_bench
    leaving = Leaving()
    budget = leaving.budget
    with pytest.raises(SystemExit):
        bench.runner(warms=False).run(leaving)
    assert budget.outstanding == {}
    assert budget.spent[1] == budget.most_reserved_usd > 0


def test_lost_warming_calls_do_not_fail_the_node(anthropic_bench):
    """A proxy may cut calls that warm: then the worker pays for its own prefix."""
    bench = anthropic_bench
    runner = bench.runner()
    bench.fake.fail(Failure(504, "timeout_error", "Too slow."), times=3)
    work = bench.assignment(context="The lease lasts thirty seconds. " * 200)
    result = runner.run(work)
    assert result.content.startswith("echo")
    assert result.details["calls"] == {"answered": 1, "warming": 0, "failed": 0, "lost": 3}
    assert result.details["cache"]["misses"] == {"not_warmed": 1}


def test_an_empty_account_stops_the_handoff(anthropic_bench):
    """The API says so with the status and type of any invalid request."""
    bench = anthropic_bench
    said = "Your credit balance is too low to access the Anthropic API."
    bench.fake.fail(Failure(400, "invalid_request_error", said), times=None)
    with pytest.raises(RunnerError, match="credit balance"):
        bench.runner(warms=False).run(bench.assignment())
    assert "credit balance" in bench.handoff_breakers.find("handoff_1")
