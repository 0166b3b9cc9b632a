"""Tunes malloc and the garbage collector of a service's process.

glibc's malloc gives each thread its own arena and returns little of its free memory to the system. Kafka clients
start and end threads, and an owner needs much memory for a short time when it takes partitions over. Without glibc
`limit_arenas` and `return_free_memory` do nothing. Only for processes of Anabranch: an embedded system leaves the
settings of its host's process unchanged.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

ARENAS = 2
LARGE = 131_072
"""Minimum bytes of a block that malloc maps separately, outside the arenas."""
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def limit_arenas(count: int = ARENAS, large: int = LARGE) -> bool:
    """Let all threads share `count` arenas, and keep blocks of `large` bytes and more out of them. Returns False
    if malloc has no such options.

    Call it before any thread starts.
    """
    # Without a fixed threshold, malloc raises it up to 32 MB after each large free. Large blocks are then
    # allocated in arenas, where later blocks above them keep their memory from being returned.
    mallopt = _glibc("mallopt")
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, count)) and bool(mallopt(_M_MMAP_THRESHOLD, large))


def return_free_memory() -> bool:
    """Return free memory to the system; takes milliseconds. Returns False if there was none, or malloc cannot."""
    trim = _glibc("malloc_trim")
    return trim is not None and bool(trim(0))


def tune_garbage_collector() -> None:
    """Collect after 20,000 new objects instead of 700, and exclude all present objects from collection.

    Call it after the start. Messages and state are trees without reference cycles: with the default settings, the
    search for cycles took a seventh of a service's time.
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
