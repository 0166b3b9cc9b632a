"""How much text rendered templates may hold in a worker: few members that repeat large values run at once.

What a member's templates become is bounded before any is rendered, by their placeholders and the sizes of values.
Nearly every task is far below `LIGHT`, and nothing is counted for its members. Those of a heavier one wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from anabranch.core.templates import MAX_RENDERED, MISSING, Path, Template, as_text, places_of, text_bytes

LIGHT = 4 * 1024 * 1024
"""Bytes that a member may hold without being counted: 64 of them hold as much as `TOTAL`."""
TOTAL = 256 * 1024 * 1024
"""Bytes that all counted members of a worker may hold at once."""
_HEAVIEST = 3 * MAX_RENDERED
"""A member has a message, instructions and inputs, each of which fails beyond `MOST_RENDERED`."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What the templates of one task become, at most.

    Args:
        known: bytes of text from values that all its members share.
        open: placeholders that are filled in by each member's own values.
    """

    known: int = 0
    open: int = 0

    @classmethod
    def of(cls, templates: Iterable[Template], context: Mapping[str, Any]) -> Weight:
        """The weight of templates, of which `context` has the shared values."""
        known, own = 0, 0
        for text, count in Counter(place.text for template in templates for place in places_of(template)).items():
            value = Path(text).find(context)
            if value is MISSING:
                own += count
            elif known < _HEAVIEST:  # beyond, it is as heavy as can be, and need not be looked at
                known += count * text_bytes(as_text(value))
        return cls(known, own)

    def of_members(self, items_bytes: int, items: Mapping[str, list[Any]] | None) -> int:
        """Bytes that one member holds at most; 0 where that is nothing to be counted.

        Args:
            items_bytes: of the text that all items of these members come from.
            items: those items, which are looked at one by one only where their sum is too much for one.
        """
        weight = self.known + 4 * self.open * items_bytes
        if weight > LIGHT and self.open and items is not None:
            weight = self.known + self.open * _largest(items)
        return 0 if weight <= LIGHT else min(weight, _HEAVIEST)


def _largest(items: Mapping[str, list[Any]]) -> int:
    """Bytes of the largest item of each array together, as text."""
    return sum(max((text_bytes(as_text(item)) for item in each), default=0) for each in items.values())


class TemplateMemory:
    """Bytes of text that counted members of a worker hold. Who waits is served in the order of coming."""

    def __init__(self, total: int = TOTAL) -> None:
        self._left = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Room for so many bytes, until the end of the block. No more than the total may be asked for."""
        await self._take(size)
        try:
            yield
        finally:
            self._left += size
            self._admit()

    async def _take(self, size: int) -> None:
        if not self._waiting and size <= self._left:
            self._left -= size
            return
        turn = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        try:
            await turn[1]
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn[1].done() and not turn[1].cancelled():
                self._left += size
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left:
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._left -= size
                turn.set_result(None)
