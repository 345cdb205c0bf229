import json
import subprocess
import sys
from pathlib import Path

from baton.envelope.model import EnvelopeHeader
from baton.envelope.schema import schema_text

COMMITTED = Path(__file__).parents[2] / "docs" / "envelope.schema.json"


def test_the_committed_schema_is_the_models():
    """`python -m baton.envelope.schema > docs/envelope.schema.json` after a change of theirs."""
    assert COMMITTED.read_text(encoding="utf-8") == schema_text()


def test_the_module_prints_the_schema():
    """As the test above tells its reader."""
    command = [sys.executable, "-m", "baton.envelope.schema"]
    printed = subprocess.run(command, capture_output=True, check=True, encoding="utf-8")
    assert printed.stdout == schema_text()


def test_the_schema_requires_what_the_protocol_requires():
    """Its section 2.2, and no more."""
    envelope = json.loads(schema_text())["$defs"]["Envelope"]
    assert set(envelope["required"]) == {
        "version", "session_id", "agent_id", "created_at", "updated_at", "content_hash",
        "content_size_bytes", "content_size_tokens", "chunk_count",
    }  # fmt: skip
    assert set(EnvelopeHeader.model_fields) < set(envelope["properties"])
    assert envelope["additionalProperties"] is False
