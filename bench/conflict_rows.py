"""Writes whose base is one version old against a write on the head, and a merge against git's."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from baton.merge.text import merge_text
from baton.store.contexts import ContextStore
from bench.corpus import edited, with_lines_changed
from bench.measure import expect, interleave, timed
from bench.report import Row, Side
from bench.sessions import AGENT, new_session

if TYPE_CHECKING:
    import redis

    from baton.store.records import Policy
    from bench.plan import Plan

_CHANGES: Final = 100
# No collection is to fall into the time of one of them.
_KEEP_VERSIONS: Final = 10_000


class ConflictRows:
    """Two writers of one session, each with a store of its own, as in two processes."""

    def __init__(self, client: redis.Redis, plan: Plan, text: str) -> None:
        self._plan = plan
        self._text = text
        self._store = ContextStore(client, keep_versions=_KEEP_VERSIONS)
        self._rival = ContextStore(client, keep_versions=_KEEP_VERSIONS)
        self._numbers = itertools.count()
        self._session_id = ""

    def close(self) -> None:
        """Stop the stores' threads."""
        self._store.close()
        self._rival.close()

    def rows(self) -> list[Row]:
        """Conflicts that are resolved without a merge."""
        self._session_id = new_session(self._store, self._text)
        took = interleave(
            {
                "plain": lambda _: self._plain(),
                "last_write_wins": lambda _: self._late("last_write_wins"),
                "reject": lambda _: self._late("reject"),
            },
            self._plan.rounds,
        )
        self._store.delete(self._session_id, agent_id=AGENT)
        return [self._row(policy, took) for policy in ("last_write_wins", "reject")]

    def _row(self, policy: Policy, took: dict[str, list[float]]) -> Row:
        return Row(
            key=f"conflict_{policy}",
            what=f"store {self._plan.size} after a 1 KB edit, base one version old, {policy}",
            ours=Side(name="put, another process wrote the head", took=took[policy]),
            other=Side(name="put on the head, which this process wrote", took=took["plain"]),
            target=self._plan.target(2.0),
        )

    def _plain(self) -> float:
        head, text = self._own_head(), self._next_text()
        took, commit = timed(
            lambda: self._store.put(self._session_id, text, agent_id=AGENT, base_version=head)
        )
        expect("put on the head", "accepted", commit.action)
        expect("put on the head", text, self._store.get(self._session_id).content)
        return took

    def _late(self, policy: Policy) -> float:
        base, text, rival_text = self._own_head(), self._next_text(), self._next_text()
        self._rival.put(self._session_id, rival_text, agent_id=AGENT, base_version=base)
        took, commit = timed(
            lambda: self._store.put(
                self._session_id, text, agent_id=AGENT, base_version=base, policy=policy
            )
        )
        action, head_text = {
            "last_write_wins": ("accepted_with_divergence", text),
            "reject": ("rejected", rival_text),
        }[policy]
        expect(policy, action, commit.action)
        expect(policy, head_text, self._store.get(self._session_id).content)
        return took

    def _own_head(self) -> str:
        """The version of a head that this writer has just written: it is to know its base."""
        return self._store.put(self._session_id, self._next_text(), agent_id=AGENT).version

    def _next_text(self) -> str:
        return edited(self._text, next(self._numbers))


def merge(plan: Plan, text: str) -> Row:
    """A three-way merge against a process of git's on files of the same texts."""
    ours, theirs = (with_lines_changed(text, _CHANGES, side=side) for side in (0, 1))
    right = with_lines_changed(ours, _CHANGES, side=1)
    git = shutil.which("git")

    def by_baton(_: int) -> float:
        took, merged = timed(lambda: merge_text(text, ours, theirs).text)
        expect("merge_text", right, merged)
        return took

    def by_git(_: int) -> float:
        took, merged = timed(lambda: _git_merge(git, folder))
        expect("git merge-file", right.encode(), merged)
        return took

    with tempfile.TemporaryDirectory(prefix="baton-bench-") as made:
        folder = Path(made)
        for name, content in (("base", text), ("ours", ours), ("theirs", theirs)):
            (folder / name).write_bytes(content.encode())
        contestants = {"ours": by_baton} | ({"git": by_git} if git else {})
        took = interleave(contestants, plan.rounds)
    return Row(
        key="merge",
        what=f"three-way merge of {plan.size}, {_CHANGES} scattered edits a side",
        ours=Side(name="merge_text", took=took["ours"]),
        other=Side(name="git merge-file as a process", took=took["git"]) if git else None,
        target=plan.target(1.0),
        facts=["both give the same text"] if git else ["no git here to hold it against"],
    )


def _git_merge(git: str | None, folder: Path) -> bytes:
    # Nobody's configuration of git is to count.
    environment = os.environ | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    command = [str(git), "merge-file", "-p", "ours", "base", "theirs"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    return done.stdout
