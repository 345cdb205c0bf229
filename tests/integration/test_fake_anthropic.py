"""The fake Messages API, as the real SDK sees it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

import baton.testing
from baton.errors import InvalidInputError
from baton.testing.fake_anthropic import (
    MODELS,
    Cut,
    Failure,
    FakeAnthropic,
    Gate,
    ModelLimits,
    Pace,
    PriceBand,
    Reply,
    ToolCall,
    Usage,
    billing_refused,
    overloaded,
    rate_limited,
    server_error,
    spend_limit_reached,
)
from waiting import until

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
# USD per million: input, output, cache write for 5 minutes and for 1 hour, cache read.
PRICES = {
    HAIKU: [
        PriceBand("0.10", "0.50", "0.125", "0.20", "0.01", up_to_tokens=100_000),
        PriceBand("0.50", "2.50", "0.625", "1", "0.05"),
    ],
    SONNET: [PriceBand("2", "10", "2.50", "4", "0.10")],
    "claude-haiku-4-5": [PriceBand("1", "5", "1.25", "2", "0.10")],
}
WORKERS = 50
SHARED_TOKENS = 90_000
TASK = "Task 07."  # 2 tokens, whatever the number


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fake(clock):
    with FakeAnthropic(prices=PRICES, clock=clock) as server:
        yield server


def connect(fake, **options):
    given = {"api_key": fake.api_key, "max_retries": 0, "timeout": 30.0, **options}
    return Anthropic(base_url=fake.base_url, **given)


@pytest.fixture
def client(fake):
    with connect(fake) as connected:
        yield connected


def ask(client, text="Hello", model=HAIKU, max_tokens=100, **options):
    messages = [{"role": "user", "content": text}]
    return client.messages.create(model=model, max_tokens=max_tokens, messages=messages, **options)


def stream(client, text="Hello", **options):
    """All events of a streamed answer."""
    with ask(client, text, stream=True, **options) as events:
        return list(events)


def shared(tokens=1_000, ttl="5m", letter="x"):
    """A system prompt of that many tokens, to be cached."""
    control = {"type": "ephemeral", "ttl": ttl}
    return [{"type": "text", "text": letter * 4 * tokens, "cache_control": control}]


def tool_block(events):
    """The name, and the arguments put together from their parts."""
    (start,) = [e.content_block for e in events if e.type == "content_block_start"]
    parts = [e.delta.partial_json for e in events if e.type == "content_block_delta"]
    return start.name, "".join(parts)


# --- messages ---------------------------------------------------------------------------------


def test_message_without_a_script_echoes_the_last_turn(client):
    """The default answer is short and the same each time, with the usage that the rule gives."""
    message = ask(client, "Hello")
    assert message.content[0].text == "echo: Hello"
    assert (message.stop_reason, message.role, message.model) == ("end_turn", "assistant", HAIKU)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (2, 3)


def test_streamed_message_is_the_plain_one_in_events(fake, client):
    """The SDK puts the same message together from the events as it gets in one piece."""
    fake.reply_with(lambda _: Reply("é" * 100, tool_calls=[ToolCall("look", {"start": 1}, "t1")]))
    plain = ask(client)
    with client.messages.stream(
        model=HAIKU, max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
    ) as events:
        kinds = [event.type for event in events]
        streamed = events.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert [b.to_dict() for b in streamed.content] == [b.to_dict() for b in plain.content]
    assert streamed.stop_reason == plain.stop_reason == "tool_use"
    assert streamed.usage.to_dict() == plain.usage.to_dict()


def test_tool_arguments_arrive_as_parts_of_json(fake, client):
    """A tool call streams as `input_json_delta`s that make up its arguments."""
    arguments = {"query": "where is the lease renewed, and by whom?", "limit": 3}
    fake.reply_with(Reply(tool_calls=[ToolCall("search_context", arguments)]))
    name, text = tool_block(stream(client))
    assert (name, json.loads(text)) == ("search_context", arguments)


def test_count_tokens_and_usage_agree(client):
    """Both count four bytes of UTF-8 to a token, block by block, over tools, system, messages."""
    tools = [{"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}]
    prompt = {"system": "äöü", "messages": [{"role": "user", "content": "five!"}], "tools": tools}
    counted = client.messages.count_tokens(model=HAIKU, **prompt).input_tokens
    assert counted == client.messages.create(model=HAIKU, max_tokens=9, **prompt).usage.input_tokens
    compact = json.dumps(tools[0], separators=(",", ":"))
    assert counted == -(-len(compact) // 4) + 2 + 2


# --- scripts ----------------------------------------------------------------------------------


def test_list_script_is_used_up_in_order(fake, client):
    """Each call takes the next answer; the call after the last is told so."""
    fake.reply_with(["one", Reply("two"), ""])
    assert [ask(client).content[0].text for _ in range(2)] == ["one", "two"]
    assert ask(client).content == []
    with pytest.raises(anthropic.BadRequestError, match="all 3 answers are used up"):
        ask(client)


def test_matching_script_goes_by_the_last_turn(fake, client):
    """The first text that occurs in the last turn decides, a tool's result being part of it."""
    fake.reply_with({"42": "found", "Review": "fine"})
    assert ask(client, "Review this").content[0].text == "fine"
    assert ask(client, "other").content[0].text == "echo: other"
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "42"}],
    }
    assert ask(client, [result]).content[0].text == "found"


