"""The protocol of a kind of step: what the session's owner asks of it from its begin to its end. Pure.

The owner itself does what all kinds have in common: it waits for the dependencies, publishes the values, ends a
step once, and closes its group. `registry` finds the kind of a step; nothing else in the owner asks which kind it
is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, NamedTuple, Protocol

from anabranch.core.names import Names
from anabranch.core.reasons import Missing
from anabranch.runtime.ownership.effects import Effect
from anabranch_taskgroup.session.conditions import Judgement
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskEvent
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.timers import TimerKind
from anabranch_taskgroup.session.turn import Turn


class Step(NamedTuple):
    """A step of an open run: the target of a signal or a timer."""

    run: Run
    group: Group
    task: Task


class Signal(Protocol):
    """A message that is addressed to one step."""

    @property
    def run_id(self) -> str: ...

    @property
    def group(self) -> str: ...

    @property
    def task(self) -> str: ...


class Activity(Enum):
    """Whether a step that has not ended may be silent for long."""

    WORKING = "working"
    """Something is under way: silence is a reason to nudge the owner."""
    RESTING = "resting"
    """It waits for a time or for a person."""
    WAITING = "waiting"
    """It waits for its dependencies or for a limit, which other steps explain."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A missing fact; `claim` is the store's key of the chunk's claim where it is about an offered chunk."""

    missing: Missing
    claim: str | None = None
    chunk: tuple[int, int] | None = None
    """Number and fence of the chunk."""
    limit: str | None = None
    """Address of the limit that it waits for."""
    bounced: bool = False
    """A worker has returned the chunk before, because it lacks the agent."""


class StepKind(Protocol):
    """One kind of step. A kind keeps no state: all of it is in the `Task`, a fold over the log.

    Kinds subclass it: what a kind has no use for is done by the default, which does nothing.
    """

    name: ClassVar[str]

    def begin(self, turn: Turn, step: Step) -> None:
        """The dependencies are there: start the step. It may end in the same turn, by `endings.complete`, `fail`
        or `end`, as in each of the other methods but `cancel`."""

    def on_signal(self, turn: Turn, step: Step, signal: Signal, segments: tuple[bytes, ...]) -> None:
        """Decide about a message that is addressed to the step, which may have ended."""
        turn.partition.drop("signal that this kind of step does not know")

    def on_judgement(self, turn: Turn, step: Step, purpose: str, found: Judgement) -> None:
        """The shell has evaluated conditions of the step for a purpose of the kind: see `conditions`."""
        turn.partition.drop("conditions that this kind of step does not have")

    def body_ended(self, turn: Turn, step: Step) -> None:
        """All tasks that the step repeats have ended."""
        return

    def due(self, turn: Turn, step: Step, timer: TimerKind, now: float) -> None:
        """A timer of the step, which has not ended, is due at `now`."""
        return

    def resume(self, turn: Turn, step: Step) -> None:
        """Start what may start now: the run is no longer paused, or its owner was nudged."""
        return

    def on_pause(self, turn: Turn, step: Step) -> None:
        """The run of the step was paused or resumed."""
        return

    def lingers(self, turn: Turn, step: Step, event: TaskEvent) -> bool:
        """The step is stopped by `event`. True if it ends later, by itself: something that it has started has to
        end before. Each stop asks again."""
        return False

    def cancel(self, turn: Turn, step: Step) -> None:
        """Keep what there is for the report; the caller ends the step."""
        return

    def pending(self, step: Step, names: Names) -> Iterator[Wait]:
        """The facts that a step which has begun, and has not ended, waits for."""
        return iter(())

    def derive(self, step: Step) -> Iterator[Effect]:
        """The effects that should be under way for a step that has not ended; see `session.derive`."""
        return iter(())

    def activity(self, task: Task) -> Activity:
        """Whether a step that has not ended may be silent for long."""
        return Activity.WAITING
