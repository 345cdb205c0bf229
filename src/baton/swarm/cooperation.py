"""Which agent may hand work to which: a declared table of roles, and who is whose parent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, cast, get_args

from baton.errors import AgentCompatibilityError, InvalidInputError, SettingsError
from baton.ids import check_id

if TYPE_CHECKING:
    from baton.settings import ClientSettings
    from baton.swarm.registry import Agent, AgentRegistry

Reach = Literal["anyone", "own_session", "own_tree", "ancestor", "nobody"]
Rules = Mapping[tuple[str, str], Reach]

ANY: Final = "*"
MAX_GENERATIONS: Final = 64

# From role, to role. The default lets roles of the user's own work together within a session.
DEFAULT_RULES: Final[Rules] = MappingProxyType(
    {
        ("sonnet_coordinator", ANY): "anyone",
        ("haiku_worker", "sonnet_coordinator"): "ancestor",
        ("haiku_worker", "archive_agent"): "nobody",
        ("haiku_worker", "monitor"): "nobody",
        ("haiku_worker", ANY): "own_tree",
        ("archive_agent", ANY): "nobody",
        ("monitor", ANY): "nobody",
        (ANY, "archive_agent"): "nobody",
        (ANY, "monitor"): "nobody",
        (ANY, ANY): "own_session",
    }
)
_AGENT_ID: Final = re.compile(r".+_[0-9a-f]{8}")
_WHOM: Final[Mapping[Reach, str]] = MappingProxyType(
    {
        "anyone": "anyone",
        "own_session": "agents of its own session",
        "own_tree": "agents of its own tree",
        "ancestor": "the agents above it in its tree",
        "nobody": "nobody of that role",
    }
)


@dataclass(frozen=True)
class CooperationTable:
    """From which role to which, and how far: (from, to) -> reach; `*` stands for any role.

    The rule of the two roles counts; else that of (from, `*`), of (`*`, to), of (`*`, `*`). A
    table without the last lets nobody whom it does not name.

    Raises:
        InvalidInputError: a reach is none, or a role is not an id.
    """

    rules: Rules = field(default_factory=lambda: DEFAULT_RULES)

    def __post_init__(self) -> None:
        for roles, reach in self.rules.items():
            if reach not in get_args(Reach):
                expected = f"one of {', '.join(get_args(Reach))}"
                raise InvalidInputError(f"rules[{roles}]", expected, reach)
            for role in roles:
                if role != ANY:
                    check_id(role, "role")
        object.__setattr__(self, "rules", MappingProxyType(dict(self.rules)))

    def extended(self, rules: Rules) -> CooperationTable:
        """This table with these rules, which replace those of the same roles."""
        return CooperationTable({**self.rules, **rules})

    @classmethod
    def configured(cls, settings: ClientSettings) -> CooperationTable:
        """The default table, extended by the deployment's `role_rules`.

        Raises:
            SettingsError: a rule is none.
        """
        rules: dict[tuple[str, str], Reach] = {}
        for roles, reach in settings.role_rules.items():
            from_role, _, to_role = roles.partition(" ")
            rules[from_role, to_role] = cast("Reach", reach)
        try:
            return DEFAULT_TABLE.extended(rules)
        except InvalidInputError as error:
            raise SettingsError("BATON_ROLE_RULES", error.expected, error.got) from error

    def reach(self, from_role: str, to_role: str) -> Reach:
        """How far a handoff from the one role to the other may go."""
        for roles in ((from_role, to_role), (from_role, ANY), (ANY, to_role), (ANY, ANY)):
            if roles in self.rules:
                return self.rules[roles]
        return "nobody"


DEFAULT_TABLE: Final = CooperationTable()


def can_agents_cooperate(
    from_agent: str,
    to_agent: str,
    registry: AgentRegistry,
    table: CooperationTable = DEFAULT_TABLE,
) -> bool:
    """Whether the one may hand work to the other. Arguments and errors: `require_cooperation`."""
    return _refusal(from_agent, to_agent, registry, table) is None


def require_cooperation(
    from_agent: str,
    to_agent: str,
    registry: AgentRegistry,
    table: CooperationTable = DEFAULT_TABLE,
) -> None:
    """Return if the one may hand work to the other.

    Where one of them is a role and not an agent, the table alone decides, and only `nobody` keeps
    them apart: some agent of that role may be near enough, and it is asked again when one comes.

    Args:
        from_agent: an agent's id, or a role.
        to_agent: likewise.
        registry: knows agents, their sessions and parents.
        table: the rules.

    Raises:
        AgentCompatibilityError: it may not; or a name has the form of an agent's id, and no such
            agent is registered.
        InvalidIdError: a name is not an id.
        StoreUnavailableError: Redis did not answer.
    """
    refusal = _refusal(from_agent, to_agent, registry, table)
    if refusal is not None:
        raise AgentCompatibilityError(refusal)


def _refusal(
    from_agent: str, to_agent: str, registry: AgentRegistry, table: CooperationTable
) -> str | None:
    found = [registry.find(check_id(name, "agent")) for name in (from_agent, to_agent)]
    for name, agent in zip((from_agent, to_agent), found, strict=True):
        if agent is None and _AGENT_ID.fullmatch(name):
            return f"Agent {name} is not registered; it was never, or it was cleaned up."
    sender, receiver = found
    from_role = from_agent if sender is None else sender.role
    to_role = to_agent if receiver is None else receiver.role
    reach = table.reach(from_role, to_role)
    if sender is None or receiver is None:
        near = reach != "nobody"
    else:
        near = _is_within(reach, sender, receiver, registry)
    if near:
        return None
    return (
        f"{from_agent} may not hand over to {to_agent}: a {from_role} hands over to "
        f"{_WHOM[reach]}{'' if reach == 'nobody' else f', where it is a {to_role}'}."
    )


def _is_within(reach: Reach, sender: Agent, receiver: Agent, registry: AgentRegistry) -> bool:
    if reach in ("anyone", "nobody"):
        return reach == "anyone"
    if reach == "own_session":
        return sender.session_id == receiver.session_id
    above = _lineage(sender, registry)
    if reach == "ancestor":
        return receiver.agent_id in above[1:]
    return not set(above).isdisjoint(_lineage(receiver, registry))


def _lineage(agent: Agent, registry: AgentRegistry) -> list[str]:
    """The agent and those above it. One that was removed ends it, but is named by its child."""
    line = [agent.agent_id]
    at: Agent | None = agent
    while at is not None and at.parent_id is not None and len(line) < MAX_GENERATIONS:
        line.append(at.parent_id)
        at = registry.find(at.parent_id)
    return line