def test_function_script_reads_the_request(fake, client):
    """A function sees the whole request, and its failure is an answer that says so."""
    seen = []

    def script(request):
        seen.append((request.model, request.system, request.last_text, request.stop_sequences))
        return "yes" if len(seen) == 1 else {}["missing"]

    fake.reply_with(script)
    assert ask(client, "Now", system="Role", stop_sequences=["END"]).content[0].text == "yes"
    assert seen == [(HAIKU, "Role", "Now", ["END"])]
    with pytest.raises(anthropic.BadRequestError, match=r"the script raised KeyError\('missing'\)"):
        ask(client)


# --- why an answer ends -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason", ["end_turn", "stop_sequence", "tool_use", "pause_turn", "refusal", "max_tokens",
               "model_context_window_exceeded", "a_reason_of_tomorrow"],
)  # fmt: skip
def test_stop_reason_of_the_script_is_sent_as_it_is(fake, client, reason):
    """Every reason, and one that the SDK does not know, arrives plain and streamed."""
    fake.reply_with(lambda _: Reply("x", stop_reason=reason))
    assert ask(client).stop_reason == reason
    (delta,) = [event for event in stream(client) if event.type == "message_delta"]
    assert delta.delta.stop_reason == reason
    assert fake.calls[-1].stop_reason == reason


def test_max_tokens_ends_an_answer(fake, client):
    """What is beyond `max_tokens` is neither sent nor paid for."""
    fake.reply_with(Reply("1234" * 50))
    message = ask(client, max_tokens=7)
    assert message.content[0].text == "1234" * 7
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 7)


def test_max_tokens_ends_a_tool_call_amid_its_arguments(fake, client):
    """A tool call that does not fit streams as arguments that are cut off."""
    fake.reply_with(Reply(tool_calls=[ToolCall("spawn", {"tasks": ["a", "b", "c"]})]))
    events = stream(client, max_tokens=3)
    assert tool_block(events) == ("spawn", '{"tasks": ["')
    assert events[-2].delta.stop_reason == "max_tokens"


def test_stop_sequence_ends_an_answer_before_it(fake, client):
    """The earliest stop sequence is named, and is not part of the text."""
    fake.reply_with(Reply("head STOP tail END", tool_calls=[ToolCall("never")]))
    message = ask(client, stop_sequences=["END", "STOP"])
    assert [block.text for block in message.content] == ["head "]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "STOP")


