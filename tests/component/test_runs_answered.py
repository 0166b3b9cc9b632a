"""Every run is answered, also an unknown, lost, abandoned or overdue one; clocks; depth of values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from lone_owners import NAMES, Runner, Session, finals, published
from small_requests import request, task

from anabranch import Task, agent
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.errors import RequestRefused
from anabranch.core.json_documents import is_deep_json
from anabranch.core.names import Names, session_key
from anabranch.core.wire.messages import (
    CheckRun,
    ControlRun,
    FailRun,
    Fragment,
    GroupFinished,
    Message,
    Need,
    Nudge,
    OpenRun,
    RunUnknown,
    StartGroup,
    StopRun,
    TaskOrder,
    TimerDue,
    ValueFound,
)
from anabranch.ports import Incoming, Outgoing, TopicSpec, Write
from anabranch.runtime.ownership.effects import Effect, PublishAfter
from anabranch.runtime.ownership.log_clock import SKEW_SECONDS, LogClock
from anabranch.runtime.ownership.log_generation import generation_of
from anabranch.runtime.process.clock import SystemClock
from anabranch.testing import System
from anabranch_agency.run.faults import abandon
from anabranch_agency.run.state import STOP_SECONDS
from anabranch_agency.run.turn import DecisionConfig as RunRules
from anabranch_taskgroup.session.actor import DeliveredMessage
from anabranch_taskgroup.session.actor import decide as decide_group
from anabranch_taskgroup.session.chunks import chunk_size
from anabranch_taskgroup.session.faults import fail_run as give_up_group
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.turn import DecisionConfig, Halt, Watch

Start = Callable[..., System]


def final_body(effects: list[Effect]) -> dict[str, Any]:
    [body] = [
        orjson.loads(effect.outgoing.value)
        for effect in effects
        if isinstance(effect, PublishAfter) and effect.outgoing.topic == NAMES.results
    ]
    assert isinstance(body, dict)
    return body


# --- the owner of the session -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question", [StopRun(run_id="r", reason="timed_out", admission=7), CheckRun(run_id="r", admission=7)]
)
def test_a_stop_or_check_of_a_run_that_the_session_does_not_know_is_answered(question: Message) -> None:
    [answer] = published(Session().receive(question), FailRun)

    assert (answer.error_type, answer.abandoned, answer.admission) == ("RunLost", True, 7)
    assert "removed from topic t.groups" in answer.message


@pytest.mark.parametrize(("admission", "answers"), [(7, 0), (8, 1)])
def test_a_check_of_an_open_run_is_answered_only_if_it_is_of_another_admission(
    admission: int, answers: int
) -> None:
    session = Session()
    session.open(7)

    assert len(published(session.receive(CheckRun(run_id="r", admission=admission)), FailRun)) == answers


def test_a_check_of_a_run_that_has_ended_is_answered_and_comes_after_its_end() -> None:
    """The records of the end are before the answer in the partition of the run's owner, which drops it."""
    session, runner = Session(), Runner()
    runner.submit()
    [opened] = runner.partition.runs.values()
    session.open(opened.admission)
    [ended] = published(session.complete(), GroupFinished)
    [answer] = published(session.receive(CheckRun(run_id="r", admission=opened.admission)), FailRun)

    assert finals(runner.receive(ended)) == ["run.completed"]
    assert runner.receive(answer) == []


def test_a_nudge_of_a_run_that_the_session_does_not_know_asks_its_owner_to_check() -> None:
    """A nudge may overtake the records that open the run, so it alone must not end the run."""
    session, runner = Session(), Runner()
    runner.submit()

    [unknown] = published(session.receive(Nudge(run_id="r", session_id="s", silent_for=60.0)), RunUnknown)
    effects = runner.receive(unknown)

    assert [each.run_id for each in published(effects, CheckRun)] == ["r"]
    assert finals(effects) == []


