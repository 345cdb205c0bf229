"""What a writer says of a version besides its content, checked: metadata and content type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, get_args

from baton.errors import ContextTooLargeError, InvalidInputError
from baton.merge.strict_json import check_json
from baton.settings import KIB
from baton.store.manifest import ContentType

MAX_METADATA_BYTES: Final = 64 * KIB


def checked_type(content_type: ContentType | None) -> ContentType | None:
    """The type, if it is one; None stays None.

    Raises:
        InvalidInputError: it is neither.
    """
    if content_type is not None and content_type not in get_args(ContentType):
        expected = " or ".join(get_args(ContentType))
        raise InvalidInputError("content_type", expected, content_type)
    return content_type


def checked_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that nobody else holds, of what JSON can carry.

    Raises:
        InvalidInputError: it is no JSON object.
        ContextTooLargeError: it is above 64 KiB.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidInputError("metadata", "a mapping", f"<{type(metadata).__name__}>")
    check_json(dict(metadata), "metadata")
    text = json.dumps(dict(metadata))
    if len(text) > MAX_METADATA_BYTES:
        expected = f"at most {MAX_METADATA_BYTES} bytes of JSON"
        raise ContextTooLargeError("metadata", expected, f"<{len(text)} bytes>")
    copy: dict[str, Any] = json.loads(text)
    return copy
