"""Records of the topics that the history reads: runs with attempts, waits and loops, schedules, dead letters."""

from __future__ import annotations

import orjson
from eventmanager_records import batch, cancelled_run, entry, wide_run

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.core.names import Names
from anabranch.core.schedules.addresses import schedule_address
from anabranch.core.wire import dead_letters
from anabranch.core.wire.dead_letters import MemberDeadLetter
from anabranch.core.wire.events import EventEntry
from anabranch.ports import Clock, Outgoing, TopicSpec

NAMES = Names("t.")
TOPICS = ("events", "dead-letters", "audit")
SCHEDULE = schedule_address("nightly")


def waiting_run(run_id: str) -> list[bytes]:
    """A run whose task waits for an approval that needs two decisions, and whose loop fails once."""
    return [
        batch(run_id, "runs", 1, entry("run.accepted", 1, name="release", groups={"g": ["ask", "try"]})),
        batch(
            run_id,
            "groups",
            10,
            entry("task.waiting", 10, "g", "ask", reason="approval", approval={"id": "a"}, until=500.0),
            entry("task.started", 10, "g", "try", attempt=1, worker="w-1", agent="builder"),
        ),
        batch(run_id, "groups", 11, entry("approval.decided", 11, "g", "ask", decision="approved", by="ann")),
        batch(
            run_id,
            "groups",
            12,
            entry("task.retrying", 12, "g", "try", attempt=1, error_type="OSError", message="disk \x00 full"),
            entry("task.started", 13, "g", "try", attempt=2, worker="w-2"),
            entry("approval.decided", 14, "g", "ask", decision="approved", by="bob"),
            entry("task.completed", 15, "g", "ask", ended_by="approved"),
            entry("task.completed", 20, "g", "try", attempt=2, usd=0.5, tokens=7, usd_total=0.5, tokens_total=7),
        ),
        batch(run_id, "groups", 13, entry("group.completed", 20, "g")),
        batch(run_id, "runs", 2, entry("run.completed", 21)),
    ]


def looping_run(run_id: str, iterations: int = 3) -> list[bytes]:
    """A run whose task runs in a loop that is cancelled."""
    values = [batch(run_id, "runs", 1, entry("run.accepted", 1, name="loop", labels={"team": "b"}))]
    for number in range(iterations):
        at, place = 10.0 + number, {"iteration": (number,)}
        begun = entry("task.started", at, "g", "body", attempt=1, worker="w").model_copy(update=place)
        ended = entry("task.completed", at + 0.5, "g", "body", attempt=1).model_copy(update=place)
        values.append(batch(run_id, "groups", 20 + number, begun, ended))
    return [*values, batch(run_id, "runs", 2, entry("run.cancelled", 30.0))]


def schedule_events() -> list[bytes]:
    """A schedule that fired, missed a firing, and was paused."""
    said = {"schedule": "nightly", "project": "default", "at": "2026-01-01T00:00:00Z", "source": "clock"}
    return [
        batch(SCHEDULE, "runs", 1, entry("schedule.fired", 1, firing="run-9", **said)),
        batch(SCHEDULE, "runs", 2, entry("schedule.missed", 2, reason="overlap", **said)),
        batch(SCHEDULE, "runs", 3, entry("schedule.paused", 3, schedule="nightly", project="default")),
    ]


def events(copies: int = 1) -> list[tuple[str, bytes]]:
    """(key, value) of records in the order of publication: each kind of run, `copies` times, side by side."""
    found = [(SCHEDULE, value) for value in schedule_events()]
    for number in range(copies):
        runs = {
            f"wide-{number}": wide_run(f"wide-{number}", f"order {number}"),
            f"cancelled-{number}": cancelled_run(f"cancelled-{number}"),
            f"waiting-{number}": waiting_run(f"waiting-{number}"),
            f"looping-{number}": looping_run(f"looping-{number}"),
        }
        for step in range(max(map(len, runs.values()))):
            found += [(run_id, values[step]) for run_id, values in runs.items() if step < len(values)]
    return [*found, ("wide-0", b"\xff no record")]


def other_records() -> list[Outgoing]:
    """A dead letter of a member, one of a record, and records of the audit log, of which one is none."""
    member = MemberDeadLetter(
        run_id="wide-0",
        request_id="order 0",
        session_id="s-1",
        group="g",
        task="wide",
        index=7,
        member="wide[7]",
        agent="builder",
        error_type="ValueError",
        message="seven",
    )
    headers = {dead_letters.CODE: b"member_failed", dead_letters.SIGNATURE: b"abc", dead_letters.PROJECT: b"p"}
    call = {"time": "2026-01-01T00:00:00Z", "actor": "ann", "role": "admin", "project": "p", "action": "submit"}
    return [
        Outgoing(NAMES.dead_letters, "k", orjson.dumps(member.to_document()), headers),
        Outgoing(
            NAMES.dead_letters, "k", b"\xff", {dead_letters.CODE: b"undecodable", dead_letters.REASON: b"no"}
        ),
        Outgoing(NAMES.audit, "p", orjson.dumps(call)),
        Outgoing(NAMES.audit, "p", b"no record"),
    ]


async def history_log(clock: Clock, copies: int = 1, *, life: str = "a", partitions: int = 2) -> MemoryLog:
    """A log with these records, the same for each `life`."""
    log = MemoryLog(MemoryBroker(life=life), clock)
    await log.create_topics([TopicSpec(f"t.{name}", partitions) for name in TOPICS])
    await log.publish([Outgoing(NAMES.events, key, value) for key, value in events(copies)])
    await log.publish(other_records())
    return log


def single(kind: str, time: float, task: str = "wide", **more: object) -> EventEntry:
    """An event of a task of group g."""
    return entry(kind, time, "g", task, **more)