def test_an_abandoned_record_fails_its_open_run_and_an_abandoned_stop_abandons_it() -> None:
    session = Session()
    session.open(7)
    record = Incoming(NAMES.groups, 3, 44, b"s", b"", (), 1.0)

    first = list(
        give_up_group(DecisionConfig(NAMES), session.partition, CheckRun(run_id="r", admission=7), record, "a bug")
    )
    stop = StopRun(run_id="r", reason="cancelled")
    last = list(give_up_group(DecisionConfig(NAMES), session.partition, stop, record, "a bug"))

    [failed], [abandoned] = published(first, FailRun), published(last, FailRun)
    assert (failed.abandoned, abandoned.abandoned) == (False, True)
    assert "t.groups/3, offset 44" in failed.message
    assert [type(each) for each in last if isinstance(each, Halt)] == [Halt]
    assert "r" not in session.partition.runs


def test_a_fragment_by_itself_changes_nothing() -> None:
    piece = Fragment(message_id="m", number=0, count=2)

    assert Session().receive(piece, b"{") == []
    assert Runner().receive(piece) == []


def test_a_run_with_thousands_of_external_keys_checks_each_once() -> None:
    """With 15,000 keys, checking all dependencies of the task for each of them took a minute and a half."""
    read: list[str] = []

    class Counted(Need):
        def __getattribute__(self, name: str) -> Any:
            if name == "optional":
                read.append(super().__getattribute__("key"))
            return super().__getattribute__(name)

    names = [f"k{number}" for number in range(300)]
    order = TaskOrder(name="t", agent="a", result_keys=("t",)).model_copy(
        update={"needs": tuple(Counted(key=name, kind="external") for name in names)}
    )
    partition = PartitionState(0)
    messages = [
        OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9),
        StartGroup(run_id="r", group="g", tasks=()).model_copy(update={"tasks": (order,)}),
        *(ValueFound(run_id="r", key=name, value=1) for name in names),
    ]

    effects = [
        effect
        for offset, message in enumerate(messages)
        for effect in decide_group(
            DecisionConfig(NAMES), partition, DeliveredMessage(message, (), offset, 1.0)
        ).effects
    ]

    assert sum(isinstance(effect, Watch) for effect in effects) == 300
    assert len(partition.runs["r"].groups["g"].tasks["t"].chunks) == 1
    assert len(read) <= 3 * len(names)


# --- the owner of the run -----------------------------------------------------------------------------------


def test_a_run_that_its_session_has_lost_ends_at_once_with_known_results() -> None:
    runner = Runner()
    runner.submit()
    lost = FailRun(run_id="r", error_type="RunLost", message="no records", abandoned=True)

    body = final_body(runner.receive(lost))

    assert (body["status"], body["failures"][0]["error_type"]) == ("failed", "RunLost")
    assert finals(runner.receive(lost)) == []


def test_a_run_that_a_service_cannot_continue_is_stopped_and_then_failed() -> None:
    runner = Runner()
    runner.submit()
    fault = FailRun(run_id="r", error_type="InternalError", message="a bug", group="g", task="t")

    effects = runner.receive(fault)

    assert [each.reason for each in published(effects, StopRun)] == ["cancelled"]
    assert finals(effects) == []
    body = final_body(runner.receive(GroupFinished(run_id="r", group="g", status="completed", results={"t": 1})))
    assert (body["status"], body["results"], body["failures"][0]["message"]) == ("failed", {"t": 1}, "a bug")


def test_a_fault_of_an_earlier_run_of_the_same_id_is_dropped() -> None:
    runner = Runner(first=10)
    runner.submit()

    assert runner.receive(FailRun(run_id="r", error_type="X", message="x", abandoned=True, admission=3)) == []
    assert "r" in runner.partition.runs


