"""Messages between the archive and the process that has Chroma: a JSON header, then raw bytes.

A frame is the header's length and the body's, four bytes each in network order, the header as
UTF-8 JSON, the body. Both ends are ours, on a socket that nobody else can open.
"""

from __future__ import annotations

import json
import struct
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket

_LENGTHS: Final = struct.Struct("!II")


class ClosedError(Exception):
    """The other end is gone."""


def send_frame(
    connection: socket.socket, header: dict[str, Any], body: bytes = b"", *, seconds: float
) -> None:
    """Send a frame whole, or fail.

    Raises:
        TimeoutError: the other end did not take it in time. The connection is of no more use.
        ClosedError: the other end is gone.
    """
    head = json.dumps(header).encode()
    connection.settimeout(seconds)
    try:
        connection.sendall(_LENGTHS.pack(len(head), len(body)) + head + body)
    except TimeoutError:
        raise
    except OSError as error:
        raise ClosedError from error


def receive_frame(connection: socket.socket, *, seconds: float) -> tuple[dict[str, Any], bytes]:
    """The next frame.

    Raises:
        TimeoutError: none came in time. The connection is of no more use if a part of one did.
        ClosedError: the other end is gone.
    """
    deadline = time.monotonic() + seconds
    head_bytes, body_bytes = _LENGTHS.unpack(_receive(connection, _LENGTHS.size, deadline))
    header = json.loads(_receive(connection, head_bytes, deadline))
    return header, _receive(connection, body_bytes, deadline)


def _receive(connection: socket.socket, size_bytes: int, deadline: float) -> bytes:
    received = bytearray()
    while len(received) < size_bytes:
        # Zero would mean not to wait at all, and raise another error.
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            some = connection.recv(size_bytes - len(received))
        except TimeoutError:
            raise
        except OSError as error:
            raise ClosedError from error
        if not some:
            raise ClosedError
        received += some
    return bytes(received)
