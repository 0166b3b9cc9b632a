"""Tuning of malloc takes effect on glibc; elsewhere the functions report that it does not, and nothing fails."""

from __future__ import annotations

import ctypes
import platform
from typing import Any

import pytest

from anabranch.runtime.process import process_memory

IS_GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not IS_GLIBC, reason="another C library")
def test_arenas_are_limited_and_free_memory_is_returned() -> None:
    held = [bytes(4_000) for _ in range(20_000)]
    del held

    assert process_memory.limit_arenas()
    assert process_memory.return_free_memory() in (True, False)


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_without_glibc_nothing_is_tuned(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def refused(*_: Any) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refused)

    assert (process_memory.limit_arenas(), process_memory.return_free_memory()) == (False, False)
