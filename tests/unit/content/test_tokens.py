import pytest

from baton.content.tokens import estimate_tokens


@pytest.mark.parametrize(("size_bytes", "tokens"), [(0, 0), (3, 0), (4, 1), (2_000, 500)])
def test_estimate_tokens_is_the_protocols_quarter(size_bytes, tokens):
    """Four bytes a token, rounded down."""
    assert estimate_tokens(size_bytes) == tokens