def test_context_window_is_the_models(fake, client):
    """A prompt beyond it is refused; an answer that meets its end stops there."""
    small = {HAIKU: ModelLimits(context_tokens=100, output_tokens=100)}
    with FakeAnthropic(models=small, script=lambda _: "z" * 400) as tight, connect(tight) as own:
        with pytest.raises(anthropic.BadRequestError, match="101 tokens > 100"):
            ask(own, "x" * 404)
        message = ask(own, "x" * 360, max_tokens=50)
        assert message.stop_reason == "model_context_window_exceeded"
        assert message.usage.output_tokens == 10
        with pytest.raises(anthropic.BadRequestError, match="max_tokens: 101"):
            ask(own, max_tokens=101)


# --- refusals ---------------------------------------------------------------------------------


def test_unknown_model_is_not_found(client):
    """A model that is not of the table is a 404 on both endpoints."""
    with pytest.raises(anthropic.NotFoundError, match="claude-nonsense"):
        ask(client, model="claude-nonsense")
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(
            model="claude-nonsense", messages=[{"role": "user", "content": "x"}]
        )


def test_wrong_key_is_unauthenticated_and_never_logged(fake):
    """Another key is a 401, and no key is in the log."""
    with (
        connect(fake, api_key="sk-wrong") as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        ask(stranger)
    with connect(fake) as client:
        ask(client)
    assert [(call.status, call.workspace) for call in fake.calls] == [(401, ""), (200, "default")]
    assert fake.calls[1].headers["anthropic-version"]
    assert not [secret for secret in ("sk-wrong", fake.api_key) if secret in repr(fake.calls)]


def test_request_beyond_32_mb_is_refused(fake, client):
    """A body that is too long is a 413, and the connection serves the next call."""
    with pytest.raises(anthropic.APIStatusError) as refused:
        ask(client, "x" * (32 * 1024 * 1024))
    assert (refused.value.status_code, refused.value.type) == (413, "request_too_large")
    assert ask(client).content[0].text == "echo: Hello"
    assert fake.calls[0].body == {}


@pytest.mark.parametrize(
    ("failure", "error", "code"),
    [
        pytest.param(rate_limited(7), anthropic.RateLimitError, None, id="429-with-retry-after"),
        pytest.param(rate_limited(), anthropic.RateLimitError, None, id="429"),
        pytest.param(
            spend_limit_reached(), anthropic.RateLimitError, "enforced_spend_limit_reached",
            id="429-spend",
        ),
        pytest.param(billing_refused(), anthropic.PaymentRequiredError, None, id="402"),
        pytest.param(overloaded(), anthropic.OverloadedError, None, id="529"),
        pytest.param(server_error(), anthropic.InternalServerError, None, id="500"),
        pytest.param(server_error(503), anthropic.ServiceUnavailableError, None, id="503"),
        pytest.param(
            Failure(403, "permission_error", "No."), anthropic.PermissionDeniedError, None, id="403"
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streams", [False, True], ids=["plain", "streamed"])
def test_ordered_failure_comes_as_the_sdks_own_error(fake, client, failure, error, code, streams):
    """The next call fails as ordered, costs nothing, and the one after it is answered."""
    fake.fail(failure)
    with pytest.raises(error) as raised:
        ask(client, stream=streams)
    assert raised.value.type == failure.type
    assert raised.value.error_code == code
    sent = raised.value.response.headers.get("retry-after")
    assert sent == failure.headers.get("retry-after")
    assert fake.calls[0].status == failure.status
    assert fake.calls[0].error == (code or failure.type)
    assert fake.spent_usd == 0
    assert ask(client).content[0].text == "echo: Hello"


def test_failures_last_until_recovery(fake, client):
    """Without a number they hit every message, cache warming with them, and no count of tokens."""
    fake.fail(overloaded(), times=None)
    for max_tokens in (9, 0):
        with pytest.raises(anthropic.OverloadedError):
            ask(client, max_tokens=max_tokens)
    assert client.messages.count_tokens(
        model=HAIKU, messages=[{"role": "user", "content": "four"}]
    ).input_tokens == 1  # fmt: skip
    fake.recover()
    assert ask(client).stop_reason == "end_turn"


def test_sdk_that_retries_by_itself_calls_again(fake):
    """The SDK's own retries are visible as calls, each of which counts."""
    fake.fail(rate_limited(0), times=2)
    with connect(fake, max_retries=2) as client:
        assert ask(client).stop_reason == "end_turn"
    assert [call.status for call in fake.calls] == [429, 429, 200]


def test_spend_limit_refuses_once_it_is_spent(fake, client):
    """Calls go through until the limit is spent, then fail by the code that no retry helps."""
    fake.limit_spend("0.001")
    for _ in range(2):
        ask(client, "x" * 4 * 5_000, max_tokens=0)
    assert fake.spent_usd == Decimal("0.001")
    with pytest.raises(anthropic.RateLimitError) as refused:
        ask(client)
    assert refused.value.error_code == "enforced_spend_limit_reached"
    assert "retry-after" not in refused.value.response.headers
    fake.limit_spend(None)
    ask(client)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "user", "content": 7}]}, "text or a list"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"system": shared(ttl="3h")}, "5m or 1h"),
        ({"system": [*shared(ttl="5m"), *shared(ttl="1h")]}, "must not come after"),
        ({"system": [*shared(), *shared()], "tools": [], "messages": [
            {"role": "user", "content": [*shared(), *shared(), *shared()]}]}, "Found 5"),
    ],
    ids=["no-messages", "no-content", "max-tokens", "ttl", "ttl-order", "five-breakpoints"],
)  # fmt: skip
def test_request_that_makes_no_sense_is_invalid(client, body, said):
    """What the API refuses as invalid is a 400 that says what was expected."""
    valid = {"model": HAIKU, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(anthropic.BadRequestError, match=said):
        client.messages.create(**{**valid, **body})


# --- slow, cut and malformed ------------------------------------------------------------------


def test_first_byte_waits_for_the_gate(fake, client):
    """No answer comes before the test opens the gate, and meanwhile the call is in the log."""
    gate = Gate()
    fake.set_pace(Pace(first_byte_after=gate))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, client)
        until(lambda: gate.waiting == 1, what="an answer at the gate")
        assert not answer.done()
        assert (fake.calls[0].status, fake.calls[0].body["model"]) == (None, HAIKU)
        gate.open()
        assert answer.result(30).content[0].text == "echo: Hello"


