"""HTTP on 127.0.0.1: reads calls, and sends answers whole, slowly, or cut off."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final

from baton.testing.fake_anthropic.endpoint import MAX_BODY_BYTES, Turn
from baton.testing.fake_anthropic.failures import Failure
from baton.testing.fake_anthropic.pacing import wait_at

if TYPE_CHECKING:
    from baton.testing.fake_anthropic.endpoint import MessagesApi
    from baton.testing.fake_anthropic.events import Event
    from baton.testing.fake_anthropic.replies import Cut

_READ_BYTES: Final = 1 << 16
_CLOSE_SECONDS: Final = 10.0


class HttpServer(ThreadingMixIn, TCPServer):
    """A thread for each connection.

    Not `http.server.HTTPServer`, which asks the resolver for its own name, for seconds on macOS.

    Args:
        port: 0: a free one.
        api: answers the calls.
    """

    allow_reuse_address = True
    daemon_threads = True
    # A whole swarm connects at once; the default of 5 would have most of it wait for a second.
    request_queue_size = 1024

    def __init__(self, port: int, api: MessagesApi) -> None:
        self.api = api
        self.closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(("127.0.0.1", port), _Exchange)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.socket.getsockname()[1])

    def add(self, connection: socket.socket) -> None:
        """A connection begins."""
        with self._changed:
            self._connections.add(connection)

    def remove(self, connection: socket.socket) -> None:
        """A connection ends."""
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()

    def close(self) -> None:
        """Close every connection, and return when their threads have let go of them."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, _CLOSE_SECONDS)


class _Exchange(BaseHTTPRequestHandler):
    """One connection, and the calls that come over it."""

    server: HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.add(self.connection)

    def handle(self) -> None:
        # The client has left, which it may do at any time.
        with suppress(ConnectionError):
            super().handle()

    def finish(self) -> None:
        try:
            with suppress(OSError):
                super().finish()
        finally:
            self.server.remove(self.connection)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the signature is given
        """Write nothing to stderr: there is a log of calls."""

    def do_GET(self) -> None:
        """Answer as any call: there is nothing to get."""
        self.do_POST()

    def do_POST(self) -> None:
        """Answer one call."""
        api = self.server.api
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = api.open(self.path, headers)
        answer = api.answer(call, headers, self._read_body())
        if isinstance(answer, Turn):
            self._send_turn(answer)
        elif isinstance(answer, Failure):
            self._send_failure(call.number, answer)
        else:
            api.end_plain(call.number, 200)
            self._send_json(200, call.number, {"input_tokens": answer})

    def _read_body(self) -> bytes | None:
        """None: too large. It is read to its end even so, or the client would see a reset."""
        given = self.headers.get("Content-Length", "")
        size = int(given) if given.isdecimal() else 0
        if size <= MAX_BODY_BYTES:
            return self.rfile.read(size)
        while size > 0 and (part := self.rfile.read(min(size, _READ_BYTES))):
            size -= len(part)
        return None

    def _send_turn(self, turn: Turn) -> None:
        pace = turn.reply.pace or self.server.api.pace
        if not wait_at(pace.first_byte_after, self.server.closing):
            self.server.api.abandon(turn.number)
            self.close_connection = True
            return
        cut = turn.reply.cut
        if cut is not None and cut.error is not None and not turn.request.streams:
            self._send_failure(turn.number, cut.error)
            return
        self.server.api.begin(turn)
        if turn.request.streams:
            self._send_stream(turn)
        else:
            self._send_message(turn)

    def _send_message(self, turn: Turn) -> None:
        cut = turn.reply.cut
        # All is noted before it is sent: whoever has the answer can read the log.
        self.server.api.end(turn, turn.written.output_tokens, "cut" if cut else "complete")
        text = json.dumps(turn.message).encode()
        body = text[: len(text) // 2] if turn.reply.breaks_json else text
        if cut is not None and not cut.after_events:
            self.close_connection = True
            return
        self._send_head(200, turn.number, "application/json", len(body))
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut is not None

    def _send_stream(self, turn: Turn) -> None:
        output_tokens = 0
        for index, event in enumerate(turn.events):
            if self._is_cut_before(turn, index, output_tokens):
                return
            output_tokens = event.output_tokens
            self._send_event(turn, index, event)
        self._send_chunk(b"")

    def _is_cut_before(self, turn: Turn, index: int, output_tokens: int) -> bool:
        pace = turn.reply.pace or self.server.api.pace
        if index and not wait_at(pace.each_event_after, self.server.closing):
            self.server.api.end(turn, output_tokens, "abandoned")
            self.close_connection = True
            return True
        cut = turn.reply.cut
        if cut is None or index < cut.after_events:
            return False
        self.server.api.end(turn, output_tokens, "cut")
        self._cut_stream(turn, cut, index)
        return True

    def _cut_stream(self, turn: Turn, cut: Cut, index: int) -> None:
        ends_well = cut.cleanly or cut.error is not None
        if ends_well and not index:
            self._send_head(200, turn.number, "text/event-stream", None)
        if cut.error is not None:
            data = json.dumps(cut.error.as_json(_request_id(turn.number)))
            self._send_chunk(f"event: error\ndata: {data}\n\n".encode())
        if ends_well:
            self._send_chunk(b"")
        else:
            self.close_connection = True

    def _send_event(self, turn: Turn, index: int, event: Event) -> None:
        breaks_json = turn.reply.breaks_json and event.name == "message_delta"
        is_last = event.name == "message_stop"
        if is_last:
            self.server.api.end(turn, event.output_tokens, "complete")
        try:
            if not index:
                self._send_head(200, turn.number, "text/event-stream", None)
            self._send_chunk(event.encoded(breaks_json=breaks_json))
        except ConnectionError:
            if not is_last:
                self.server.api.end(turn, event.output_tokens, "abandoned")
            raise

    def _send_failure(self, number: int, failure: Failure) -> None:
        self.server.api.end_plain(number, failure.status, failure.error_code or failure.type)
        body = failure.as_json(_request_id(number))
        self._send_json(failure.status, number, body, **failure.headers)

    def _send_json(self, status: int, number: int, value: dict[str, Any], **headers: str) -> None:
        body = json.dumps(value).encode()
        self._send_head(status, number, "application/json", len(body), **headers)
        self.wfile.write(body)

    def _send_head(
        self, status: int, number: int, content_type: str, size_bytes: int | None, **headers: str
    ) -> None:
        self.send_response(status, None if status != 529 else "Overloaded")
        self.send_header("content-type", content_type)
        self.send_header("request-id", _request_id(number))
        if size_bytes is None:
            # Chunks tell a client a stream that broke off from one that ended.
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(size_bytes))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


def _request_id(number: int) -> str:
    return f"req_fake_{number:06d}"
