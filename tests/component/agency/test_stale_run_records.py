"""A run that has ended, and whose record in the store has no end, does not end a second time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lone_owners import NAMES, Runner, finals

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.core.admissions import log_position
from anabranch.core.wire.messages import ControlRun, FailRun, GroupFinished, Message, RunUnknown
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import Outgoing, TopicSpec
from anabranch.runtime.process.clock import SystemClock
from anabranch_agency.owner.stale_records import AdmittedRuns, admitted_runs


def open_record() -> RunRecord:
    """The record of an open run."""
    runner = Runner()
    runner.submit()
    return runner.partition.runs["r"].tombstone


def with_stale_record() -> Runner:
    """An owner whose store has lost the end of the run `r`."""
    runner = Runner(first=1_000)
    runner.partition.remember("r", open_record())
    runner.partition.note_ended(["r"])
    return runner


@pytest.mark.parametrize(
    "message",
    [
        GroupFinished(run_id="r", group="g", status="completed", results={}),
        FailRun(run_id="r", error_type="X", message="x"),
        RunUnknown(run_id="r"),
        ControlRun(run_id="r", action="cancel"),
    ],
)
def test_a_message_about_an_ended_run_with_a_stale_record_publishes_no_second_end(message: Message) -> None:
    assert finals(with_stale_record().receive(message)) == []


def test_a_repeated_request_of_an_ended_run_with_a_stale_record_is_refused() -> None:
    """Its sender would wait for ever for a final record that is no longer known."""
    owner = with_stale_record()

    turn = owner.receive_turn(owner.submission())

    assert finals(turn.effects) == []
    assert owner.rejections(turn.effects) == ["request_id_conflict"]


def test_a_run_that_a_rebuild_dropped_is_not_taken_for_ended() -> None:
    """The commit may be of an earlier topic: then nothing has shown that the run was started."""
    owner = Runner(first=1_000)
    owner.submit()
    owner.partition.remember("r", owner.partition.runs["r"].tombstone)
    owner.partition.rebuilt(open_from=5_000)
    owner.partition.note_ended(["r"])

    assert finals(owner.receive(RunUnknown(run_id="r"))) == ["run.failed"]


@pytest.mark.parametrize(
    ("key", "earlier", "generation", "found"),
    [
        (b"r", 0.0, 0, AdmittedRuns(ended=("r",))),
        (b"other", 0.0, 0, AdmittedRuns()),  # a log that lost its last records has other records at their offsets
        (b"r", 1.0, 0, AdmittedRuns()),
        (b"r", 1.0, 1, AdmittedRuns()),  # the topic was created again
        # The same, and the owner that admitted the run had not noticed it.
        (b"r", 0.0, 1, AdmittedRuns(misnumbered=("r",))),
    ],
)
async def test_a_run_has_ended_if_the_log_still_has_the_record_that_admitted_it(
    key: bytes, earlier: float, generation: int, found: AdmittedRuns
) -> None:
    clock = SystemClock()
    log = MemoryLog(MemoryBroker(), clock)
    await log.create_topics([TopicSpec(NAMES.runs, 1)])
    before = clock.now()
    await log.publish([Outgoing(NAMES.runs, key, b"{}"), Outgoing(NAMES.runs, b"x", b"{}")])
    async with log.read(NAMES.runs, [0], start="earliest") as reader:
        [first, *_] = await anext(aiter(reader))
    assert first.timestamp >= before
    record = replace(open_record(), offset=log_position(0, 0), accepted_at=first.timestamp - earlier)

    assert await admitted_runs(log, NAMES.runs, 0, generation, {"r": record}) == found


def test_a_run_whose_admission_has_the_number_of_an_earlier_generation_is_admitted_anew() -> None:
    """Its request is on the topic twice, and the owner that had not noticed the new topic read the second one. The
    present owner reads the first one first."""
    owner = Runner(first=1_000)
    owner.partition.generation = 1
    admitted = open_record()
    owner.partition.remember("r", admitted)
    owner.partition.forget_misnumbered(["r"])

    turn = owner.receive_turn(owner.submission())

    assert finals(turn.effects) == []
    assert owner.partition.runs["r"].tombstone.offset > admitted.offset