def test_events_pass_one_by_one(fake, client):
    """With a gate before each event, the client has as many as were let through, and one."""
    gate = Gate()
    fake.reply_with(Reply("hi", pace=Pace(each_event_after=gate)))
    with ask(client, stream=True) as events:
        assert next(events).type == "message_start"
        until(lambda: gate.waiting == 1, what="the ping at the gate")
        gate.let(2)
        assert next(events).type == "content_block_start"
        gate.open()
        assert [event.type for event in events][-1] == "message_stop"


def test_time_per_event_may_be_seconds(fake, client):
    """A wait may be a time, where no test needs to hold it."""
    fake.set_pace(Pace(first_byte_after=0.01, each_event_after=0.001))
    assert stream(client)[-1].type == "message_stop"


def test_read_timeout_leaves_an_answer_that_is_paid_for(fake):
    """A client that gives up first gets nothing, and the model's work is on the bill."""
    gate = Gate()
    fake.set_pace(Pace(first_byte_after=gate))
    with connect(fake, timeout=0.2) as hasty, pytest.raises(anthropic.APITimeoutError):
        ask(hasty)
    assert fake.spent_usd == 0
    gate.open()
    until(lambda: fake.calls[0].ended_at, what="the answer's end")
    assert fake.spent_usd > 0


