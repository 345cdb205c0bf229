"""What cases expect, said so that a failure tells it. Not `assert`: `python -O` drops that."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN_CHARACTERS: Final = 200


def expect(holds: object, what: str) -> None:
    """Fail the case with `what` unless `holds` is true.

    Raises:
        AssertionError: it is not.
    """
    if not holds:
        raise AssertionError(f"expected {what}")


def expect_equal(got: object, wanted: object, what: str) -> None:
    """Fail the case unless `got`, which is `what`, equals `wanted`.

    Raises:
        AssertionError: it does not; shows both, cut.
    """
    if got != wanted:
        raise AssertionError(f"{what}: expected {_shown(wanted)}, got {_shown(got)}")


@contextmanager
def expect_error(
    kind: type[Exception] | tuple[type[Exception], ...], naming: str = ""
) -> Iterator[None]:
    """Fail the case unless the block raises `kind` with a message that has `naming` in it.

    Raises:
        AssertionError: it raised nothing, or without that in its message.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = " or ".join(each.__name__ for each in kinds)
    try:
        yield
    except kinds as error:
        if naming not in str(error):
            raise AssertionError(
                f"expected {wanted} to name {naming!r}, got {_shown(str(error))}"
            ) from error
        return
    raise AssertionError(f"expected {wanted}, but nothing was raised")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
