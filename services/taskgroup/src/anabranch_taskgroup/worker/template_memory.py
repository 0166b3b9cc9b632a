"""Limits the memory of rendered templates in a worker: few members that repeat large values run at once.

The size of a member's rendered templates is bounded before any is rendered, from the placeholders and the sizes of
their values. Nearly every task stays far below `LIGHT`, and its members are not counted. Heavier members wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from anabranch.core.templates import MAX_RENDERED, MISSING, Path, Template, as_text, text_bytes, text_placeholders

LIGHT = 4 * 1024 * 1024
"""Bytes that a member may have without being counted: 64 such members have as much as `TOTAL`."""
TOTAL = 256 * 1024 * 1024
"""Bytes that all counted members of a worker may have at once."""
_HEAVIEST = 3 * MAX_RENDERED
"""A member has a message, instructions and inputs. Rendering one of them beyond `MAX_RENDERED` fails."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Upper bound of the rendered templates of one task.

    Args:
        known: bytes of text from values that all its members share.
        open: the number of placeholders for each member's own values.
    """

    known: int = 0
    open: int = 0

    @classmethod
    def of(cls, templates: Iterable[Template], context: Mapping[str, Any]) -> Weight:
        """The weight of templates. `context` has the values that all members share."""
        known, own = 0, 0
        texts = (placeholder.text for template in templates for placeholder in text_placeholders(template))
        for text, count in Counter(texts).items():
            value = Path(text).find(context)
            if value is MISSING:
                own += count
            elif known < _HEAVIEST:  # above it further values change nothing, and are not converted to text
                known += count * text_bytes(as_text(value))
        return cls(known, own)

    def of_members(self, items_bytes: int, items: Mapping[str, list[Any]] | None) -> int:
        """Maximum bytes of one member; 0 if it need not be counted.

        Args:
            items_bytes: bytes of the JSON that has all items of these members.
            items: those items. They are read only if the size of all is too much for one member.
        """
        # A cheap bound first: no item has more text than the JSON of all items, of which `text_bytes` would count
        # each byte as four at most.
        weight = self.known + 4 * self.open * items_bytes
        if weight > LIGHT and self.open and items is not None:
            weight = self.known + self.open * _largest(items)
        return 0 if weight <= LIGHT else min(weight, _HEAVIEST)


def _largest(items: Mapping[str, list[Any]]) -> int:
    """The sum over the arrays of the bytes of each one's largest item, as text."""
    return sum(max((text_bytes(as_text(item)) for item in each), default=0) for each in items.values())


WEIGHTLESS = Weight()
"""The weight of templates that insert no text."""


class TemplateMemory:
    """Semaphore over bytes: what the counted members of a worker may have at once. First come, first served."""

    def __init__(self, total: int = TOTAL) -> None:
        self._left = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Reserve bytes until the end of the block, once they are free. `size` may not exceed the total."""
        await self._acquire(size)
        try:
            yield
        finally:
            self._left += size
            self._admit()

    async def _acquire(self, size: int) -> None:
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
            elif turn[1].done() and not turn[1].cancelled():  # it was admitted before it was cancelled
                self._left += size
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left:
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._left -= size
                turn.set_result(None)
