"""Regular expressions of JSON Schemas, searched in linear time. Pure.

The expression and the text come from users, and an owner searches while it decides about a record. Python's `re`
may take years for some of them, and nothing can interrupt it. So the expression becomes an automaton that follows
all of its branches at once, as in RE2: each character of a text costs at most one step for each of its states.
Lookarounds and references to groups cannot be searched like that, and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

MAX_STATES = 1_000
"""States of an expression at most; a repetition has those of its body for each of its counts."""
MAX_STEPS = 3_000_000
"""Characters of a text times states of the expression at most: one to two seconds."""
MAX_KNOWN = 10_000
"""Steps of one search that are remembered at once."""

Test = Callable[[str], bool]
Around = tuple[bool, bool, bool, bool, bool]
"""What an assertion sees of a place in the text: whether it is the start, the end, before a last line break, after
a character of a word, before one."""


class PatternRefused(ValueError):
    """A regular expression, or the search of one, is not supported. The message says why."""


class _State(NamedTuple):
    """One of: a character that passes a test; a place in the text that passes a check; a branch (neither)."""

    after: tuple[int, ...]
    test: Test | None = None
    check: Callable[[Around], bool] | None = None


class Pattern:
    """A compiled expression. Its states are numbered from the end: state 0 is a match."""

    def __init__(self, source: str) -> None:
        """Raises PatternRefused: the expression is wrong, too large, or has what cannot be searched."""
        try:
            tree = parser.parse(source)
        except (re.error, OverflowError, RecursionError) as error:
            raise PatternRefused(f"{source[:100]!r} is no regular expression: {error}") from error
        if tree.state.flags & ~re.UNICODE:
            raise PatternRefused(f"{source[:100]!r} has flags, such as (?i), which are not supported")
        self._states = [_State(())]
        self._start = self._sequence(tree, 0)
        self._has_checks = any(state.check is not None for state in self._states)

    # --- compiling -----------------------------------------------------------------------------------

    def _add(self, state: _State) -> int:
        if len(self._states) >= MAX_STATES:
            raise PatternRefused(f"the regular expression has more than {MAX_STATES:,} states: repeat less often")
        self._states.append(state)
        return len(self._states) - 1

    def _sequence(self, items: Iterable[tuple[Any, Any]], after: int) -> int:
        """Add the states of items that are followed by a state; returns the first of them."""
        for code, value in reversed(list(items)):
            after = self._item(code, value, after)
        return after

    def _item(self, code: Any, value: Any, after: int) -> int:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            low, high, items = value
            return self._repeat(low, high, items, after)
        if code is codes.SUBPATTERN:
            _, added, removed, items = value
            if added or removed:
                raise PatternRefused("flags of a group are not supported")
            return self._sequence(items, after)
        if code is codes.BRANCH:
            return self._add(_State(tuple(self._sequence(items, after) for items in value[1])))
        if code is codes.AT:
            if value not in _CHECKS:
                raise PatternRefused(f"the assertion {value} is not supported")
            return self._add(_State((after,), check=_CHECKS[value]))
        return self._add(_State((after,), test=_test_of(code, value)))

    def _repeat(self, low: int, high: int, items: Any, after: int) -> int:
        if high is codes.MAXREPEAT:
            # A branch that its own body leads back to.
            loop = self._add(_State(()))
            self._states[loop] = _State((self._sequence(items, loop), after))
            after = loop
        else:
            for _ in range(high - low):
                after = self._add(_State((self._sequence(items, after), after)))
        for _ in range(low):
            after = self._sequence(items, after)
        return after

    # --- searching -----------------------------------------------------------------------------------

    def search(self, text: str) -> bool:
        """True if a part of the text matches.

        Raises:
            PatternRefused: the text is too long for this expression.
        """
        if len(text) * len(self._states) > MAX_STEPS:
            raise PatternRefused(f"a text of {len(text):,} characters is too long for its regular expression")
        # A search takes far fewer steps where the same states meet the same characters again.
        steps: dict[tuple[frozenset[int], Around, str], tuple[bool, frozenset[int]]] = {}
        nowhere, states = (False,) * 5, frozenset[int]()
        for at in range(len(text) + 1):
            around = _around(text, at) if self._has_checks else nowhere
            char = text[at : at + 1]
            key = states, around, char
            found = steps.get(key)
            if found is None:
                if len(steps) >= MAX_KNOWN:
                    steps.clear()
                found = steps[key] = self._step(states, around, char)
            if found[0]:
                return True
            states = found[1]
        return False

    def _step(self, states: frozenset[int], around: Around, char: str) -> tuple[bool, frozenset[int]]:
        """Whether one of the states, or a new start, has a match here; and the states after a character."""
        reached, todo, after = set[int](), [*states, self._start], set[int]()
        while todo:
            number = todo.pop()
            if number in reached:
                continue
            reached.add(number)
            if number == 0:
                return True, frozenset()
            state = self._states[number]
            if state.test is not None:
                if char and state.test(char):
                    after.update(state.after)
            elif state.check is None or state.check(around):
                todo += state.after
        return False, frozenset(after)


@lru_cache(256)
def pattern_of(source: str) -> Pattern:
    """The compiled expression. Raises PatternRefused."""
    return Pattern(source)


def _around(text: str, at: int) -> Around:
    is_after = at > 0 and _is_word(text[at - 1])
    is_before = at < len(text) and _is_word(text[at])
    return at == 0, at == len(text), at == len(text) - 1 and text[at] == "\n", is_after, is_before


_CHECKS: dict[Any, Callable[[Around], bool]] = {
    codes.AT_BEGINNING: lambda around: around[0],
    codes.AT_BEGINNING_STRING: lambda around: around[0],
    codes.AT_END: lambda around: around[1] or around[2],
    codes.AT_END_STRING: lambda around: around[1],
    codes.AT_BOUNDARY: lambda around: around[3] != around[4],
    # Not in an empty text, as in `re`.
    codes.AT_NON_BOUNDARY: lambda around: around[3] == around[4] and not (around[0] and around[1]),
}


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


_CATEGORIES: dict[Any, Test] = {
    codes.CATEGORY_DIGIT: str.isdecimal,
    codes.CATEGORY_NOT_DIGIT: lambda char: not char.isdecimal(),
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_NOT_SPACE: lambda char: not char.isspace(),
    codes.CATEGORY_WORD: _is_word,
    codes.CATEGORY_NOT_WORD: lambda char: not _is_word(char),
}


def _test_of(code: Any, value: Any) -> Test:
    """The test of one character."""
    if code is codes.LITERAL:
        return chr(value).__eq__
    if code is codes.NOT_LITERAL:
        return chr(value).__ne__
    if code is codes.ANY:
        return "\n".__ne__
    if code is codes.IN:
        return _class_of(value)
    raise PatternRefused(f"{str(code).lower()} is not supported: use no lookaround and no reference to a group")


def _class_of(items: list[tuple[Any, Any]]) -> Test:
    is_negated = bool(items) and items[0][0] is codes.NEGATE
    tests: list[Test] = []
    for code, value in items[1:] if is_negated else items:
        if code is codes.RANGE:
            tests.append(lambda char, low=chr(value[0]), high=chr(value[1]): low <= char <= high)  # type: ignore[misc]
        elif code is codes.CATEGORY:
            tests.append(_CATEGORIES[value])
        else:
            tests.append(_test_of(code, value))
    return lambda char: any(test(char) for test in tests) is not is_negated
