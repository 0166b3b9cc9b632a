"""Decides of which level the next chunk of a worker is. Pure.

The highest level that has any is next. So that none starves, each chunk that begins of another level counts for a
level that waits: after `MAX_PASSED` of them, it has the next turn. Where several have waited for so long, the
lowest one is first, so of 16 chunks at least one is of the lowest level that has any.
"""

from __future__ import annotations

from collections.abc import Collection

from anabranch.core.lanes import Priority, number_of

MAX_PASSED = 15
"""Chunks of other levels that begin one after another while a level waits, at most."""


class LevelTurns:
    """The turns of one worker."""

    def __init__(self) -> None:
        self._passed: dict[Priority, int] = {}
        """By level that waits: the chunks of other levels that have begun since it began to wait, or since its
        last turn."""

    def following(self, waiting: Collection[Priority]) -> Priority:
        """The level of the next chunk, of those that wait; at least one does."""
        if len(waiting) == 1:  # nearly always
            return next(iter(waiting))
        late = [priority for priority in waiting if self._passed.get(priority, 0) >= MAX_PASSED]
        return min(late, key=number_of) if late else max(waiting, key=number_of)

    def begun(self, priority: Priority, waiting: Collection[Priority]) -> None:
        """Count a chunk that begins.

        Args:
            waiting: the levels that had chunks when it was chosen.
        """
        if len(waiting) == 1 and priority in waiting:
            self._passed = {}
            return
        self._passed = {each: self._passed.get(each, 0) + 1 for each in waiting if each != priority}

    def repeat(self, priority: Priority, waiting: Collection[Priority]) -> None:
        """The last chunk of a level did not begin: the level has its turn again, if it was not the highest one.

        Args:
            waiting: the levels that have chunks.
        """
        if any(number_of(each) > number_of(priority) for each in waiting):
            self._passed[priority] = MAX_PASSED
