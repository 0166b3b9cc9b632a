"""Reads single keys from a terminal without echo, and restores the terminal's mode afterwards."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SEQUENCES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b[5~": "page-up",
    "\x1b[6~": "page-down",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
}
_KEY = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Z])|.", re.DOTALL)


def decode_keys(data: bytes) -> list[str]:
    """The keys in bytes from a terminal: special keys by name, others as their character. Unknown escape sequences
    are dropped."""
    found = [_SEQUENCES.get(each, each) for each in _KEY.findall(data.decode(errors="ignore"))]
    return [key for key in found if not key.startswith("\x1b")]


@contextmanager
def keys(on_key: Callable[[str], None]) -> Iterator[None]:
    """Call `on_key` on the running loop for each key while the context is open. Ctrl-C still sends a signal."""
    import termios
    import tty

    loop = asyncio.get_running_loop()
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def readable() -> None:
        data = os.read(terminal, 1024)
        if not data:  # the terminal was closed
            loop.remove_reader(terminal)
            data = b"q"
        for key in decode_keys(data):
            on_key(key)

    # Not raw mode: in cbreak mode the terminal still turns Ctrl-C into a signal.
    tty.setcbreak(terminal)
    loop.add_reader(terminal, readable)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