@pytest.mark.parametrize(("late", "ended"), [(-0.1, []), (0.0, ["run.timed_out"])])
def test_a_run_ends_a_minute_after_its_deadline_whatever_its_session_does(late: float, ended: list[str]) -> None:
    runner = Runner()
    runner.submit(timeout=30)
    deadline = runner.partition.runs["r"].deadline
    stopped = runner.receive(TimerDue(run_id="r", at=deadline), at=deadline)
    assert (len(published(stopped, StopRun)), finals(stopped)) == (1, [])

    at = deadline + STOP_SECONDS + late
    effects = runner.receive(TimerDue(run_id="r", at=at), at=at)

    assert finals(effects) == ended
    if ended:
        failure = final_body(effects)["failures"][0]
        assert (failure["error_type"], failure["message"][-1]) == ("StopUnanswered", "g")


@pytest.mark.parametrize("by_machine", [True, False], ids=["the machine is ahead", "the record is late"])
def test_a_timer_counts_only_once_machine_and_broker_agree(by_machine: bool) -> None:
    """An Agency ten minutes ahead appended timers that were due by its clock alone."""
    runner = Runner()
    runner.submit(timeout=30)
    deadline = runner.partition.runs["r"].deadline
    early, due = deadline - 0.1, deadline + 600
    timer, record = (due, early) if by_machine else (early, due)

    assert runner.receive(TimerDue(run_id="r", at=timer), at=record) == []


def test_results_that_cannot_be_written_end_the_run_without_them() -> None:
    runner = Runner()
    runner.submit()
    deep: Any = 1
    for _ in range(300):
        deep = [deep]

    body = final_body(
        runner.receive(GroupFinished(run_id="r", group="g", status="completed", results={"t": deep}))
    )

    assert (body["status"], body["results"]) == ("failed", {})
    assert "the results cannot be written" in body["failures"][0]["message"]


def test_a_dead_lettered_record_fails_its_run_and_a_second_one_ends_it() -> None:
    runner = Runner()
    runner.submit()
    record = Incoming(NAMES.runs, 1, 9, b"r", b"", (), 1.0)
    bad = GroupFinished(run_id="r", group="g", status="completed", results={})

    first = abandon(RunRules(NAMES), runner.partition, bad, record, "a bug").effects
    second = abandon(RunRules(NAMES), runner.partition, bad, record, "a bug").effects

    assert (len(published(first, StopRun)), finals(first)) == (1, [])
    assert finals(second) == ["run.failed"]
    assert "t.runs/1, offset 9" in final_body(second)["failures"][0]["message"]


@pytest.mark.parametrize(
    "message",
    [
        GroupFinished(run_id="r", group="g", status="completed", results={}),
        FailRun(run_id="r", error_type="X", message="x"),
        RunUnknown(run_id="r"),
        TimerDue(run_id="r", at=1e9),
        ControlRun(run_id="r", action="cancel"),
    ],
)
def test_any_message_about_a_run_whose_records_are_lost_ends_it(message: Message) -> None:
    """Its tombstone in the store says that it was admitted, and has not ended."""
    before, after = Runner(), Runner(first=1_000)
    before.submit()
    after.partition.remember("r", before.partition.runs["r"].tombstone)

    body = final_body(after.receive(message))

    assert (body["status"], body["failures"][0]["error_type"]) == ("failed", "RunLost")


# --- chunks, clocks, lives of the log ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member_bytes", "size"),
    [(0.0, 1_000), (400.0, 1_000), (401.0, 997), (70_000.0, 5), (400_000.0, 1), (900_000.0, 1)],
)
def test_a_chunk_has_no_more_items_than_fit_into_its_offer(member_bytes: float, size: int) -> None:
    rules = DecisionConfig(NAMES, chunk_limit=1_000)
    assert rules.chunk_bytes == 400_000

    assert chunk_size(rules, 100_000, 100_000, 1e-6, member_bytes) == size


def machine(at: float) -> Any:
    return SimpleNamespace(now=lambda: at, monotonic=lambda: 5.0)


