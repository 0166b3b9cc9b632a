"""Keeps a process small on glibc, which gives each thread an arena of its own and hardly gives any of it back.

The clients of Kafka come and go with threads, and who takes partitions over holds for a moment much more than
afterwards. Elsewhere these do nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

ARENAS = 2
_M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def bound_arenas(count: int = ARENAS) -> bool:
    """Have threads share so many arenas; to be called before there are any. False where there is no such thing."""
    mallopt = _glibc("mallopt")
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, count))


def give_back() -> bool:
    """Return free memory to the system; takes milliseconds. False where there was none, or no such thing."""
    trim = _glibc("malloc_trim")
    return trim is not None and bool(trim(0))


def _glibc(name: str) -> Callable[..., Any] | None:
    try:
        found: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return found
