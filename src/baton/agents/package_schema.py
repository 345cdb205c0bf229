"""The JSON Schema of a handoff package.

`python -m baton.agents.package_schema > docs/handoff_package.schema.json` writes it.
"""

from __future__ import annotations

import sys

from baton.agents.handoff_package import SCHEMA_ID, HandoffPackage
from baton.envelope.schema import schema_of


def schema_text() -> str:
    """The schema, as `docs/handoff_package.schema.json` holds it."""
    return schema_of(HandoffPackage, SCHEMA_ID)


if __name__ == "__main__":
    sys.stdout.write(schema_text())
