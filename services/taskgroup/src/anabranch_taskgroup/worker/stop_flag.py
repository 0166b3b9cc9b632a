"""The flag by which agents see that they have to stop."""

from __future__ import annotations


class StopFlag:
    """Tells an agent to stop: one attempt, or with `parent` the whole chunk too. Safe to read in any thread."""

    __slots__ = ("_is_set", "_parent")

    def __init__(self, parent: StopFlag | None = None) -> None:
        # A plain attribute: writing it is atomic, and nobody waits for it as for a `threading.Event`.
        self._is_set = False
        self._parent = parent

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set or (self._parent is not None and self._parent.is_set())