def test_cut_stream_is_a_connection_error_and_paid_as_far_as_it_came(fake, client):
    """A stream that breaks off raises; its prompt and what was written of it are paid for."""
    fake.reply_with(Reply("x" * 320, cut=Cut(after_events=4)))
    # The SDK lets its HTTP library's own error through here.
    with ask(client, stream=True) as events, pytest.raises(httpx2.RemoteProtocolError):
        list(events)
    (call,) = fake.calls
    assert call.ending == "cut"
    assert call.usage == Usage(input_tokens=2, output_tokens=8)
    assert call.cost_usd == Decimal("0.10") * 2 / 1_000_000 + Decimal("0.50") * 8 / 1_000_000


def test_stream_cut_cleanly_ends_without_a_stop_reason(fake, client):
    """A stream that ends early and well raises nothing: only the missing stop reason tells."""
    fake.reply_with(Reply("x" * 320, cut=Cut(after_events=5, cleanly=True)))
    kinds = [event.type for event in stream(client)]
    assert kinds == ["message_start", "content_block_start", *["content_block_delta"] * 2]
    assert fake.calls[0].ending == "cut"


def test_stream_may_end_with_an_error_event(fake, client):
    """An overload amid a stream is the SDK's error, though the status was 200."""
    fake.reply_with(Reply("x" * 320, cut=Cut(after_events=4, error=overloaded())))
    with ask(client, stream=True) as events, pytest.raises(anthropic.APIStatusError) as raised:
        list(events)
    assert raised.value.type == "overloaded_error"
    assert fake.calls[0].status == 200


@pytest.mark.parametrize("after_events", [0, 1], ids=["before-the-first-byte", "amid-the-body"])
def test_cut_plain_answer_is_a_connection_error(fake, client, after_events):
    """An answer that is lost on its way raises, and was paid for in full."""
    fake.reply_with(Reply("x" * 320, cut=Cut(after_events)))
    with pytest.raises(anthropic.APIConnectionError):
        ask(client)
    assert fake.calls[0].ending == "cut"
    assert fake.calls[0].usage.output_tokens == 80


def test_client_that_leaves_a_stream_is_noted_as_gone(fake, client):
    """A stream whose client closes it is abandoned, and paid for as far as it was written."""
    gate = Gate()
    fake.reply_with(Reply("x" * 32_000, pace=Pace(each_event_after=gate)))
    with ask(client, stream=True, max_tokens=8_000) as events:
        assert next(events).type == "message_start"
    gate.open()
    until(lambda: fake.calls[0].ended_at, what="the end of the stream")
    assert fake.calls[0].ending == "abandoned"
    assert 0 <= fake.calls[0].usage.output_tokens < 8_000


@pytest.mark.parametrize("streams", [False, True], ids=["plain", "streamed"])
def test_broken_json_is_not_taken_for_a_message(fake, client, streams):
    """Half of a body, or of an event, raises in the SDK."""
    fake.reply_with(Reply("x", breaks_json=True))
    with pytest.raises(json.JSONDecodeError):
        stream(client) if streams else ask(client)


@pytest.mark.parametrize("arguments", ['{"start": 1, "en', '{"start": nope}', "[1, 2]"])
def test_broken_tool_arguments_arrive_as_the_model_wrote_them(fake, client, arguments):
    """Arguments that are no JSON, or no object, are streamed as they stand."""
    fake.reply_with(Reply(tool_calls=[ToolCall("read_context", arguments)]))
    assert tool_block(stream(client)) == ("read_context", arguments)


# --- the prompt cache -------------------------------------------------------------------------


def test_cache_writes_once_and_reads_after(fake, client):
    """The first call writes the prefix, the second reads it; the rest is plain input."""
    first = ask(client, "four", system=shared(1_000)).usage
    second = ask(client, "five5", system=shared(1_000)).usage
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (1_000, 0)
    assert first.cache_creation.ephemeral_5m_input_tokens == 1_000
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, 1_000)
    assert (first.input_tokens, second.input_tokens) == (1, 2)
    assert [call.cache for call in fake.calls] == ["write", "hit"]


