"""Keeps a process small and quick: how malloc and the collector of reference cycles go about it.

glibc gives each thread an arena of its own and hardly gives any of it back. The clients of Kafka come and go with
threads, and who takes partitions over holds for a moment much more than afterwards. Without glibc the first two do
nothing. For processes of our own: an embedded system leaves its host's settings alone.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

ARENAS = 2
LARGE = 131_072
"""Bytes from which on a block is mapped by itself."""
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def bound_arenas(count: int = ARENAS, large: int = LARGE) -> bool:
    """Have threads share so many arenas, and keep large blocks out of them for good: a threshold that is not set
    moves up to 32 MB with the largest block ever freed, and what came between is then stuck below others. To be
    called before there are any threads. False where there is no such thing."""
    mallopt = _glibc("mallopt")
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, count)) and bool(mallopt(_M_MMAP_THRESHOLD, large))


def give_back() -> bool:
    """Return free memory to the system; takes milliseconds. False where there was none, or no such thing."""
    trim = _glibc("malloc_trim")
    return trim is not None and bool(trim(0))


def collect_seldom() -> None:
    """Search for cycles after 20,000 new objects instead of 700, and never again in what is loaded by now.

    Call it once all is started. Messages and state are trees, which need no search: with the interpreter's own
    settings it took a seventh of a service's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _glibc(name: str) -> Callable[..., Any] | None:
    try:
        found: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return found
