"""Loaded by the services of a soak: on SIGUSR1 a process returns all memory that it does not use to the system.

Its resident memory then says what it holds, and no longer what it needed at its peak, such as the replay of a
whole log. Needs `PYTHONMALLOC=malloc`, because the interpreter's own allocator returns whole arenas only.
"""

from __future__ import annotations

import ctypes
import gc
import signal


def _trim(*_: object) -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


signal.signal(signal.SIGUSR1, _trim)
