"""Hands out stored text exactly as it is: to a file, a pipe, or safely to a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from baton.cli.escaping import escape
from baton.cli.files import STDIN, write_whole
from baton.cli.output import plain, say, show_json

if TYPE_CHECKING:
    from pathlib import Path

    from baton.store.records import Context, Extract, ReadChunk


def hand_out(
    found: Context | Extract | ReadChunk, output: Path | None, *, as_json: bool, summary: str
) -> None:
    """Write the content to `output`, else to standard output; as JSON, with all that is known.

    `summary` tells what a file was given. The JSON of what went to a file is without content.

    Raises:
        InvalidInputError: the file cannot be written.
    """
    to_file = output is not None and str(output) != STDIN
    if output is not None and to_file:
        write_whole(output, found.content.encode())
    if as_json:
        left_out = {"content"} if to_file else set()
        show_json({name: value for name, value in plain(found).items() if name not in left_out})
    elif to_file:
        say(f"{output}: {summary}")
    else:
        write_exactly(found.content)


def write_exactly(text: str) -> None:
    """Write the text itself, nothing added; to a terminal, what it would obey is escaped."""
    data = (escape(text) if sys.stdout.isatty() else text).encode()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
