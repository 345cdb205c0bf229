"""Handoff packages for tests: a full one as its sender would give it."""

from __future__ import annotations

import copy

from baton.agents.handoff_package import make_package

# The seed's example, and what Baton adds to it.
FIELDS = {
    "handoff_id": "handoff_1",
    "from_agent": "spec-builder",
    "to_agent": "tdd-implementer",
    "session_context": {
        "session_id": "session_1",
        "model": "claude-sonnet-4-5-20250929",
        "context_position": 42.5,
        "available_tokens": 115_000,
        "user_language": "ko",
    },
    "task_context": {
        "spec_id": "SPEC-001",
        "current_phase": "implementation",
        "completed_steps": ["spec_complete", "architecture_defined"],
        "next_step": "write_tests",
        "goal": "Sign-in by mail.",
        "decisions": ["Tokens are stored hashed."],
        "open_questions": ["How long do they last?"],
        "do_not_redo": ["The schema is migrated."],
        "acceptance": ["All tests pass."],
    },
    "recovery_info": {
        "last_checkpoint": "2025-11-12T10:25:00Z",
        "recovery_tokens_reserved": 55_000,
        "session_fork_available": True,
    },
}


def package_fields(**changes):
    """Fields of a package; a change of a part is merged into it."""
    fields = copy.deepcopy(FIELDS)
    for name, value in changes.items():
        if isinstance(value, dict) and name in fields:
            fields[name] = fields[name] | value
        else:
            fields[name] = value
    return fields


def package(**changes):
    return make_package(**package_fields(**changes))
