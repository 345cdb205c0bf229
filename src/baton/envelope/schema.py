"""The envelope's JSON Schema: `python -m baton.envelope.schema > docs/envelope.schema.json`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from baton.envelope.model import SCHEMA_ID, EnvelopeDocument

if TYPE_CHECKING:
    from pydantic import BaseModel


def schema_text() -> str:
    """The schema, as `docs/envelope.schema.json` holds it."""
    return schema_of(EnvelopeDocument, SCHEMA_ID)


def schema_of(model: type[BaseModel], schema_id: str) -> str:
    """The JSON Schema of a document, as text for a file."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": schema_id,
        **model.model_json_schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
