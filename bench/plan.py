"""How much to measure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes and counts of one run.

    `calls` are repeated within a round where one takes microseconds, `noted_calls` where seconds
    have to pass, since notes of reads are sent once in each. `by_value_nodes` are fewer than
    `nodes`: each message carries the whole text. Of `wide_nodes`, each is a row of its own.
    `client_stores` and `client_reads` are those of all client processes in one round. `passages`
    are embedded in each; `questions` are asked of an index of `index_rows` made-up vectors.
    A session of `archived_bytes` goes to the archive and back.
    """

    rounds: int
    size_bytes: int = 10_000_000
    calls: int = 300
    noted_calls: int = 10_000
    versions: int = 1_000
    sessions: int = 1_000
    client_stores: int = 800
    client_reads: int = 8_000
    nodes: int = 100
    wide_nodes: tuple[int, ...] = (1_000, 5_000)
    waiting_nodes: int = 10_000
    by_value_nodes: int = 10
    passages: int = 256
    index_rows: int = 50_000
    questions: int = 200
    archived_bytes: int = 10_000_000
    swept_sessions: int = 100_000

    full: bool = True

    def target(self, ratio: float) -> float | None:
        """`ratio` in a full run; None in a quick one, for whose sizes no target was set."""
        return ratio if self.full else None

    def judged(self, figure: str, *, target: str, met: bool) -> str:
        """A fact that has a target of its own, and in a full run whether it is met."""
        verdict = "met" if met else "missed"
        return f"{figure} (target {target}: {verdict})" if self.full else figure

    @property
    def size(self) -> str:
        """The text's size in words."""
        return f"{self.size_bytes // 1_000_000} MB"


def quick(rounds: int) -> Plan:
    """A smoke run: does everything work? Its figures mean little."""
    return Plan(
        rounds,
        size_bytes=1_000_000,
        calls=30,
        noted_calls=300,
        versions=30,
        sessions=30,
        client_stores=40,
        client_reads=400,
        nodes=20,
        wide_nodes=(),
        waiting_nodes=500,
        by_value_nodes=3,
        passages=16,
        index_rows=1_000,
        questions=10,
        archived_bytes=20_000,
        swept_sessions=2_000,
        full=False,
    )
