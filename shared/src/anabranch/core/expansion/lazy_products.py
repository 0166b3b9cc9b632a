"""Lazy sequences and products of sequences: item i is computed from i when it is read. Pure.

Nothing is materialised, so reading a range of a million-member expansion costs only as much as the range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, Protocol, overload

from anabranch.core.errors import ExpansionError

_LARGEST: Final = 1 << 62
"""Maximum length of a sequence: `len` raises OverflowError for a length of over 63 bits."""


class Combinations(Protocol):
    """Numbered combinations, each of which assigns a value to every name."""

    @property
    def count(self) -> int:
        """The number of combinations."""

    def between(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yield combinations `start` to `stop`, exclusive (0 <= start, stop <= count); each is a new dict."""


def count_between(start: float, end: float, step: float) -> int:
    """The number of numbers from `start` to `end` inclusive, by `step`, which is not 0. Exact for any floats: they
    are converted to fractions, because a float division can be off by one."""
    if isinstance(start, int) and isinstance(end, int) and isinstance(step, int):
        return max(0, (end - start) // step + 1)
    # By way of the shortest text: Fraction(0.1) would be the exact binary value, which is not 1/10.
    first, last, stride = Fraction(str(start)), Fraction(str(end)), Fraction(str(step))
    return max(0, math.floor((last - first) / stride) + 1)


class Arithmetic(Sequence[int | float]):
    """The numbers from `start` to `end` inclusive, by `step`; empty if `step` leads away from `end`.

    Decimal fractions are exact: 0 to 0.3 by 0.1 is 0, 0.1, 0.2, 0.3, where adding floats would give
    0.30000000000000004. Raises ExpansionError for a step of 0 and for more numbers than can be counted.
    """

    def __init__(self, start: float, end: float, step: float = 1) -> None:
        if step == 0:
            raise ExpansionError("a sequence with step 0 never ends: give another step")
        self._count = count_between(start, end, step)
        if self._count > _LARGEST:
            raise ExpansionError(f"the sequence from {start} to {end} by {step} is too long")
        self._whole: range | None = None
        if isinstance(start, int) and isinstance(step, int):
            self._whole = range(start, start + self._count * step, step)
        else:
            self._start, self._step = Fraction(str(start)), Fraction(str(step))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> int | float: ...
    @overload
    def __getitem__(self, index: slice) -> list[int | float]: ...
    def __getitem__(self, index: int | slice) -> int | float | list[int | float]:
        if isinstance(index, slice):
            chosen = range(*index.indices(self._count))
            return [self[at] for at in chosen] if self._whole is None else list(self._whole[index])
        if not -self._count <= index < self._count:
            raise IndexError(f"number {index} of {self._count}")
        if self._whole is not None:
            return self._whole[index]
        return float(self._start + (index % self._count) * self._step)


class Chunks(Sequence[list[Any]]):
    """Consecutive lists of `size` items each; the last may be shorter."""

    def __init__(self, items: Sequence[Any], size: int) -> None:
        self._items = items
        self._size = size
        self._count = -(-len(items) // size)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> list[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Any]]: ...
    def __getitem__(self, index: int | slice) -> list[Any] | list[list[Any]]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"chunk {index} of {self._count}")
        start = (index % self._count) * self._size
        return list(self._items[start : start + self._size])


class Zipped:
    """Zipped arrays: combination i has item i of each. Raises ExpansionError for unequal lengths."""

    def __init__(self, arrays: Mapping[str, Sequence[Any]]) -> None:
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise ExpansionError(f"arrays that are zipped must have one length: {found} items")
        self._arrays = arrays
        self.count = next(iter(lengths.values()), 0)

    def at(self, index: int) -> dict[str, Any]:
        """Return combination `index`."""
        return {name: array[index] for name, array in self._arrays.items()}

    def between(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yield the combinations `start` to `stop`."""
        parts = [array[start:stop] for array in self._arrays.values()]
        if len(parts) == 1:  # fast path, without `zip`
            (name,) = self._arrays
            return ({name: item} for item in parts[0])
        names = tuple(self._arrays)
        return (dict(zip(names, items, strict=True)) for items in zip(*parts, strict=True))


class Product:
    """The Cartesian product of axes, the first axis slowest; `constants` are in every combination."""

    def __init__(self, axes: Sequence[Zipped], constants: Mapping[str, Any]) -> None:
        self._axes = axes
        self._constants = constants
        self.count = math.prod(axis.count for axis in axes)

    def at(self, index: int) -> dict[str, Any]:
        """Return combination `index`. Its positions on the axes are the digits of `index` in the mixed radix of
        the axes' lengths, so the product is never walked."""
        digits = []
        for axis in reversed(self._axes):
            index, digit = divmod(index, axis.count)
            digits.append(digit)
        combination: dict[str, Any] = {}
        for axis, digit in zip(self._axes, reversed(digits), strict=True):
            combination |= axis.at(digit)
        combination.update(self._constants)
        return combination

    def between(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yield the combinations `start` to `stop`: the slower axes are looked up once for each round of the
        fastest."""
        if not self._axes:
            yield from (dict(self._constants) for _ in range(start, stop))
            return
        slow, fast = Product(self._axes[:-1], {}), self._axes[-1]
        while start < stop:
            turn, first = divmod(start, fast.count)
            last = min(fast.count, first + stop - start)
            combination = slow.at(turn)
            for found in fast.between(first, last):
                yield {**combination, **found, **self._constants}
            start += last - first
