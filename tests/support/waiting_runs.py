"""A session's owner with one run whose steps wait: messages in, state and events out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from anabranch.core.names import Names
from anabranch.core.request.flow import Wait
from anabranch.core.request.models import Expansion
from anabranch.core.wire import messages as m
from anabranch.core.wire.codec import GROUPS, RUNS, encode
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.snapshots import decode_run, encode_run, snapshot_of
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import DecisionConfig, Turn

NAMES = Names("t.")


def waits(name: str = "w", expansion: Expansion | None = None, **fields: Any) -> m.TaskOrder:
    """A task that waits; `needs` and `order` are of the order, the others of its wait."""
    more = {"result_keys": (name,), "needs": tuple(fields.pop("needs", ()))} | fields.pop("order", {})
    return m.TaskOrder(
        name=name,
        kind="wait",
        wait=Wait.model_validate(fields),
        expansion=expansion,
        **more,
    )


def each_of(items: Any, **more: Any) -> Expansion:
    """An expansion with one member for each item, whose placeholder is `{item}`."""
    return Expansion(type="array", array_mapping={"item": items}, **more)


class WaitingRun:
    """A run `r` of one group `g`. Each record follows the one before by the seconds given, or at once."""

    def __init__(
        self, *tasks: m.TaskOrder, at: float = 1_000.0, inline_limit: int = 65_536, **opening: Any
    ) -> None:
        self.partition, self.offset, self.at = PartitionState(0), 0, at
        self.config = DecisionConfig(NAMES, inline_limit=inline_limit)
        self.turns: list[Turn] = []
        self.feed(m.OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9, **opening))
        self.feed(m.StartGroup(run_id="r", group="g", tasks=tasks))

    def feed(self, message: m.Message, segments: tuple[bytes, ...] = (), at: float | None = None) -> Turn:
        decoded = GROUPS.decode(encode(message, segments))
        self.at = self.at if at is None else at
        self.offset += 1
        delivered = DeliveredMessage(decoded.message, decoded.segments, self.offset, self.at)
        self.turns.append(decide(self.config, self.partition, delivered))
        return self.turns[-1]

    def signal(self, name: str, value: Any = None, signal_id: str | None = None) -> Turn:
        """A signal, by default with an id of its own."""
        message = m.SignalRun(run_id="r", name=name, signal_id=signal_id or f"id{self.offset}")
        return self.feed(message, (orjson.dumps(value),))

    def decide(self, decision: str = "approve", task: str = "w", **fields: Any) -> Turn:
        """A decision about a task that waits for one, by default by `ann` and with an id of its own."""
        given = {"by": "ann", "decision_id": f"id{self.offset}", **fields}
        return self.feed(m.DecideApproval(run_id="r", task=task, decision=decision, **given))

    def pass_time(self, at: float) -> None:
        """Append the records of all timers up to a time, each when it is due."""
        while (due := self.partition.next_due()) is not None and due <= at:
            self.feed(m.TimerDue(run_id="r", at=due), at=max(due, self.at))
        self.at = at

    @property
    def run(self) -> Run:
        return self.partition.runs["r"]

    def task(self, name: str = "w") -> Task:
        return self.run.groups["g"].tasks[name]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Data of the events of a kind, with their `spans` where the task is expanded."""
        found = []
        for turn in self.turns:
            for _, entry in turn.events:
                if entry.type == kind:
                    found.append(entry.data | ({} if entry.spans is None else {"spans": entry.spans}))
        return found

    def published(self) -> Iterator[m.Message]:
        for turn in self.turns:
            for effect in turn.effects:
                if isinstance(effect, PublishAfter) and effect.outgoing.topic == NAMES.runs:
                    yield RUNS.decode(effect.outgoing.value).message

    @property
    def finished(self) -> m.GroupFinished | None:
        """The end of the group; None while it is open."""
        found = [each for each in self.published() if isinstance(each, m.GroupFinished)]
        return found[-1] if found else None

    @property
    def results(self) -> dict[str, Any]:
        assert self.finished is not None, "the group has not ended"
        assert self.finished.status == "completed", self.finished
        return self.finished.results

    def from_snapshot(self) -> Run:
        """The run as a snapshot restores it."""
        message, payload = snapshot_of(self.partition, self.run)
        assert payload == encode_run(self.run)
        return decode_run(message, payload)
