"""The state of a chunk: members of a task that are offered together. Data with invariants, no decisions."""

from __future__ import annotations

from dataclasses import dataclass, field

from anabranch.core.costs import NO_COSTS
from anabranch.core.ranges import NO_RANGES, Ranges
from anabranch.core.wire.messages import Mode
from anabranch_taskgroup.session.budget_state import Amounts


@dataclass(slots=True)
class Chunk:
    """Members that were offered together.

    `fence` is the fencing token of the present delivery: it rises with each offer that may run the members again,
    and a report under a lower one is dropped. `pending` are the members that have not ended. `charge` is the
    chunk's share of the concurrency limits.
    """

    number: int
    pending: Ranges
    charge: int
    fence: int = 0
    deliveries: int = 1
    attempts: dict[int, int] = field(default_factory=dict)
    offered_at: float = 0.0
    size: int = 0
    bounces: int = 0
    """How many times a worker returned the chunk because it lacks the agent, or room."""
    mode: Mode = "fast"
    begun: Ranges = NO_RANGES
    """Members that this delivery has reported as started; complete unless `mode` is fast."""
    spent: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """By index and attempt in this delivery: the billionths of a dollar and the tokens that it has used so far."""
    micros: int = 0
    """Microseconds that the attempts of this delivery took which have ended."""
    share: Amounts = NO_COSTS
    """What a member of it is expected to use, if there are budgets."""
    reserved: Amounts = NO_COSTS
    """What its members may still use that have not ended."""

    spared: int = 0
    """Workers that died with the chunk since the last report of work outside of them, and were not charged."""

    is_looked: bool = False
    """The cache has no value for its members."""

    def renew(self) -> None:
        """Begin the next delivery: reports of the last one are dropped from now on."""
        self.fence += 1
        self.spent, self.micros = {}, 0
        # Starts of the last delivery say nothing about the next: a suspect has to start again to be charged.
        self.begun = NO_RANGES

    def remove_member(self, index: int) -> None:
        """Remove a member that has ended, or waits for its next attempt outside the chunk."""
        self.pending = self.pending.without(((index, index + 1),))
