"""The extractive summary: central sentences, word for word, in order, the same every time."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from baton.agents.summary import summarise

REFERENCE = (
    "Agents read the shared context from the store by reference, e.g. as a session and a version."
)
TEXT = f"""# Baton

Baton hands work between agents. The store keeps every version of the shared context.

{REFERENCE}
- The store checks every version of the context before agents read it.
- Bananas ripen slowly beside yellow curtains.

```
The store and the context and the agents in code are not prose at all.
```

| The store | and the agents | of the shared context | in a table |
"""


def test_summarise_takes_central_sentences_in_order():
    """The sentences that share the text's words are taken, in order; what is not prose is not."""
    assert [item.text for item in summarise(TEXT, 2)] == [
        REFERENCE,
        "The store checks every version of the context before agents read it.",
    ]
    every = [item.text for item in summarise(TEXT, 50)]
    assert not any("code" in sentence or "table" in sentence for sentence in every)
    assert any("e.g. as a session" in sentence for sentence in every)
    places = [item.start_byte for item in summarise(TEXT, 50)]
    assert places == sorted(places)


def test_summarise_passes_over_repetition():
    """A sentence said a hundred times is quoted once."""
    text = "The store keeps every version safe. " * 100 + "Workers renew leases from one thread."
    assert len(summarise(text, 5)) == 2


@given(st.lists(st.sampled_from(["retry ", "запуск. ", "Ab ", "🎈\n\n", "- ", "cde! ", "```\n"])))
def test_summarise_quotes_exact_bytes(pieces):
    """Every sentence's byte range holds exactly its text."""
    text = "".join(pieces)
    for item in summarise(text):
        assert text.encode()[item.start_byte : item.end_byte].decode() == item.text


def test_summarise_of_no_prose_is_empty():
    """Logs of fragments, code and nothing at all give no sentences."""
    assert (
        summarise("") == summarise("ok\nok\n") == summarise("```\nall of this is code here\n") == []
    )


def test_summarise_is_the_same_in_every_process():
    """The choice does not hang on the order of sets, which changes from process to process."""
    code = (
        "import sys; from baton.agents.summary import summarise; text = sys.stdin.read(); "
        "print([item.start_byte for item in summarise(text, 7)])"
    )
    text = "".join(
        f"The {a} of every {b} keeps its {c} near some {a}{b} thing. "
        for a in ("store", "lease", "agent")
        for b in ("node", "worker", "join", "chord")
        for c in ("token", "version", "hash")
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            input=text,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1
