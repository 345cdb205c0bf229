"""Takes what looks like a secret out of a short text, such as an error's, before it is stored.

For messages, not for contexts: it knows the usual forms, and rather hides too much. Every pattern
is bounded, so the time is linear in the text.
"""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[redacted]"

_TOKENS: Final = re.compile(
    r"""
    \b(?:
        sk-[\w-]{8,400}                              # Anthropic, OpenAI
      | (?:gh[oprsu]|github_pat|glpat|hf|npm|pypi)[_-][\w-]{8,400}
      | xox[abeoprs]-[\w-]{8,400}                    # Slack
      | (?:AKIA|ASIA)[0-9A-Z]{16}                    # AWS
      | AIza[\w-]{30,60}                             # Google
      | (?:sk|pk|rk|whsec)_(?:live_|test_)?[0-9A-Za-z]{8,400}    # Stripe
      | eyJ[\w-]{8,4000}\.[\w-]{8,4000}(?:\.[\w-]{0,4000})?      # JSON web tokens
    )
    """,
    re.VERBOSE,
)
_PRIVATE_KEYS: Final = re.compile(
    r"""
    -----BEGIN\ [A-Z ]{0,40}PRIVATE\ KEY-----
    (?:[^-]|-(?!----)){0,16384}
    (?:-----END\ [A-Z ]{0,40}PRIVATE\ KEY-----)?
    """,
    re.VERBOSE,
)
_IN_URL: Final = re.compile(r"(?<=://)[^\s/@:]{0,256}:[^\s/@]{1,256}(?=@)")
_AFTER_A_NAME: Final = re.compile(
    r"""
    (?P<name>
        \b(?:bearer|basic)\s{1,4}
      | (?:password|passwd|pwd|secret|token|credentials?|api[_-]?key|access[_-]?key
          |private[_-]?key|authorization)["']?\s{0,4}[:=]\s{0,4}(?:(?:bearer|basic)\s{1,4})?
    )
    (?!\[redacted\])
    (?:"[^"]{1,4000}"|'[^']{1,4000}'|[^\s"',;&)}\]]{1,4000})
    """,
    re.VERBOSE | re.IGNORECASE,
)


def redact_secrets(text: str) -> str:
    """`text` with `[redacted]` in the place of keys, tokens, passwords and private keys."""
    text = _PRIVATE_KEYS.sub(REDACTED, text)
    text = _IN_URL.sub(REDACTED, text)
    text = _AFTER_A_NAME.sub(lambda found: found["name"] + REDACTED, text)
    return _TOKENS.sub(REDACTED, text)
