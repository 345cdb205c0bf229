"""The envelope's JSON Schema: `python -m baton.envelope.schema > docs/envelope.schema.json`."""

from __future__ import annotations

import json
import sys

from baton.envelope.model import SCHEMA_ID, EnvelopeDocument


def schema_text() -> str:
    """The schema, as `docs/envelope.schema.json` holds it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **EnvelopeDocument.model_json_schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
