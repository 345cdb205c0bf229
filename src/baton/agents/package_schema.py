"""The JSON Schema of a handoff package.

`python -m baton.agents.package_schema > docs/handoff_package.schema.json` writes it.
"""

from __future__ import annotations

import json
import sys

from baton.agents.handoff_package import SCHEMA_ID, HandoffPackage


def schema_text() -> str:
    """The schema, as `docs/handoff_package.schema.json` holds it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **HandoffPackage.model_json_schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
