"""A Redis user with the rights that docs/security.md says a reader needs, and no others."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

NAME = "reader"
PASSWORD = "only-in-this-test"  # noqa: S105
_DOCUMENT = Path(__file__).parents[1] / "docs" / "security.md"


@contextmanager
def reader_user(client: redis.Redis) -> Iterator[None]:
    """The server knows the user meanwhile; before Redis 7 it cannot, and the test is skipped."""
    if not client.info()["redis_version"].startswith(("7", "8")):
        pytest.skip("rights to keys of one name, and ACL DRYRUN, need Redis 7")
    client.execute_command("ACL", "SETUSER", NAME, *documented_rights())
    try:
        yield
    finally:
        client.acl_deluser(NAME)


def documented_rights() -> list[str]:
    """The rules of the document's `ACL SETUSER`, with this module's password."""
    text = _DOCUMENT.read_text(encoding="utf-8")
    found = re.search(r"^ACL SETUSER reader (.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    rules = re.findall(r"\([^)]*\)|\S+", found[1].replace("\\\n", " "))
    return [f">{PASSWORD}" if rule == ">PASSWORD" else rule for rule in rules]