def test_cache_is_per_model_and_workspace(clock):
    """Neither another model nor another workspace reads an entry; another key of its own does."""
    keys = {"k1": "blue", "k2": "blue", "k3": "green"}
    with FakeAnthropic(workspaces=keys, clock=clock) as fake:
        for key, model in [("k1", HAIKU), ("k1", SONNET), ("k3", HAIKU), ("k2", HAIKU)]:
            with connect(fake, api_key=key) as client:
                ask(client, model=model, system=shared())
        assert [call.cache for call in fake.calls] == ["write", "write", "write", "hit"]


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h", 3_600)])
def test_cache_entry_lives_from_its_last_read(fake, client, clock, ttl, seconds):
    """Each read moves the expiry; once it is past, the prefix is written again."""
    ask(client, system=shared(ttl=ttl))
    for wait in (seconds - 1, seconds - 1, seconds):
        clock.now += wait
        ask(client, system=shared(ttl=ttl))
    assert [call.cache for call in fake.calls] == ["write", "hit", "hit", "write"]
    written = fake.calls[0].usage
    assert (written.cache_write_5m_tokens, written.cache_write_1h_tokens) == (
        (1_000, 0) if ttl == "5m" else (0, 1_000)
    )


def test_prefix_below_the_minimum_is_silently_not_cached(fake, client):
    """One token less than the minimum is a miss each time; the minimum itself is cached."""
    for _ in range(2):
        assert ask(client, system=shared(511)).usage.input_tokens == 513
    for _ in range(2):
        ask(client, system=shared(512))
    assert [call.cache for call in fake.calls] == ["miss", "miss", "write", "hit"]


def test_prefix_order_is_tools_system_messages(fake, client):
    """A change in the tools loses all that follows, one in the messages only these."""
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    turns = [{"type": "text", "text": "y" * 4_000, "cache_control": {"type": "ephemeral"}}]
    look_tokens = -(-len(json.dumps(tools[0], separators=(",", ":"))) // 4)
    whole = ask(client, turns, system=shared(), tools=tools).usage
    other_turns = ask(client, turns[0]["text"] + "!", system=shared(), tools=tools).usage
    other_tools = ask(client, turns, system=shared(), tools=[{**tools[0], "name": "see"}]).usage
    assert whole.cache_creation_input_tokens == 2_000 + look_tokens
    assert other_turns.cache_read_input_tokens == 1_000 + look_tokens
    assert other_tools.cache_read_input_tokens == 0


def test_longer_conversation_reads_what_it_began_with(fake, client):
    """A breakpoint at the end of a conversation reads the entry of an earlier, shorter one."""
    turns = [{"role": "user", "content": "q" * 4_000}]
    options = {"model": HAIKU, "max_tokens": 9, "cache_control": {"type": "ephemeral"}}
    client.messages.create(messages=turns, **options)
    turns += [{"role": "assistant", "content": "aaaa"}, {"role": "user", "content": "rrrr"}]
    usage = client.messages.create(messages=turns, **options).usage
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (1_000, 2)


def test_same_text_in_another_place_is_another_prefix(fake, client):
    """What the user said is no cached system prompt, nor what the assistant said."""
    for role in ("user", "assistant", "user"):
        turns = [{"role": role, "content": shared()}, {"role": "user", "content": "go"}]
        client.messages.create(model=HAIKU, max_tokens=9, messages=turns)
    ask(client, system=shared())
    assert [call.cache for call in fake.calls] == ["write", "write", "hit", "write"]


def test_failed_call_caches_nothing(fake, client):
    """An error is no beginning of a response, so the next call writes."""
    fake.fail(server_error())
    with pytest.raises(anthropic.InternalServerError):
        ask(client, system=shared())
    ask(client, system=shared())
    fake.forget_cache()
    ask(client, system=shared())
    assert [call.cache for call in fake.calls] == ["none", "write", "write"]


def test_max_tokens_zero_warms_the_cache_without_an_answer(fake, client):
    """A warming call writes, generates nothing, and uses up no answer of the script."""
    fake.reply_with(["the only answer"])
    warm = ask(client, system=shared(), max_tokens=0)
    assert (warm.content, warm.usage.output_tokens) == ([], 0)
    assert warm.usage.cache_creation_input_tokens == 1_000
    first = ask(client, "go", system=shared())
    assert (first.content[0].text, first.usage.cache_read_input_tokens) == (
        "the only answer",
        1_000,
    )


def test_entry_is_readable_only_once_the_writers_response_begins(fake, client):
    """While the writer's response is held back another call writes too; after it, one reads."""
    gate = Gate()
    fake.reply_with(
        lambda request: Reply("x", pace=Pace(gate) if "slow" in request.last_text else None)
    )
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, client, "slow", system=shared(letter="a"))
        until(lambda: gate.waiting == 1, what="the writer at the gate")
        assert ask(client, "quick", system=shared(letter="b")).usage.cache_read_input_tokens == 0
        assert ask(client, "quick", system=shared(letter="a")).usage.cache_read_input_tokens == 0
        gate.open()
        slow.result(30)
    assert ask(client, "quick", system=shared(letter="a")).usage.cache_read_input_tokens == 1_000


