"""A log, workers and a store for the session's owner, in plain Python: the environment of a random run.

Workers take offers in any order and report in pieces, get lost, return as zombies, and return chunks; messages are
duplicated. `expected` computes the required outcome in a naive way.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from anabranch.core.due import DueQueue
from anabranch.core.expansion.members import Expanded
from anabranch.core.names import Names
from anabranch.core.outputs import derived, join
from anabranch.core.ranges import Ranges
from anabranch.core.request.models import Expansion
from anabranch.core.wire.codec import GROUPS, RUNS, encode
from anabranch.core.wire.dead_letters import DEAD_LETTER_ID
from anabranch.core.wire.messages import (
    ArrayCounted,
    ChunkLost,
    ChunkReturned,
    FailRun,
    GroupFinished,
    MemberFailed,
    MemberRetry,
    MembersReported,
    Message,
    Need,
    OpenRun,
    StartGroup,
    TaskOrder,
    TimerDue,
    ValueFound,
)
from anabranch.core.wire.results import is_reference
from anabranch.ports import Fence, Write
from anabranch.runtime.ownership.effects import PublishAfter, StorePut
from anabranch.runtime.reading import values
from anabranch_taskgroup.owner.derived_keys import write_derived_keys
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.timers import OVERDUE, Timer, TimerKind
from anabranch_taskgroup.session.turn import (
    CountArrays,
    DecisionConfig,
    OfferChunk,
    Turn,
    Unwatch,
    Watch,
    WriteDerivedKeys,
)
from anabranch_taskgroup.worker.reports import spans_of

NAMES = Names("t.")
SESSION = "s"


@dataclass(frozen=True)
class PlannedTask:
    """A task with its members' outcomes: `failing` fail permanently, `flaky` succeed after one retry by the
    owner."""

    order: TaskOrder
    group: str
    array: str | None
    failing: frozenset[int]
    flaky: frozenset[int]
    listed: bool

    def value(self, index: int) -> Any:
        text = f"{self.order.name}.{index}"
        return [text, index] if self.listed else text


@dataclass(frozen=True)
class PlannedRun:
    run_id: str
    tasks: tuple[PlannedTask, ...]
    external: Mapping[str, Any]

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(task.group for task in self.tasks))

    def task(self, group: str, name: str) -> PlannedTask:
        return next(task for task in self.tasks if (task.group, task.order.name) == (group, name))

    def messages(self) -> list[Message]:
        opened = OpenRun(
            run_id=self.run_id,
            request_id=self.run_id,
            session_id=SESSION,
            groups=tuple(self.groups),
            deadline=1e9,
        )
        starts = [
            StartGroup(
                run_id=self.run_id, group=group, tasks=tuple(t.order for t in self.tasks if t.group == group)
            )
            for group in self.groups
        ]
        return [opened, *starts]


# --- required outcome ----------------------------------------------------------------------------


@dataclass
class Expected:
    values: dict[str, Any] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


def expected(run: PlannedRun) -> Expected:
    """Results of each group; tasks are in an order in which producers precede their dependents."""
    found = Expected(values=dict(run.external), results={group: {} for group in run.groups})
    for task in run.tasks:
        needs = [need for need in task.order.needs if not need.optional]
        if all(need.key in found.values for need in needs):
            _end(task, found)
    return found


def members(task: PlannedTask, known: Mapping[str, Any]) -> int:
    expansion = task.order.expansion
    if expansion is None:
        return 1
    if task.array is not None:
        return len(known[task.array])
    count = 1
    for literal in expansion.array_mapping.values():
        count *= len(literal)
    return count


def _end(task: PlannedTask, found: Expected) -> None:
    expansion, key = task.order.expansion, task.order.result_keys[0]
    count = members(task, found.values)
    done = [(index, str(index), task.value(index)) for index in range(count) if index not in task.failing]
    results = found.results[task.group]
    if expansion is None:
        if done:
            results[key] = found.values[key] = done[0][2]
        else:
            found.failed.add(task.order.name)
    elif count == 0 and expansion.on_empty != "complete":
        if expansion.on_empty == "fail":
            found.failed.add(task.order.name)
    elif count - len(done) > int(task.order.tolerated_failures):
        found.failed.add(task.order.name)
        if done:
            results[key] = join(expansion.output_format, done, count)
    else:
        results[key] = found.values[key] = join(expansion.output_format, done, count)
        if expansion.output_format == "separate":
            results.update(derived(done, key))


# --- environment of the owner --------------------------------------------------------------------


@dataclass
class Worker:
    """One delivery of a chunk. `left` are the members that it has not reported yet."""

    run: PlannedRun
    offer: OfferChunk
    fence: int
    left: list[int]
    attempts: dict[int, int]
    is_zombie: bool = False


def is_answer(effect: object) -> bool:
    """True if an effect answers that a run is unknown: each query gets such an answer."""
    return isinstance(effect, PublishAfter) and b'"type":"fail_run"' in effect.outgoing.value


class World:
    """The owner's state, its log, and its environment. `chaos` is the number of faults."""

    def __init__(self, runs: Sequence[PlannedRun], random: Random, chaos: int, inline_limit: int) -> None:
        self.rules = DecisionConfig(NAMES, inline_limit=inline_limit)
        self.random = random
        self.chaos = chaos
        self.runs = {run.run_id: run for run in runs}
        self.partition = PartitionState(0)
        self.unknown: list[str] = []
        """Runs that the owner reported as unknown."""
        self.log: list[DeliveredMessage] = []
        self.store: dict[str, bytes] = {}
        self.workers: list[Worker] = []
        self.watched: set[tuple[str, str]] = set()
        self.published: dict[str, dict[str, Any]] = {run.run_id: {} for run in runs}
        self.finished: dict[tuple[str, str], list[GroupFinished]] = {}
        self.joined: list[tuple[str, str]] = []
        self.ended: dict[tuple[str, str], set[int]] = {}
        self.counting: list[CountArrays] = []
        self.dead_letters: dict[bytes, Any] = {}
        self.now = 0.0

    def feed(self, message: Message, segments: Sequence[bytes] = ()) -> None:
        """Append an encoded message, decide, and check that deciding again changes nothing."""
        delivery = self.feed_once(message, segments)
        before = plain(self.partition)
        again = decide(self.rules, self.partition, dataclasses.replace(delivery, offset=delivery.offset + 1))
        assert plain(self.partition) == before, f"{type(message).__name__} twice changed the state"
        acts = [effect for effect in again.effects if isinstance(effect, (OfferChunk, PublishAfter, StorePut))]
        assert not [effect for effect in acts if not is_answer(effect)]

    def feed_once(self, message: Message, segments: Sequence[bytes] = ()) -> DeliveredMessage:
        """Append an encoded message, and decide."""
        decoded = GROUPS.decode(encode(message, segments))
        delivery = DeliveredMessage(decoded.message, decoded.segments, len(self.log), self.now)
        self.log.append(delivery)
        self._see(decide(self.rules, self.partition, delivery))
        self._check_what_is_kept_by_time()
        return delivery

    def _check_what_is_kept_by_time(self) -> None:
        """Check that indexes over runs find the same as a scan of all runs."""
        open_runs = self.partition.runs
        known = {run_id: run.timers.due_at(OVERDUE) or 0.0 for run_id, run in open_runs.items()}
        for run_id, run in open_runs.items():
            scheduled = [run.timers.due_at(timer) for timer in run.timers if timer != OVERDUE]
            assert sorted(each for each in scheduled if each is not None) == sorted(timers_of(run))
            known[run_id] = min([known[run_id], *timers_of(run)])
        assert self.partition.next_due() == min(known.values(), default=None)
        for now in (self.now, *known.values()):
            due = {run.run_id for run in self.partition.due(now)}
            assert due == {run_id for run_id, at in known.items() if at <= now}
        assert self.partition.oldest_open() == min((run.trail.pin for run in open_runs.values()), default=None)

    # what the owner does -----------------------------------------------------------------------------

    def _see(self, turn: Turn) -> None:
        for effect in turn.effects:
            if isinstance(effect, StorePut):
                self.store[effect.key] = effect.value
            elif isinstance(effect, PublishAfter):
                self._observe(effect)
            elif isinstance(effect, OfferChunk):
                self._offered(effect)
            elif isinstance(effect, Watch):
                self.watched.add((effect.run_id, effect.key))
            elif isinstance(effect, Unwatch):
                self.watched.discard((effect.run_id, effect.key))
            elif isinstance(effect, CountArrays):
                self.counting.append(effect)
            elif isinstance(effect, WriteDerivedKeys):
                asyncio.run(self._spread(effect))
        self._joined(turn)

    async def _spread(self, effect: WriteDerivedKeys) -> None:
        await write_derived_keys(effect, 1, eventlog=Deaf(), store=self, notifier=Deaf(), names=NAMES)

    def _observe(self, effect: PublishAfter) -> None:
        if effect.outgoing.topic == NAMES.results:
            body = orjson.loads(effect.outgoing.value)
            assert body["result_key"] not in self.published[body["run_id"]], "published twice"
            self.published[body["run_id"]][body["result_key"]] = body["value"]
        elif effect.outgoing.topic == NAMES.dead_letters:
            assert effect.outgoing.headers[DEAD_LETTER_ID] not in self.dead_letters, (
                "two dead letters of one failure"
            )
            self.dead_letters[effect.outgoing.headers[DEAD_LETTER_ID]] = orjson.loads(effect.outgoing.value)
        else:
            finished = RUNS.decode(effect.outgoing.value).message
            if isinstance(finished, FailRun):
                self.unknown.append(finished.run_id)
                return
            assert isinstance(finished, GroupFinished)
            self.finished.setdefault((finished.run_id, finished.group), []).append(finished)

    def _offered(self, effect: OfferChunk) -> None:
        run = self.partition.runs[effect.run_id]
        task = run.groups[effect.group].tasks[effect.task]
        known = run.values
        for need in task.order.needs:
            assert need.key in known, f"{effect.task} was offered before {need.key} was known"
            assert need.optional or isinstance(known[need.key], Value), f"{effect.task} lacks {need.key}"
        chunk = task.chunks[effect.chunk]
        left = list(Ranges(chunk.pending).indexes())
        self.workers.append(Worker(self.runs[effect.run_id], effect, chunk.fence, left, dict(chunk.attempts)))

    def _joined(self, turn: Turn) -> None:
        for run, entry in turn.events:
            if entry.type == "task.joined":
                joined_task = (run.run_id, str(entry.task))
                assert joined_task not in self.joined, f"{joined_task} joined twice"
                self.joined.append(joined_task)
                ended = len(self.ended.get(joined_task, ()))
                assert ended == entry.data["count"], f"{joined_task} joined when {ended} members had ended"

    # what the environment does ---------------------------------------------------------------------------

    def step(self) -> bool:
        """Perform one random step; returns False if no step is left."""
        self.now += 0.01
        if self.chaos > 0 and self.workers and self.random.random() < 0.4:
            self.chaos -= 1
            self._mishap(self.random.choice(self.workers))
            return True
        live = [worker for worker in self.workers if worker.left and not worker.is_zombie]
        choices = [*live, *self.counting, *sorted(self.watched)]
        if choices:
            self._act(self.random.choice(choices))
            return True
        return self._fire()

    def _act(self, choice: Any) -> None:
        if isinstance(choice, Worker):
            self._report(choice)
        elif isinstance(choice, CountArrays):
            self.counting.remove(choice)
            self._count(choice)
        else:
            run_id, key = choice
            self.feed(ValueFound(run_id=run_id, key=key, value=self.runs[run_id].external[key]))

    def _fire(self) -> bool:
        due = [(min(found), run_id) for run_id, run in self.partition.runs.items() if (found := timers_of(run))]
        if not due:
            return False
        at, run_id = min(due)
        self.now = max(self.now, at)
        self.feed(TimerDue(run_id=run_id, at=self.now))
        return True

    def _mishap(self, worker: Worker) -> None:
        kind = self.random.choice(["lost", "draining", "no_agent", "repeat", "zombie"])
        if kind == "repeat":
            old = self.random.choice(self.log)
            if not isinstance(old.message, OpenRun):
                self.feed(old.message, old.segments)
        elif kind == "zombie" or worker.is_zombie:
            self._report(worker)
        elif not worker.left:
            return
        elif kind == "lost":
            worker.is_zombie = True
            begun = sorted(self.random.sample(worker.left, self.random.randint(0, len(worker.left))))
            self.feed(MembersReported(**self._fields_of(worker), started=spans_of(begun)))
            self.feed(ChunkLost(**self._fields_of(worker), cause=self.random.choice(["gone", "gone", "error"])))
        else:
            worker.is_zombie = True
            self.feed(ChunkReturned(**self._fields_of(worker), reason=kind))

    def _fields_of(self, worker: Worker) -> dict[str, Any]:
        offer = worker.offer
        return {
            "run_id": offer.run_id,
            "group": offer.group,
            "task": offer.task,
            "chunk": offer.chunk,
            "fence": worker.fence,
            "worker": "w",
        }

    def _report(self, worker: Worker) -> None:
        """Report some of a worker's members, in the form and order of a worker's report."""
        if not worker.left:
            return
        task = worker.run.task(worker.offer.group, worker.offer.task)
        self.random.shuffle(worker.left)
        reported = worker.left[: self.random.randint(1, len(worker.left))]
        worker.left = worker.left[len(reported) :]
        done, failed, retried = [], [], []
        for index in sorted(reported):
            attempts = worker.attempts.get(index, 0)
            if index in task.flaky and attempts == 0:
                retried.append(MemberRetry(index=index, attempt=1, delay=5.0, error_type="E", message="later"))
            elif index in task.failing:
                failed.append(MemberFailed(index=index, error_type="E", message="no", attempts=attempts + 1))
            else:
                done.append(index)
        if not worker.is_zombie:
            self._note_ended(worker, [*done, *(failure.index for failure in failed)])
        report = MembersReported(
            **self._fields_of(worker),
            started=spans_of(sorted(reported)),
            completed=spans_of(done),
            items=(len(done),) if done else (),
            failed=tuple(failed),
            retried=tuple(retried),
            last=not worker.left,
            busy=0.01,
        )
        self.feed(report, _segments(task, done))

    def _note_ended(self, worker: Worker, indexes: Sequence[int]) -> None:
        ended = self.ended.setdefault((worker.offer.run_id, worker.offer.task), set())
        assert not ended & set(indexes), "a member ran again after it had ended"
        ended.update(indexes)

    def _count(self, effect: CountArrays) -> None:
        run = self.partition.runs.get(effect.run_id)
        if run is None:
            return
        key = self.runs[effect.run_id].task(effect.group, effect.task).array
        held = run.values[str(key)]
        assert isinstance(held, Value)
        count = len(self.resolved(held.data))
        self.feed(ArrayCounted(run_id=effect.run_id, group=effect.group, task=effect.task, count=count))

    def resolved(self, value: Any) -> Any:
        """A value, or the stored value of its reference."""
        if not is_reference(value, SESSION):
            return value
        return asyncio.run(values.resolve(self, NAMES, value, within=SESSION))  # type: ignore[arg-type]

    async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        return [self.store.get(key) for key in keys]

    async def put(self, writes: Sequence[Write], fence: Fence | None = None) -> None:
        self.store.update((write.key, write.value) for write in writes)


