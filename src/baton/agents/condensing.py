"""Progressive summarisation: a context becomes summaries with pointers, and only those travel on.

1. The original stays where it is, at its session and version.
2. Summaries are derived from it, to 30 % of its tokens by default.
3. Each points to the bytes it was derived from.
4. Only the view is carried across a handoff; its receiver expands what it needs.

What is condensed is always the original, never a summary: losses do not add up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baton.agents.token_counting import estimate_text_tokens
from baton.agents.views import build_view
from baton.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.agents.pinning import Pin
    from baton.agents.summariser import Summariser
    from baton.agents.token_counting import TokenCounter
    from baton.agents.view import View

DEFAULT_SHARE: Final = 0.3  # 50,000 tokens become 15,000
WORTH_CONDENSING_TOKENS: Final = 1_000


def condense(
    text: str,
    *,
    session_id: str,
    version: str,
    share: float = DEFAULT_SHARE,
    pinned: Sequence[Pin] = (),
    count_tokens: TokenCounter = estimate_text_tokens,
    summariser: Summariser | None = None,
) -> View:
    """What to carry across instead of `text`: a view of `share` of its tokens, above 0 and up to 1.

    It may always be 1,000 tokens long, so that a text of no more is carried whole. The other
    arguments are those of `build_view`.

    Raises:
        ViewBudgetError: the pinned parts alone are above that; says how many tokens would do.
        InvalidInputError, InvalidTextError: as `build_view`, or `share` is not as said.
    """
    if not 0 < share <= 1:
        raise InvalidInputError("share", "above 0, up to 1", share)
    return build_view(
        text,
        max(int(share * count_tokens(text)), WORTH_CONDENSING_TOKENS),
        session_id=session_id,
        version=version,
        pinned=pinned,
        count_tokens=count_tokens,
        summariser=summariser,
    )
