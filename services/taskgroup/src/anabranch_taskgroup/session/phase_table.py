"""The phases of a run's end, as one table. Pure.

The session's owner enters the next phase in the turn in which the last group of the present one has ended. A phase
that the run does not have, or that has nothing to do, is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

COMPENSATE: Final = "compensate"
FINALLY: Final = "finally"


class Phase(StrEnum):
    RUNNING = "RUNNING"
    """The groups of the request run."""
    COMPENSATING = "COMPENSATING"
    """The group `compensate` undoes completed tasks of a run that did not complete."""
    FINALLY = "FINALLY"
    """The group `finally` runs."""
    ENDED = "ENDED"
    """The run is closed."""


NEXT: Mapping[Phase, tuple[Phase, ...]] = {
    Phase.RUNNING: (Phase.COMPENSATING, Phase.FINALLY, Phase.ENDED),
    Phase.COMPENSATING: (Phase.FINALLY, Phase.ENDED),
    Phase.FINALLY: (Phase.ENDED,),
    Phase.ENDED: (),
}
"""The phases that may follow, of which the first that has something to do is entered."""

GROUP_OF: Mapping[Phase, str] = {Phase.COMPENSATING: COMPENSATE, Phase.FINALLY: FINALLY}
"""The group that runs in a phase. A stop of the run does not stop it."""
