"""Kinds of steps: another kind needs only a class and an entry in the registry."""

from __future__ import annotations

from typing import ClassVar

import pytest

from anabranch.core.names import Names
from anabranch.core.wire import messages as m
from anabranch.core.wire.codec import GROUPS, RUNS, encode
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_taskgroup.session import lifecycle, pending, signals
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.endings import complete
from anabranch_taskgroup.session.merge import Joined
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.states import TaskEvent, TaskState, next_state
from anabranch_taskgroup.session.steps import registry
from anabranch_taskgroup.session.steps.kind import Step, StepKind
from anabranch_taskgroup.session.steps.registry import STEP_KINDS, kind_of
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import DecisionConfig, OfferChunk, Turn

NAMES = Names("t.")
RULES = DecisionConfig(NAMES)


class NoopKind(StepKind):
    """Completes at once, with null under each result key."""

    name: ClassVar[str] = "noop"

    def begin(self, turn: Turn, step: Step) -> None:
        run, _, task = step
        task.state, task.began_at = next_state(task.state, TaskEvent.DEPENDENCIES_MET), turn.at
        complete(turn, run, task, TaskEvent.EMPTY_COMPLETE, [Joined(key, None) for key in task.order.result_keys])


@pytest.fixture
def noop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps whose agent is `noop` are of the kind `noop`."""
    kinds = {**STEP_KINDS, "noop": NoopKind()}

    def kind_of_agent(task: Task) -> StepKind:
        return kinds.get(task.order.agent, STEP_KINDS["task"])

    for module in (registry, lifecycle, pending, signals):
        monkeypatch.setattr(module, "kind_of", kind_of_agent)


def start(partition: PartitionState, *tasks: m.TaskOrder) -> list[Turn]:
    """Open a run with one group of these tasks."""
    opened = m.OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9)
    started = m.StartGroup(run_id="r", group="g", tasks=tasks)
    turns = []
    for offset, message in enumerate((opened, started)):
        decoded = GROUPS.decode(encode(message))
        turns.append(decide(RULES, partition, DeliveredMessage(decoded.message, decoded.segments, offset, 1.0)))
    return turns


def test_a_step_of_another_kind_ends_and_releases_its_dependents(noop: None) -> None:
    partition = PartitionState(0)
    gate = m.TaskOrder(name="gate", agent="noop", result_keys=("gate",))
    after = m.TaskOrder(
        name="after", agent="a", needs=(m.Need(key="gate", kind="produced"),), result_keys=("after",)
    )

    [_, turn] = start(partition, after, gate)

    tasks = partition.runs["r"].groups["g"].tasks
    assert (tasks["gate"].state, tasks["after"].state) == (TaskState.COMPLETED, TaskState.RUNNING)
    assert [effect.task for effect in turn.effects if isinstance(effect, OfferChunk)] == ["after"]


def test_a_group_of_such_steps_is_reported_in_the_same_turn(noop: None) -> None:
    partition = PartitionState(0)

    [_, turn] = start(partition, m.TaskOrder(name="gate", agent="noop", result_keys=("gate",)))

    published = [each.outgoing for each in turn.effects if isinstance(each, PublishAfter)]
    [finished] = [RUNS.decode(each.value).message for each in published if each.topic == NAMES.runs]
    assert isinstance(finished, m.GroupFinished)
    assert (finished.status, finished.results) == ("completed", {"gate": None})
    assert partition.runs == {}


def test_a_signal_to_a_kind_that_knows_none_is_dropped_and_counted(noop: None) -> None:
    partition = PartitionState(0)
    waits = m.TaskOrder(
        name="gate", agent="noop", needs=(m.Need(key="k", kind="external"),), result_keys=("gate",)
    )
    start(partition, waits)

    address = {"run_id": "r", "group": "g", "task": "gate", "chunk": 0, "fence": 0}
    returned = m.ChunkReturned(**address, worker="w", reason="draining")
    turn = decide(RULES, partition, DeliveredMessage(returned, (), 2, 1.0))

    assert turn.effects == []
    assert partition.dropped == {"signal that this kind of step does not know": 1}


def test_each_kind_is_registered_under_its_name() -> None:
    assert all(kind.name == name for name, kind in STEP_KINDS.items())
    order = m.TaskOrder(name="t", agent="a", result_keys=("t",))
    assert kind_of(Task(order, "g")) is STEP_KINDS["task"]
