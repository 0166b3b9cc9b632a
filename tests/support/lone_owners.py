"""The owner of a session and the owner of a run, each without the other: their decisions, message by message."""

from __future__ import annotations

from typing import Any

from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS, RUNS
from anabranch.core.wire.messages import (
    MembersReported,
    Message,
    OpenRun,
    StartGroup,
    SubmitRun,
    TaskOrder,
)
from anabranch.runtime.ownership.effects import Effect, PublishAfter
from anabranch_agency.run.actor import decide as decide_run
from anabranch_agency.run.state import PartitionState as Runs
from anabranch_agency.run.turn import DeadLetterOriginal, Turn
from anabranch_agency.run.turn import DecisionConfig as RunRules
from anabranch_taskgroup.session.actor import DeliveredMessage
from anabranch_taskgroup.session.actor import decide as decide_group
from anabranch_taskgroup.session.partition import PartitionState as Groups
from anabranch_taskgroup.session.turn import DecisionConfig as GroupRules

NAMES = Names("t.")
REQUEST = {"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "a", "result_keys": ["t"]}]}]}


class Session:
    """The owner of a session, at rising offsets."""

    def __init__(self) -> None:
        self.partition = Groups(0)
        self.offset = 0

    def receive(self, message: Message, *segments: bytes) -> list[Effect]:
        self.offset += 1
        delivery = DeliveredMessage(message, segments, self.offset, 1.0)
        return decide_group(GroupRules(NAMES), self.partition, delivery).effects

    def open(self, admission: int | None) -> list[Effect]:
        """The records with which a run's owner opens the run; `admission` None: one of an earlier release."""
        known = {} if admission is None else {"admission": admission}
        opened = OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9, **known)
        start = StartGroup(
            run_id="r", group="g", tasks=(TaskOrder(name="t", agent="a", result_keys=("t",)),), **known
        )
        return [*self.receive(opened), *self.receive(start)]

    def complete(self) -> list[Effect]:
        task = self.partition.runs["r"].groups["g"].tasks["t"]
        [chunk] = task.chunks.values()
        about = {
            "run_id": "r",
            "group": "g",
            "task": "t",
            "chunk": chunk.number,
            "fence": chunk.fence,
            "worker": "w",
        }
        return self.receive(MembersReported(**about, completed=((0, 1),), items=(1,), last=True), b"[1]")


class Runner:
    """The owner of a run, at rising offsets."""

    def __init__(self, first: int = 0) -> None:
        self.partition = Runs(0)
        self.offset = first

    def receive(self, message: Message, at: float = 1.0) -> list[Effect]:
        return self.receive_turn(message, at).effects

    def receive_turn(self, message: Message, at: float = 1.0) -> Turn:
        self.offset += 1
        return decide_run(RunRules(NAMES), self.partition, message, self.offset, at)

    def submit(self, **more: Any) -> list[Effect]:
        return self.receive(self.submission(**more))

    def submission(self, **more: Any) -> SubmitRun:
        return SubmitRun(run_id="r", request_id="q", session_id="s", body_hash="h", request=REQUEST | more)

    def rejections(self, effects: list[Effect]) -> list[str]:
        """The codes of the first errors of the requests that were refused."""
        return [effect.code for effect in effects if isinstance(effect, DeadLetterOriginal)]

    def forget(self) -> None:
        """Forget all tombstones of ended runs, as after a few days."""
        self.partition.tombstones.clear()
        self.partition.sizes.clear()


def published(effects: list[Effect], kind: type[Message]) -> list[Any]:
    """The messages of a kind that were published to the other owner."""
    found = [effect.outgoing for effect in effects if isinstance(effect, PublishAfter)]
    codecs = {NAMES.runs: RUNS, NAMES.groups: GROUPS}
    messages = [codecs[each.topic].decode(each.value).message for each in found if each.topic in codecs]
    return [message for message in messages if isinstance(message, kind)]


def finals(effects: list[Effect]) -> list[str]:
    kinds = [
        dict(e.outgoing.headers)["ce_type"]
        for e in effects
        if isinstance(e, PublishAfter) and e.outgoing.topic == NAMES.results
    ]
    return [kind.decode() for kind in kinds if kind not in (b"run.accepted", b"run.rejected")]