class Deaf:
    """A log and a notifier whose records these tests ignore."""

    async def publish(self, messages: Any) -> Any:
        """Accept and drop them."""


def _segments(task: PlannedTask, done: Sequence[int]) -> list[bytes]:
    if not done:
        return []
    segments = [orjson.dumps([task.value(index) for index in done])]
    expansion = task.order.expansion
    if expansion is not None and expansion.output_format == "separate":
        segments.append(orjson.dumps([str(index) for index in done]))
    return segments


def timers_of(run: Run) -> list[float]:
    """Due times of a run's groups and tasks, found by a scan."""
    found = [
        group.deadline
        for group in run.groups.values()
        if group.deadline is not None and not group.is_reported and not group.is_stopped
    ]
    for task in (task for group in run.groups.values() for task in group.tasks.values()):
        later = [due for due, _ in task.parked] + [due for due, *_ in task.retries]
        found += [min(later)] if later else []
        lack = run.timers.due_at(Timer(TimerKind.AGENT_MISSING, task.group, task.name))
        found += [lack] if lack is not None and task.agent_missing_since is not None and not task.is_over else []
    return found


def plain(value: Any) -> Any:
    """State as nested plain data for comparison, without counters of dropped messages, and without what the log
    has of the runs: each record changes that."""
    if isinstance(value, Expanded):
        return value.count
    if isinstance(value, Ranges):
        return value.pairs()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value) if each.name not in ("dropped", "trail")]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, DueQueue):
        return {key: value.due_at(key) for key in value}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def order(name: str, needs: Sequence[Need], expansion: Expansion | None, **more: Any) -> TaskOrder:
    """A task's plan with one result key, the task's name."""
    return TaskOrder(
        name=name,
        agent="a",
        needs=tuple(needs),
        result_keys=(name,),
        expansion=expansion,
        max_deliveries=999,
        **more,
    )
