r"""Regular expressions over lines in linear time: no input makes a pattern backtrack.

Python's `re` backtracks: `(a|a)*b` over thirty letters takes minutes, and the pattern here comes
from an instruction that a model may have written. So the pattern is turned into a finite automaton
(Thompson's construction, states joined to a deterministic one as they are met) that looks at each
character once. `re` is only asked which single characters an atom such as `[a-z]` or `\d` matches.

Understood: literals, `.`, classes, `\d \w \s \D \W \S`, `^ $ \b \B`, groups, `|`, `* + ?` and
`{m,n}`, lazy forms too. Refused, with the reason: back-references, look-around, named groups,
inline flags, and patterns too long or too large when unrolled. The few patterns that meet a new
state at almost every character are given up on after a fixed amount of work (some seconds),
so that the same pattern on the same text has the same end everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, NoReturn

from baton.errors import InvalidInputError

MAX_PATTERN_CHARS: Final = 200
MAX_DEPTH: Final = 20
MAX_STATES: Final = 500
MAX_WORK: Final = 4_000_000
_MAX_CACHED_PLACES: Final = 500_000

Kind = Literal["edge", "word", "other"]
"""What stands on one side of a position: the line's end, a word's character, another one."""


@dataclass(frozen=True, slots=True)
class _Atom:
    """One character, by a `re` pattern of one character; `literal` if it is that one only."""

    matches: re.Pattern[str]
    literal: str | None


@dataclass(frozen=True, slots=True)
class _Assertion:
    sign: str


@dataclass(frozen=True, slots=True)
class _Sequence:
    items: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    options: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    item: _Node
    least: int
    most: int | None


_Node = _Atom | _Assertion | _Sequence | _Choice | _Repeat


class LineRegex:
    """A compiled pattern. Not for several threads at once: it learns as it reads.

    `literal` is a text that every matching line holds (maybe empty), for skipping other lines.

    Raises:
        InvalidInputError: the pattern is malformed, too large, or uses what is refused above.
    """

    def __init__(self, pattern: str, *, ignore_case: bool = False) -> None:
        if not 1 <= len(pattern) <= MAX_PATTERN_CHARS:
            _refuse(f"1 to {MAX_PATTERN_CHARS} characters", f"<{len(pattern)} characters>")
        tree = _Parser(pattern, re.IGNORECASE if ignore_case else re.NOFLAG).parse()
        self.literal = "" if ignore_case else _required_literal(tree)
        self._automaton = _Automaton(tree)

    def search(self, line: str) -> int | None:
        """Where the match that ends first ends in `line` (without its line feed), or None.

        Raises:
            InvalidInputError: this pattern has been too much work on the lines so far.
        """
        return self._automaton.search(line)


class _Parser:
    """Recursive descent over one pattern."""

    def __init__(self, pattern: str, flags: re.RegexFlag) -> None:
        self._pattern = pattern
        self._flags = flags
        self._at = 0
        self._depth = 0

    def parse(self) -> _Node:
        tree = self._choice()
        if self._at < len(self._pattern):
            _refuse("balanced parentheses", self._pattern)
        return tree

    def _peek(self, length: int = 1) -> str:
        return self._pattern[self._at : self._at + length]

    def _take(self, length: int = 1) -> str:
        taken = self._peek(length)
        if len(taken) < length:
            _refuse("a complete pattern", self._pattern)
        self._at += length
        return taken

    def _choice(self) -> _Node:
        options = [self._sequence()]
        while self._peek() == "|":
            self._take()
            options.append(self._sequence())
        return options[0] if len(options) == 1 else _Choice(tuple(options))

    def _sequence(self) -> _Node:
        items = []
        while self._peek() not in ("", "|", ")"):
            items.append(self._repeat(self._item()))
        return _Sequence(tuple(items))

    def _item(self) -> _Node:
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        if char in "*+?":
            _refuse("something before each repetition", self._pattern)
        if char in "^$":
            return _Assertion(char)
        return self._atom(".") if char == "." else self._atom(re.escape(char), char)

    def _group(self) -> _Node:
        if self._peek() == "?":
            if self._peek(2) != "?:":
                _refuse("no look-around, named groups or inline flags", self._pattern)
            self._take(2)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _refuse(f"at most {MAX_DEPTH} nested groups", self._pattern)
        inner = self._choice()
        if self._take() != ")":
            _refuse("balanced parentheses", self._pattern)
        self._depth -= 1
        return inner

    def _class(self) -> _Node:
        source = "["
        if self._peek() == "^":
            source += self._take()
        if self._peek() == "]":
            source += "\\" + self._take()
        while (char := self._take()) != "]":
            if char == "\\":
                source += char + self._take()
            elif char in "[&~|":  # `re` warns that these may come to mean set operations
                source += "\\" + char
            elif char == "-" and self._peek() == "-":
                _refuse(r"\- for a hyphen next to another in a class", self._pattern)
            else:
                source += char
        return self._atom(source + "]")

    def _escape(self) -> _Node:
        char = self._take()
        if char in "bB":
            return _Assertion(char)
        if char in "dDwWsSt":
            return self._atom("\\" + char)
        if char.isalnum():
            _refuse("no back-references or other escapes of letters and digits", self._pattern)
        return self._atom(re.escape(char), char)

    def _repeat(self, item: _Node) -> _Node:
        bounds = self._bounds()
        if bounds is None:
            return item
        if isinstance(item, _Assertion):
            _refuse("no repetition of ^, $, \\b or \\B", self._pattern)
        if self._peek() == "?":  # lazy: which lines match is the same
            self._take()
        if self._peek() in ("*", "+", "?") or self._bounds() is not None:
            _refuse("no repetition of a repetition, nor possessive ones", self._pattern)
        return _Repeat(item, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(self._peek())
        if simple is not None:
            self._take()
            return simple
        braces = re.compile(r"\{(\d{0,4})(,?)(\d{0,4})\}", re.ASCII).match(self._pattern, self._at)
        if braces is None or not (braces[1] or braces[3]):
            return None
        self._at = braces.end()
        least = int(braces[1] or 0)
        most = (int(braces[3]) if braces[3] else None) if braces[2] else least
        if most is not None and most < least:
            _refuse("{m,n} with m at most n", self._pattern)
        return least, most

    def _atom(self, source: str, literal: str | None = None) -> _Atom:
        try:
            return _Atom(re.compile(source, self._flags), literal)
        except re.error as error:
            raise InvalidInputError("pattern", "a valid class", f"<{source}: {error}>") from error


class _State:
    """A state of the deterministic automaton: where the pattern may be, and what came before."""

    __slots__ = ("before", "moves", "places")

    def __init__(self, places: frozenset[int], before: Kind) -> None:
        self.places = places
        self.before = before
        self.moves: dict[str, _State] = {}


class _Automaton:
    """The pattern's places, and the deterministic states met so far."""

    def __init__(self, tree: _Node) -> None:
        # A place is (atom, next place), (assertion, next place) or (None, places to go on at).
        self._places: list[tuple[_Atom | _Assertion | None, tuple[int, ...]]] = []
        self._emitted = 0
        self._work = 0
        self._final = self._add(None, ())
        self._start = self._emit(tree, self._final)
        self._matched = _State(frozenset(), "edge")
        self._forget()

    def search(self, line: str) -> int | None:
        state = self._first
        for position, char in enumerate(line):
            state = state.moves.get(char) or self._move(state, char)
            if state is self._matched:
                return position
        return len(line) if self._final in self._reach(state, "edge") else None

    def _forget(self) -> None:
        self._states: dict[tuple[frozenset[int], Kind], _State] = {}
        self._cached = 0
        self._first = self._state(frozenset({self._start}), "edge")

    def _state(self, places: frozenset[int], before: Kind) -> _State:
        return self._states.setdefault((places, before), _State(places, before))

    def _move(self, state: _State, char: str) -> _State:
        kind: Kind = "word" if char.isalnum() or char == "_" else "other"
        reached = self._reach(state, kind)
        if self._final in reached:
            target = self._matched
        else:
            stepped = {self._start}  # a match may begin at every character
            for place in reached:
                what, following = self._places[place]
                if isinstance(what, _Atom) and what.matches.match(char):
                    stepped.add(following[0])
            target = self._state(frozenset(stepped), kind)
        self._spend(len(reached))
        state.moves[char] = target
        return target

    def _spend(self, places: int) -> None:
        self._work += 1 + places
        if self._work > MAX_WORK:
            _refuse("a pattern that needs fewer states on this text", "<too much work>")
        self._cached += 1 + places
        if self._cached > _MAX_CACHED_PLACES:
            self._forget()

    def _reach(self, state: _State, after: Kind) -> set[int]:
        """The places reached from `state` without reading, `after` being what comes next."""
        reached: set[int] = set()
        pending = list(state.places)
        while pending:
            place = pending.pop()
            if place in reached:
                continue
            reached.add(place)
            what, following = self._places[place]
            if what is None or (
                isinstance(what, _Assertion) and _holds(what.sign, state.before, after)
            ):
                pending += following
        return reached

    def _add(self, what: _Atom | _Assertion | None, following: tuple[int, ...]) -> int:
        self._places.append((what, following))
        return len(self._places) - 1

    def _emit(self, node: _Node, following: int) -> int:
        """Add `node`'s places, to go on at `following`; return the place it begins at."""
        self._emitted += 1
        if self._emitted > MAX_STATES:
            _refuse(f"a pattern of at most {MAX_STATES} states", "<more when unrolled>")
        if isinstance(node, _Atom | _Assertion):
            return self._add(node, (following,))
        if isinstance(node, _Choice):
            return self._add(None, tuple(self._emit(option, following) for option in node.options))
        if isinstance(node, _Sequence):
            for item in reversed(node.items):
                following = self._emit(item, following)
            return following
        return self._emit_repeat(node, following)

    def _emit_repeat(self, node: _Repeat, following: int) -> int:
        entry = following
        if node.most is None:
            entry = self._add(None, ())
            self._places[entry] = (None, (self._emit(node.item, entry), following))
        for _ in range((node.most or node.least) - node.least):
            entry = self._add(None, (self._emit(node.item, entry), following))
        for _ in range(node.least):
            entry = self._emit(node.item, entry)
        return entry


def _holds(sign: str, before: Kind, after: Kind) -> bool:
    if sign == "^":
        return before == "edge"
    if sign == "$":
        return after == "edge"
    return ((before == "word") != (after == "word")) == (sign == "b")


def _required_literal(tree: _Node) -> str:
    """The longest text that must stand in each match, as far as a look at the top level shows."""
    runs = [""]
    for item in tree.items if isinstance(tree, _Sequence) else ():
        if isinstance(item, _Atom) and item.literal is not None:
            runs[-1] += item.literal
        elif not isinstance(item, _Assertion):
            runs.append("")
    return max(runs, key=len)


def _refuse(expected: str, got: str) -> NoReturn:
    raise InvalidInputError("pattern", expected, got)