@pytest.mark.parametrize(
    ("machine_at", "finding"),
    [
        (1_000.0, None),
        (1_000.0 + SKEW_SECONDS, None),
        (1_601.0, "the clock is 601 s ahead of the broker's"),
        (399.0, "the clock is 601 s behind the broker's"),
    ],
)
def test_deadlines_are_kept_in_the_brokers_time(machine_at: float, finding: str | None) -> None:
    clock = LogClock(machine(machine_at))
    assert (clock.now(), clock.finding) == (machine_at, None)

    clock.observe(1_000.0, machine_at, machine_at)

    assert (clock.now(), clock.local(1_000.0), clock.monotonic()) == (1_000.0, machine_at, 5.0)
    assert clock.finding == finding


async def test_each_creation_of_a_topic_is_another_generation() -> None:
    broker = MemoryBroker()
    log, store = MemoryLog(broker, SystemClock()), MemoryStore(MemoryServer(SystemClock()))
    await log.create_topics([TopicSpec(NAMES.runs, 1), TopicSpec(NAMES.groups, 1)])

    async def generation(topic: str) -> int:
        return await generation_of(log, store, NAMES, topic)

    assert [await generation(NAMES.groups) for _ in range(3)] == [0, 0, 0]
    for number in (1, 2):
        broker.delete(NAMES.groups)
        broker.create(TopicSpec(NAMES.groups, 1))
        assert await asyncio.gather(*(generation(NAMES.groups) for _ in range(5))) == [number] * 5
    assert await generation(NAMES.runs) == 0


# --- depth at every door ----------------------------------------------------------------------------


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


DEPTHS = pytest.mark.parametrize("levels", [199, 200, 201, 253, 254, 2_000])


@DEPTHS
@pytest.mark.parametrize("pair", [b"[]", b'{"a":1}'])
def test_200_levels_are_the_limit_of_encoded_values(levels: int, pair: bytes) -> None:
    opening, closing = (b"[", b"]") if pair == b"[]" else (b'{"a":', b"}")
    inner = b"" if pair == b"[]" else b"1"

    assert is_deep_json(opening * levels + inner + closing * levels) == (levels > 200)


@agent("nests")
def nests(task: Task) -> Any:
    return deep(task.inputs)


@DEPTHS
def test_agents_return_200_levels_at_most(anabranch_system: Start, levels: int) -> None:
    s = anabranch_system([nests])

    final = s.run(request(task("t", "nests", inputs=levels, retry={"max_attempts": 1})))

    assert final.status == ("completed" if levels <= 200 else "failed")
    assert ["200 levels" in each["message"] for each in final.failures] == [True] * (levels > 200)


@DEPTHS
def test_external_values_have_200_levels_at_most(anabranch_system: Start, levels: int) -> None:
    s = anabranch_system()
    waits = task("t", "echo", inputs="{news}", external_dependencies=["news"])
    value = b"[" * levels + b"]" * levels
    s.wait(s.embedded.store.put([Write(session_key("outside", "news"), value, 600.0)]))

    final = s.run(request(waits, session_id="outside"))

    assert final.status == ("completed" if levels <= 200 else "failed")
    assert ["200 levels" in each["message"] for each in final.failures] == [True] * (levels > 200)


def refusals_of(s: System, document: dict[str, Any]) -> set[str]:
    try:
        s.run(document)
    except RequestRefused as refused:
        return {str(each.code) for each in refused.errors}
    return set()


@DEPTHS
def test_a_request_may_have_200_levels_with_its_own(anabranch_system: Start, levels: int) -> None:
    """The value is two levels down: in the request, and in its context."""
    s = anabranch_system()
    document = request(task("t", inputs="{c}", dependencies=["c"]), context={"c": deep(levels - 2)})

    assert refusals_of(s, document) == ({"too_deep"} if levels > 200 else set())


@DEPTHS
def test_only_the_control_record_that_is_too_deep_is_dead_lettered(anabranch_system: Start, levels: int) -> None:
    s = anabranch_system()
    deepest = b"[" * (levels - 1) + b"]" * (levels - 1)
    control = b'{"type":"cancel","request_id":"nobody","labels":' + deepest + b"}"
    s.wait(s.embedded.log.publish([Outgoing(Names().requests, None, control)]))

    assert s.run(request(task("t", inputs=1))).status == "completed"
