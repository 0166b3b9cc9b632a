"""Logs that lost records: queries between owners, and records of other generations of a topic."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from small_requests import request, task

from anabranch import Task
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.admissions import log_position
from anabranch.core.names import Names, run_id_for
from anabranch.core.wire.codec import GROUPS, RUNS, encode
from anabranch.core.wire.events import EventBatch, EventEntry, cause_of
from anabranch.core.wire.messages import (
    ControlRun,
    FailRun,
    GroupFinished,
    Message,
    OpenRun,
    RunOverdue,
    RunUnknown,
    StopRun,
    SubmitRun,
    TimerDue,
)
from anabranch.ports import TopicSpec
from anabranch.runtime.ownership.effects import PublishAfter, StorePut
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.log_generation import generation_of, renumber_above
from anabranch.runtime.ownership.replay import Replay, position, replay_of
from anabranch.runtime.process.clock import SystemClock
from anabranch.testing import System
from anabranch_agency.owner.handler import RunsHandler
from anabranch_agency.run import actor as agency
from anabranch_agency.run.state import PartitionState as Runs
from anabranch_agency.run.turn import DecisionConfig as AgencyRules
from anabranch_eventmanager.projection.decisions import EventProjection, RecordPosition
from anabranch_eventmanager.projection.documents import run_key
from anabranch_eventmanager.projection.nudges import NudgeSchedule
from anabranch_taskgroup.session import actor as taskgroup
from anabranch_taskgroup.session.partition import PartitionState as Groups
from anabranch_taskgroup.session.turn import DecisionConfig

NAMES = Names("t.")
RUN = run_id_for("r")
ADMISSION = 7
"""Of the run that the record at offset 6 admits."""


# --- lives of a topic ------------------------------------------------------------------------------


def test_a_commit_of_another_generation_is_ignored() -> None:
    committed = position(10, 4, "store-1", 1)

    assert replay_of(committed, "store-1", generation=1) == Replay(4, 10, False)
    assert replay_of(committed, "store-1", generation=2) == Replay(0, 0, False)
    assert replay_of(position(10, 4, "store-1"), "store-1", generation=1) == Replay(0, 0, False)


def test_causes_ascend_over_generations_and_fit_into_63_bits() -> None:
    causes = [cause_of(2**39, 2**20, generation) for generation in range(8)]

    assert causes == sorted(set(causes))
    assert cause_of(2**39, 2**30, 1_000) < 2**63
    assert cause_of(5, 2, 0) == cause_of(5, 2), "as before the first loss"


async def test_a_store_that_lost_the_generations_does_not_refuse_owners_for_ever() -> None:
    broker = MemoryBroker()
    broker.create(TopicSpec("t.groups", 1))
    log, store = MemoryLog(broker, SystemClock()), MemoryStore(MemoryServer(SystemClock()))

    assert await generation_of(log, store, NAMES, "t.groups") == 0
    await renumber_above(log_position(0, 16), 17, log, store, NAMES, "t.groups")
    assert await generation_of(log, store, NAMES, "t.groups") == 0, "a zombie claimed later in this life"
    await renumber_above(log_position(0, 17), 17, log, store, NAMES, "t.groups")
    assert await generation_of(log, store, NAMES, "t.groups") == 1, "the log has no such record"
    await renumber_above(log_position(3, 17), 17, log, store, NAMES, "t.groups")
    assert await generation_of(log, store, NAMES, "t.groups") == 4
    await renumber_above(log_position(2, 99), 17, log, store, NAMES, "t.groups")
    assert await generation_of(log, store, NAMES, "t.groups") == 4, "it is above that already"


def test_the_brokers_time_continues_although_the_machines_clock_is_set_back() -> None:
    machine = SimpleNamespace(wall=1_300.0, passed=50.0)
    clock = LogClock(SimpleNamespace(now=lambda: machine.wall, monotonic=lambda: machine.passed))
    clock.observe(100.0, 1_300.0, 1_300.0)
    assert clock.finding is not None

    machine.wall, machine.passed = 110.0, 60.0  # set by 1,200 s, ten seconds later

    assert (clock.now(), clock.finding) == (110.0, None)
    assert clock.local(115.0) == 115.0


# --- the run's owner -------------------------------------------------------------------------------


def messages_on(turn: Any, topic: str) -> list[Message]:
    codec = GROUPS if topic == NAMES.groups else RUNS
    found = [
        each.outgoing for each in turn.effects if isinstance(each, PublishAfter) and each.outgoing.topic == topic
    ]
    return [codec.decode(outgoing.value).message for outgoing in found]


def submit() -> SubmitRun:
    spec = {"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "a", "result_keys": ["k"]}]}]}
    return SubmitRun(run_id=RUN, request_id="r", session_id="s", body_hash="x", request=spec)


def runs_owner(*messages: Message, without_runs: bool = False) -> tuple[Runs, Callable[[Message], Any]]:
    """A partition after these messages; with `forgets` it has only what the store has of its open runs."""
    partition, offsets = Runs(0), iter(range(ADMISSION - 1, 100))

    def receive(message: Message) -> Any:
        offset = next(offsets)
        return agency.decide(AgencyRules(NAMES), partition, message, offset, float(offset))

    for message in messages:
        receive(message)
    if without_runs:
        for run_id, run in list(partition.runs.items()):
            partition.close(run_id, run.tombstone)
    return partition, receive


@pytest.mark.parametrize("opened_again", [False, True])
def test_a_query_ends_runs_of_a_deleted_topic_unless_the_new_topic_opens_them(
    opened_again: bool,
) -> None:
    partition, _ = runs_owner(submit())
    resources: Any = SimpleNamespace(log=None, store=None, telemetry=None)
    [orphan] = RunsHandler(resources, AgencyRules(NAMES)).orphans(partition)
    after = Runs(0, generation=1)
    if opened_again:
        agency.decide(AgencyRules(NAMES), after, submit(), 0, 1.0)
    else:
        after.remember(RUN, partition.runs[RUN].tombstone)

    turn = agency.decide(AgencyRules(NAMES), after, RUNS.decode(orphan.value).message, 1, 2.0)

    assert (orphan.topic, orphan.key, RUN in after.runs) == (NAMES.runs, RUN, opened_again)
    assert [event.entry.data["error_type"] for event in turn.events] == ["RunLost"] * (not opened_again)


def test_a_nudge_of_an_ended_run_is_answered_with_its_end() -> None:
    end = GroupFinished(run_id=RUN, group="g", status="completed", results={}, admission=ADMISSION)
    _, receive = runs_owner(submit(), end)

    turn = receive(RunUnknown(run_id=RUN))

    assert [event.entry.type for event in turn.events] == ["run.completed"]


def test_an_answer_is_stored_for_owners_that_replay_the_query() -> None:
    """The store may lose the run in between; a successor would then admit what had been answered or refused."""
    end = GroupFinished(run_id=RUN, group="g", status="completed", results={}, admission=ADMISSION)
    _, receive = runs_owner(submit(), end)

    for again in (submit(), submit().model_copy(update={"body_hash": "another"})):
        kept = [
            each
            for each in receive(again).effects
            if isinstance(each, StorePut) and each.key == NAMES.tombstone(RUN)
        ]
        assert [each.ttl for each in kept] == [AgencyRules(NAMES).result_ttl]


@pytest.mark.parametrize(("replayed_at", "is_open"), [(float(ADMISSION - 1), True), (900.0, False)])
def test_a_run_admitted_before_its_owner_noticed_the_new_topic_continues(
    replayed_at: float, is_open: bool
) -> None:
    """An owner that has not noticed yet that its topic was recreated admits what it reads there, and reads it
    again in the next generation. A run that the deleted topic admitted at the same offset is lost with it.
    """
    before, _ = runs_owner(submit())
    [(_, run)] = before.runs.items()
    partition = Runs(0, generation=1)
    partition.remember(RUN, run.tombstone)

    turn = agency.decide(AgencyRules(NAMES), partition, submit(), ADMISSION - 1, replayed_at)

    assert (RUN in partition.runs) is is_open
    opened = [each for each in messages_on(turn, NAMES.groups) if isinstance(each, OpenRun)]
    assert [each.admission > ADMISSION for each in opened] == [True] * is_open


def test_a_run_that_was_lost_and_is_overdue_is_stopped_and_ends() -> None:
    partition, receive = runs_owner(submit(), without_runs=True)

    turn = receive(RunOverdue(run_id=RUN, session_id="s", admission=ADMISSION))

    stops = messages_on(turn, NAMES.groups)
    assert {(type(each), each.run_id, each.admission) for each in stops} == {(StopRun, RUN, ADMISSION)}
    assert partition.tombstones[RUN].final is not None
    assert partition.tombstones[RUN].final["failures"][0]["error_type"] == "RunLost"


def test_a_run_that_is_open_and_overdue_is_left_to_its_timer() -> None:
    _, receive = runs_owner(submit())

    turn = receive(RunOverdue(run_id=RUN, session_id="s", admission=ADMISSION))

    assert messages_on(turn, NAMES.groups) == []


def test_a_run_that_was_lost_ends_when_it_is_cancelled() -> None:
    partition, receive = runs_owner(submit(), without_runs=True)

    receive(ControlRun(run_id=RUN, action="cancel"))

    assert partition.tombstones[RUN].final is not None


# --- the session's owner ---------------------------------------------------------------------------


def session_owner() -> tuple[Groups, Callable[[Message, float], Any]]:
    partition, offsets = Groups(0), iter(range(100))

    def receive(message: Message, at: float) -> Any:
        delivery = taskgroup.DeliveredMessage(GROUPS.decode(encode(message)).message, (), next(offsets), at)
        return taskgroup.decide(DecisionConfig(NAMES), partition, delivery)

    opening = OpenRun(
        run_id=RUN, request_id="r", session_id="s", groups=("g",), deadline=100.0, admission=ADMISSION
    )
    receive(opening, 0.0)
    return partition, receive


def test_the_owner_of_a_run_is_queried_after_its_deadline_and_again() -> None:
    partition, receive = session_owner()
    question = RunOverdue(run_id=RUN, session_id="s", admission=ADMISSION)

    assert partition.next_due() == 130.0
    assert messages_on(receive(TimerDue(run_id=RUN, at=129.0), 129.0), NAMES.runs) == []
    assert messages_on(receive(TimerDue(run_id=RUN, at=130.0), 130.0), NAMES.runs) == [question]
    assert partition.next_due() == 190.0
    assert messages_on(receive(TimerDue(run_id=RUN, at=400.0), 400.0), NAMES.runs) == [question]
    assert partition.next_due() == 520.0


def test_a_run_that_is_stopped_twice_and_lacks_groups_is_abandoned() -> None:
    partition, receive = session_owner()
    stop = StopRun(run_id=RUN, reason="timed_out", admission=ADMISSION)

    receive(stop, 101.0)
    assert RUN in partition.runs, "its groups may be on their way"
    assert partition.next_due() == 130.0
    answers = messages_on(receive(stop, 130.0), NAMES.runs)

    assert partition.runs == {}
    assert [(type(each), each.abandoned) for each in answers if isinstance(each, FailRun)] == [(FailRun, True)]


# --- the event manager -----------------------------------------------------------------------------


def test_a_run_that_may_be_silent_is_nudged_once_its_deadline_is_over() -> None:
    schedule = NudgeSchedule(30)
    schedule.observe_idle("r", 0, 1_000)

    assert schedule.due(1_029) == []
    assert [each.run_id for each in schedule.due(1_030)] == ["r"]


def test_a_run_whose_nudges_have_become_rare_is_nudged_once_its_deadline_is_over() -> None:
    schedule = NudgeSchedule(30)
    schedule.observe("r", 0, 100)

    assert [now for now in range(0, 200, 10) if schedule.due(now)] == [30, 90, 130]


def event(kind: str, cause: int, time: float) -> EventBatch:
    entry = EventEntry(type=kind, cause=cause, time=time)
    return EventBatch(run_id=RUN, request_id="r", session_id="s", source="runs", entries=(entry,))


@pytest.mark.parametrize(("time", "status"), [(20.0, "failed"), (5.0, "accepted")])
def test_the_end_of_an_open_run_is_accepted_unless_its_cause_is_older(time: float, status: str) -> None:
    core, facts = EventProjection("sub:"), {}
    for offset, batch in enumerate([event("run.accepted", cause_of(3, 0, 2), 10.0), event("run.failed", 1, time)]):
        facts.update(core.apply(facts, batch, RecordPosition(0, offset, 0.0)).writes)

    assert facts[run_key(RUN)]["status"] == status


# --- depth -----------------------------------------------------------------------------------------


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"d": value}
    return value


@pytest.mark.parametrize("expanded", [False, True])
def test_a_value_of_the_maximum_depth_reaches_its_dependents(
    anabranch_system: Callable[..., System], expanded: bool
) -> None:
    seen: list[Any] = []

    async def deep(task: Task) -> Any:
        return nested(200)

    async def levels(task: Task) -> int:
        seen.append(task.context["k"])
        return 1

    s = anabranch_system(agents={"deep": deep, "levels": levels})
    more = {"expansion_config": {"type": "array", "array_mapping": {"n": [1]}}} if expanded else {}
    run = s.submit(request(task("t", "deep", result_keys=["k"]), task("u", "levels", dependencies=["k"], **more)))

    assert run.result().status == "completed"
    assert seen == [nested(200)]
