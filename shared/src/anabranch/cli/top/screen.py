"""State of the screen of `top` (order, filter, selected run), and how a key changes it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from anabranch.cli.top.snapshot import RunRow, Snapshot, Sort, select_rows

KEYS = "q quit  ↑↓ select  Enter details  s sort  o open only  / filter"
KEYS_INSIDE = "q quit  Esc back"
KEYS_TYPING = "Enter apply filter  Esc clear filter"

Key = Literal["up", "down", "home", "end", "page-up", "page-down", "enter", "escape", "backspace"] | str
"""A named key, or the character that was typed."""
PAGE = 10


@dataclass(frozen=True, slots=True)
class Screen:
    """State of the screen.

    Attributes:
        text: filter on names, ids, statuses and labels. `typing`: the user is editing it.
        selected_id: run id of the selected run; not an index, so that the selection stays when rows move.
        shows_details: the details of the selected run are shown.
    """

    sort: Sort = Sort.NEWEST
    text: str = ""
    open_only: bool = False
    selected_id: str | None = None
    shows_details: bool = False
    typing: bool = False
    quits: bool = False

    def rows(self, snapshot: Snapshot) -> list[RunRow]:
        return select_rows(snapshot.runs, self.sort, self.text, self.open_only)

    def selected_index(self, rows: Sequence[RunRow]) -> int:
        """Index of the selected run in the rows; 0 if it is not among them."""
        return next((number for number, row in enumerate(rows) if row.run_id == self.selected_id), 0)


def after_key(screen: Screen, key: Key, rows: Sequence[RunRow]) -> Screen:
    """The screen after a key. Keys without a meaning change nothing."""
    if screen.typing:
        return _typed(screen, key)
    if key in ("q", "\x03", "\x04"):
        return replace(screen, quits=True)
    if screen.shows_details:
        return replace(screen, shows_details=False) if key in ("escape", "enter", "backspace") else screen
    if key == "s":
        return replace(screen, sort=screen.sort.next())
    if key == "o":
        return replace(screen, open_only=not screen.open_only)
    if key == "/":
        return replace(screen, typing=True)
    if key == "escape":
        return replace(screen, text="")
    if key == "enter" and rows:
        return replace(screen, shows_details=True, selected_id=rows[screen.selected_index(rows)].run_id)
    return _moved(screen, key, rows)


def _typed(screen: Screen, key: Key) -> Screen:
    if key == "enter":
        return replace(screen, typing=False)
    if key in ("escape", "\x03"):
        return replace(screen, typing=False, text="")
    if key == "backspace":
        return replace(screen, text=screen.text[:-1])
    return replace(screen, text=screen.text + key) if len(key) == 1 and key.isprintable() else screen


def _moved(screen: Screen, key: Key, rows: Sequence[RunRow]) -> Screen:
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -PAGE, "page-down": PAGE}
    steps |= {"home": -len(rows), "end": len(rows)}
    if key not in steps or not rows:
        return screen
    selected_index = min(max(screen.selected_index(rows) + steps[key], 0), len(rows) - 1)
    return replace(screen, selected_id=rows[selected_index].run_id)
