"""Envelopes for tests, and the tools to tamper with them."""

import base64
import copy
import hashlib
import json

from baton.content.compression import compress
from baton.envelope.model import make_header
from baton.envelope.writing import write_envelope

MIB = 1_048_576
AMPLE_BYTES = 64 * MIB
INSTANT = "2025-11-30T14:23:45.123Z"


def header_of(data, **fields):
    """A header that fits `data`, with what `fields` say."""
    return make_header(
        **{
            "session_id": "session_9e2f4a1b",
            "agent_id": "sonnet_coordinator_8a3f",
            "created_at": INSTANT,
            "updated_at": INSTANT,
            "content_hash": f"sha256:{hashlib.sha256(data).hexdigest()}",
            "content_size_bytes": len(data),
            "content_size_tokens": len(data) // 4,
            **fields,
        }
    )


def full_header_of(data):
    """A header with every optional field."""
    return header_of(
        data,
        agent_role="sonnet_coordinator",
        metadata={
            "model": "claude-sonnet-4.5",
            "temperature": 1.0,
            "max_tokens": 200_000,
            "top_p": 0.95,
            "baton": {"context_version": "1.4.2", "content_type": "text/plain"},
            "purpose": {"of": ["anything", None, 1.5]},
        },
        checkpoints=[
            {
                "checkpoint_id": "cp_001",
                "token_position": min(1, len(data) // 4),
                "byte_position": min(4, len(data)),
                "label": "После guardian_council_evaluation",
                "timestamp": "2025-11-30T14:15:30.000Z",
            }
        ],
        dependencies=[
            {
                "session_id": "session_9e2f4a1b",
                "agent_id": "haiku_worker_3e1a",
                "content_type": "task_result",
            }
        ],
        flags={"immutable": True, "sensitive": True},
    )


def written(header, data, compression="gzip"):
    """The JSON text of an envelope."""
    return b"".join(write_envelope(header, data, compression=compression))


def document_of(data, compression="gzip"):
    """A parsed envelope with every field, to tamper with."""
    return json.loads(written(full_header_of(data), data, compression))


def tampered(document, path, value):
    """A copy whose field at `path`, relative to the envelope, is `value`; `...` takes it away."""
    changed = copy.deepcopy(document)
    place = changed["context_envelope"]
    *parents, last = path
    for step in parents:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


def encoded(data, codec):
    """A chunk's content."""
    return base64.b64encode(compress(data, codec)).decode()


def numbered_text(size_bytes):
    """Text that repeats nowhere."""
    return "".join(f"{number:07d}\n" for number in range(size_bytes // 8 + 1))[:size_bytes]
