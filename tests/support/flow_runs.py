"""Drives the session's owner by hand: opens one run of given orders, and reports how their members end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anabranch.core.names import Names
from anabranch.core.wire import messages as m
from anabranch.core.wire.codec import GROUPS, RUNS, encode
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import DecisionConfig, OfferChunk, Turn

NAMES = Names("t.")
RULES = DecisionConfig(NAMES)


def order(name: str, *needs: str, **fields: Any) -> m.TaskOrder:
    """An order of a task: `key` is required, `key?` optional, `{g/t}` the end of a task. Its result key is its
    name, unless `result_keys` says otherwise."""
    return m.TaskOrder(name=name, agent="a", needs=tuple(map(need, needs)), **{"result_keys": (name,), **fields})


def need(text: str) -> m.Need:
    """A need as `order` writes it."""
    key = text.removesuffix("?")
    return m.Need(key=key, kind="task" if key.startswith("{") else "produced", optional=text.endswith("?"))


def compare(field: str, operator: str, value: Any = None) -> dict[str, Any]:
    """A condition in its data form."""
    found = {"field": field, "operator": operator}
    return found if operator in ("exists", "not_exists", "is_true") else found | {"value": value}


class FlowRun:
    """One run "r" and the owner that decides about it.

    Attributes:
        log: the messages so far, each with its payload, in the order of their offsets.
        finished: the end of each group, by name.
        events: the lifecycle events so far.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[m.TaskOrder]], options: Mapping[str, Any] | None = None, **opened: Any
    ) -> None:
        self.partition = PartitionState(0)
        self.log: list[DeliveredMessage] = []
        self.finished: dict[str, m.GroupFinished] = {}
        self.events: list[dict[str, Any]] = []
        self.offered: list[str] = []
        self.effects: list[Any] = []
        self.feed(
            m.OpenRun(run_id="r", request_id="q", session_id="s", groups=tuple(groups), deadline=1e9, **opened)
        )
        for name, orders in groups.items():
            self.feed(m.StartGroup(run_id="r", group=name, tasks=tuple(orders), **(options or {})))

    @property
    def run(self) -> Run:
        return self.partition.runs["r"]

    def feed(self, message: m.Message, *segments: bytes) -> Turn:
        """Decide about a message, written a second after the one before."""
        decoded = GROUPS.decode(encode(message, segments))
        offset = len(self.log)
        delivery = DeliveredMessage(decoded.message, decoded.segments, offset, float(offset))
        self.log.append(delivery)
        turn = decide(RULES, self.partition, delivery)
        self.effects += turn.effects
        for _, entry in turn.events:
            event = {"type": entry.type, "task": entry.task, **entry.data}
            self.events.append(event | ({"iteration": entry.iteration} if entry.iteration else {}))
        for effect in turn.effects:
            if isinstance(effect, OfferChunk):
                self.offered.append(effect.task)
            elif isinstance(effect, PublishAfter) and effect.outgoing.topic == NAMES.runs:
                sent = RUNS.decode(effect.outgoing.value).message
                if isinstance(sent, m.GroupFinished):
                    self.finished[sent.group] = sent
        return turn

    def task(self, name: str, group: str = "g") -> Task:
        return self.run.groups[group].tasks[name]

    def states(self, group: str = "g") -> dict[str, TaskState]:
        return {name: task.state for name, task in self.run.groups[group].tasks.items()}

    def value(self, key: str) -> Any:
        """The value of a key of the run; its reason where it is absent; None while it is not settled."""
        found = self.run.values.get(key)
        return getattr(found, "data", getattr(found, "reason", None))

    def complete(self, name: str, value: Any = None, index: int = 0, group: str = "g") -> Turn:
        """A member completes with this value under each of its result keys."""
        task = self.task(name, group)
        segments = [orjson.dumps([value]) for _ in task.order.result_keys]
        return self.report(task, index, segments, completed=((index, index + 1),), items=(1,) * len(segments))

    def fail(self, name: str, message: str = "broken", index: int = 0, group: str = "g") -> Turn:
        """A member fails for good."""
        failed = m.MemberFailed(index=index, error_type="Broken", message=message, attempts=2, traceback="trace")
        return self.report(self.task(name, group), index, [], failed=(failed,))

    def report(self, task: Task, index: int, segments: Sequence[bytes], **fields: Any) -> Turn:
        chunk = next(each for each in task.chunks.values() if index in each.pending)
        about = {"run_id": "r", "group": task.group, "task": task.name, "worker": "w"}
        message = m.MembersReported(**about, chunk=chunk.number, fence=chunk.fence, **fields)
        return self.feed(message, *segments)