def test_entry_is_readable_while_the_writer_still_streams(fake, client):
    """The first event is enough: nobody has to wait for the writer's last."""
    gate = Gate()
    fake.reply_with(
        lambda request: Reply("x", pace=Pace(each_event_after=gate if request.streams else 0.0))
    )
    with ask(client, system=shared(), stream=True) as events:
        next(events)
        assert ask(client, system=shared()).usage.cache_read_input_tokens == 1_000
        gate.open()
        list(events)


# --- fan-out ----------------------------------------------------------------------------------


def fan_out(fake, client, model, *, caches=True):
    """50 workers at once over one prefix, all received before the first is answered."""
    gate = Gate()
    fake.reply_with(lambda _: Reply("done"))
    fake.set_pace(Pace(first_byte_after=gate))
    system = shared(SHARED_TOKENS) if caches else "x" * 4 * SHARED_TOKENS
    with ThreadPoolExecutor(WORKERS) as pool:
        tasks = [f"Task {number:02d}." for number in range(WORKERS)]
        answers = [pool.submit(ask, client, task, model, 10, system=system) for task in tasks]
        until(lambda: gate.waiting == WORKERS, what="all workers at the gate")
        gate.open()
        for answer in answers:
            assert answer.result(60).stop_reason == "end_turn"


def tails_usd(model):
    """What the workers' own parts cost: 2 tokens in and 1 out each."""
    return WORKERS * PRICES[model][0].cost_usd(Usage(input_tokens=2, output_tokens=1))


@pytest.mark.parametrize(("model", "usd"), [(HAIKU, "0.5625"), (SONNET, "11.25")])
def test_fifty_at_once_all_write_the_prefix(fake, client, model, usd):
    """Launched together over 90K shared tokens, each of 50 workers pays for a cache write."""
    fan_out(fake, client, model)
    assert [call.cache for call in fake.calls] == ["write"] * WORKERS
    assert fake.spent_usd == Decimal(usd) + tails_usd(model)


@pytest.mark.parametrize(("model", "usd"), [(HAIKU, "0.05625"), (SONNET, "0.675")])
def test_fifty_behind_a_warming_call_all_read_the_prefix(fake, client, model, usd):
    """One warming call writes, and all 50 workers read."""
    ask(client, model=model, max_tokens=0, system=shared(SHARED_TOKENS))
    warming = PRICES[model][0].cost_usd(Usage(input_tokens=2))
    fan_out(fake, client, model)
    assert [call.cache for call in fake.calls] == ["write"] + ["hit"] * WORKERS
    assert fake.spent_usd == Decimal(usd) + tails_usd(model) + warming


@pytest.mark.parametrize(("model", "usd"), [(HAIKU, "0.45"), (SONNET, "9.00")])
def test_fifty_without_caching_pay_the_whole_prompt(fake, client, model, usd):
    """The figure that the two others are compared with."""
    fan_out(fake, client, model, caches=False)
    assert {call.cache for call in fake.calls} == {"none"}
    assert fake.spent_usd == Decimal(usd) + tails_usd(model)


def test_prompt_beyond_a_band_pays_the_next_for_all_of_it(fake, client):
    """On Haiku a prompt of 100K tokens costs a fifth of one of a token more."""
    fake.reply_with(lambda _: "")
    ask(client, "x" * 4 * 100_000)
    ask(client, "x" * 4 * 100_001)
    assert [call.cost_usd for call in fake.calls] == [Decimal("0.01"), Decimal("0.0500005")]


# --- the server itself ------------------------------------------------------------------------


def test_log_knows_when_each_call_came_began_and_ended(fake, client, clock):
    """The three instants are the clock's, and a finished call says what was sent."""
    gate = Gate()
    fake.set_pace(Pace(first_byte_after=gate))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, client)
        until(lambda: gate.waiting == 1, what="an answer at the gate")
        clock.now += 5
        gate.open()
        answer.result(30)
    (call,) = fake.calls
    assert (call.received_at, call.began_at, call.ended_at) == (1_000.0, 1_005.0, 1_005.0)
    assert (call.status, call.ending, call.stop_reason) == (200, "complete", "end_turn")
    assert call.body["messages"] == [{"role": "user", "content": "Hello"}]


def test_close_lets_go_of_answers_that_wait(clock):
    """A server that closes drops its clients, even those at a gate that nobody opens."""
    gate = Gate()
    threads_before = threading.active_count()
    with FakeAnthropic(pace=Pace(first_byte_after=gate)) as fake, connect(fake) as client:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ask, client)
            until(lambda: gate.waiting == 1, what="an answer at the gate")
            fake.close()
            assert isinstance(answer.exception(30), anthropic.APIConnectionError)
        assert fake.calls[0].ending == "abandoned"
    until(lambda: threading.active_count() == threads_before, what="the server's threads ending")


def test_endpoint_that_was_down_comes_back_at_its_address(fake, client):
    """Closed and started again, it has its address, its log and its cache."""
    ask(client, system=shared())
    fake.close()
    with pytest.raises(anthropic.APIConnectionError):
        ask(client)
    fake.start()
    ask(client, system=shared())
    assert [call.cache for call in fake.calls] == ["write", "hit"]


def test_price_must_cover_every_model():
    """A table that leaves a model, or its long prompts, without a price is refused."""
    with pytest.raises(InvalidInputError, match="claude-sonnet-5-5"):
        FakeAnthropic(prices={HAIKU: PRICES[HAIKU]})
    with pytest.raises(InvalidInputError, match="prompts of any length"):
        FakeAnthropic(prices={**PRICES, HAIKU: PRICES[HAIKU][:1]})
    with pytest.raises(InvalidInputError, match="at least one API key"):
        FakeAnthropic(workspaces={})


def test_fake_is_loaded_at_first_use_and_without_the_sdk():
    """`baton.testing` loads neither the fake nor the SDK; the fake itself never loads the SDK."""
    assert baton.testing.FakeAnthropic is FakeAnthropic
    assert set(PRICES) == set(MODELS)
    code = (
        "import sys; sys.modules['anthropic'] = None\n"
        "import baton.testing as t\n"
        "assert 'baton.testing.fake_anthropic' not in sys.modules\n"
        "t.FakeAnthropic().start().close()\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
