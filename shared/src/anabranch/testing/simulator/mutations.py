"""Breaks one mechanism of the product on purpose, to verify that the simulator detects it. For tests only.

Each mutation replaces a function while a simulation runs, and names the faults that make the damage visible. The
product does not know the mutations: they find functions by name, so a renamed function fails here with an error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from anabranch.adapters.memory.server import MemoryServer
from anabranch.core.offsets import TrailingCommit
from anabranch.core.ranges import Ranges
from anabranch.core.snapshots import PartitionTrail
from anabranch.core.state_codec import StateCodec
from anabranch.runtime.fitted_log import FittedLog
from anabranch.runtime.ownership import claims, commits, membership, owner, replay, turns
from anabranch.runtime.ownership.effects import by_performer
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.snapshots import RunSnapshots
from anabranch.testing.simulator import (
    branch_mutations,
    child_mutations,
    ending_mutations,
    event_mutations,
    limit_mutations,
    loop_mutations,
    ordered_mutations,
    required_mutations,
    schedule_mutations,
    spending_mutations,
    waiting_mutations,
)
from anabranch.testing.simulator.faults import FAULTS
from anabranch.testing.simulator.outside_mutations import ALSO, BROKEN, Broken
from anabranch_agency.run import actor as agency_actor
from anabranch_agency.run import held_start
from anabranch_taskgroup.owner import dispatch, key_watcher
from anabranch_taskgroup.session import actor, claim_monitor, known_runs, value_references
from anabranch_taskgroup.session.reports import ClassifiedReport, ReportStatus
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.steps import joins
from anabranch_taskgroup.session.steps import task as steps_task
from anabranch_taskgroup.session.task_state import Chunk


@dataclass(frozen=True, slots=True)
class Mutation:
    """A broken mechanism.

    Attributes:
        what: the wrong behaviour, as a sentence.
        target, name: module or class, and its function that is replaced.
        broken: makes the replacement from the original function.
        faults: faults under which the simulator detects the mutation.
        also: a second mutation, of a mechanism that would otherwise compensate for the first.
    """

    what: str
    target: Any
    name: str
    broken: Callable[[Callable[..., Any]], Callable[..., Any]]
    faults: tuple[str, ...]
    also: Mutation | None = None


@contextlib.contextmanager
def applied(mutation: Mutation | None) -> Iterator[None]:
    """Apply a mutation while the context is open."""
    if mutation is None:
        yield
        return
    # Raises AttributeError for a function that was renamed, so no mutation is lost silently.
    original = getattr(mutation.target, mutation.name)
    setattr(mutation.target, mutation.name, mutation.broken(original))
    try:
        with applied(mutation.also):
            yield
    finally:
        setattr(mutation.target, mutation.name, original)


# --- replacements ------------------------------------------------------------------------------------


def _commits_at_once(original: Callable[..., Any]) -> Callable[..., Any]:
    def committable(self: TrailingCommit, now: float) -> int | None:
        return original(self, now + 1_000.0)  # type: ignore[no-any-return]

    return committable


def _commits_ahead(original: Callable[..., Any]) -> Callable[..., Any]:
    """Commit a position when its records arrive, before their effects are performed."""

    def deliver(self: Any, topic: str, partition: int, records: Any) -> None:
        original(self, topic, partition, records)
        owned = self._owned.get(partition)
        if owned is not None:
            position = replay.position(records[-1].offset + 1, records[-1].offset + 1, owned.store)
            task = asyncio.ensure_future(self._membership.commit(partition, position))
            # Reads the exception: asyncio would report it as not retrieved, which is a violation of its own.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    return deliver


def _publishes_first(original: Callable[..., Any]) -> Callable[..., Any]:
    async def perform(self: Any, owned: Any, effects: Any, *rest: Any) -> None:
        await self._retry_until_available(owned, lambda: self._writer.publish(by_performer(effects)))
        await original(self, owned, effects, *rest)

    return perform


def _no_fence(original: Callable[..., Any]) -> Callable[..., Any]:
    def put(self: MemoryServer, writes: Any, fence: Any) -> None:
        original(self, writes, None)

    return put


def _joins_early(original: Callable[..., Any]) -> Callable[..., Any]:
    """Close a task one member too early."""

    def close(turn: Any, run: Any, task: Any) -> None:
        if task.total > 1 and task.ended == task.total - 1:
            task.ended += 1
        original(turn, run, task)

    return close


def _is_new(original: Callable[..., Any]) -> Callable[..., Any]:
    """A stale report counts like a new one, even if its chunk has ended."""

    def classify(task: Any, report: Any) -> Any:
        found = original(task, report)
        if found.status is not ReportStatus.STALE or task.state is not TaskState.RUNNING:
            return found
        again = Chunk(report.chunk, Ranges(report.completed), 0, fence=report.fence)
        return ClassifiedReport(ReportStatus.NEW, task.chunks.setdefault(report.chunk, again))

    return classify


def _always(answer: Any) -> Callable[..., Any]:
    return lambda original: lambda *_, **__: answer


def _is_always_first(original: Callable[..., Any]) -> Callable[..., Any]:
    """Treat each offer of a chunk as its first one."""

    def offered(*args: Any) -> bool:
        original(*args)
        return True

    return offered


def _judges_without(part: str) -> Callable[..., Any]:
    def broken(original: Callable[..., Any]) -> Callable[..., Any]:
        def judge(*args: Any, **options: Any) -> Any:
            findings = original(*args, **options)
            getattr(findings, part).clear()
            return findings

        return judge

    return broken


def _replays_nothing(original: Callable[..., Any]) -> Callable[..., Any]:
    def replay_of(*args: Any, **options: Any) -> Any:
        found = original(*args, **options)
        return replace(found, start=found.committed if found.start is not None else None)

    return replay_of


def _restores_nothing(original: Callable[..., Any]) -> Callable[..., Any]:
    def replay_of(*args: Any, **options: Any) -> Any:
        return replace(original(*args, **options), restores=False)

    return replay_of


def _never_polls(original: Callable[..., Any]) -> Callable[..., Any]:
    async def wait(self: Any) -> None:
        self._wake.clear()
        if not self._dirty:
            await self._wake.wait()

    return wait


def _ignores_identity(original: Callable[..., Any]) -> Callable[..., Any]:
    async def check(self: Any) -> None:
        return None

    return check


def _by_size_only(original: Callable[..., Any]) -> Callable[..., Any]:
    def is_stored(value: Any, data: bytes, limit: int) -> bool:
        return len(data) > limit

    return is_stored


def _is_known_by_id(original: Callable[..., Any]) -> Callable[..., Any]:
    """Treat every later admission of an ended run as a repetition."""

    def is_known(partition: Any, opening: Any) -> bool:
        tombstone = partition.tombstones.get(opening.run_id)
        return opening.run_id in partition.runs or (tombstone is not None and tombstone.reason == "ended")

    return is_known


def _generation_zero(original: Callable[..., Any]) -> Callable[..., Any]:
    async def generation_of(*args: Any, **options: Any) -> int:
        return 0

    return generation_of


def _refuses_large(original: Callable[..., Any]) -> Callable[..., Any]:
    """Publish a record over its topic's limit without splitting it into fragments."""

    async def publish(self: Any, records: Any) -> Any:
        return await self._inner.publish(records)

    return publish


def _returns_none(original: Callable[..., Any]) -> Callable[..., Any]:
    def answer(*args: Any, **options: Any) -> None:
        return None

    return answer


def _keeps_local_time(original: Callable[..., Any]) -> Callable[..., Any]:
    def observe(self: Any, timestamp: float, published_at: float, acknowledged_at: float) -> None:
        return None

    return observe


def _limits_left_out(original: Callable[..., Any]) -> Callable[..., Any]:
    """Open a run without its limits, so that each owner of the session uses those of its own settings."""

    def open_run(*args: Any, **options: Any) -> Any:
        return original(*args, **options).model_copy(update={"inline_limit": None, "member_limit": None})

    return open_run


def _pins_at_the_snapshot(original: Callable[..., Any]) -> Callable[..., Any]:
    """Move the pin to the snapshot itself, as if no record of the run were between its state and the snapshot."""

    def snapshotted(self: Any, run: Any, snapshot: Any, *rest: Any) -> None:
        original(self, run, snapshot.model_copy(update={"upto": self.position - 1}), *rest)

    return snapshotted


def _without(field: str) -> Callable[..., Any]:
    """Leave a field out of the document of a run's state."""

    def broken(original: Callable[..., Any]) -> Callable[..., Any]:
        def write(self: Any, state: Any) -> Any:
            document, blobs = original(self, state)
            document.pop(field, None)
            return document, blobs

        return write

    return broken


def _ignores_gaps(original: Callable[..., Any]) -> Callable[..., Any]:
    def read(self: Any, state: Any, records: Any) -> Iterator[Any]:
        list(original(self, state, records))
        yield from ()

    return read


class _NoShield:
    """`asyncio` without `shield`."""

    gather = asyncio.gather

    @staticmethod
    async def shield(awaitable: Any) -> Any:
        return await awaitable


def _all_of(broken: Mapping[str, Broken], also: Mapping[str, Broken]) -> dict[str, Mutation]:
    return {name: Mutation(*it, Mutation(*also[name]) if name in also else None) for name, it in broken.items()}


MUTATIONS = {
    "commit-at-once": Mutation(
        "positions are committed while the store may still lose their effects",
        TrailingCommit,
        "committable",
        _commits_at_once,
        ("old-store",),
        Mutation(
            "effects of committed records are not repeated for a replaced store",
            claims,
            "replay_of",
            _restores_nothing,
            (),
        ),
    ),
    "commit-ahead": Mutation(
        "positions are committed before their effects are performed",
        owner.Owner,
        "deliver",
        _commits_ahead,
        ("kill",),
    ),
    "news-first": Mutation(
        "results are published before they are in the store", turns.TurnProcessor, "_perform", _publishes_first, ()
    ),
    "no-fence": Mutation(
        "the store accepts writes of an owner that was replaced",
        MemoryServer,
        "put",
        _no_fence,
        ("expel", "freeze"),
    ),
    "early-join": Mutation("a join does not wait for its last member", joins, "close_if_ended", _joins_early, ()),
    "no-dedupe": Mutation(
        "a repeated report counts again", steps_task, "classify", _is_new, ("repeats", "kill", "empty-store")
    ),
    "no-offers-again": Mutation(
        "unclaimed chunks are not offered again",
        claim_monitor.ClaimMonitor,
        "judge",
        _judges_without("offer_again"),
        ("kill", "lost-calls", "restart"),
    ),
    "no-lost-workers": Mutation(
        "chunks of a dead worker are not declared lost",
        claim_monitor.ClaimMonitor,
        "judge",
        _judges_without("lost"),
        ("kill",),
    ),
    "no-charge": Mutation(
        "chunks that were open at a takeover begin without a claim, so that nobody notes what ends each owner",
        claim_monitor.ClaimMonitor,
        "offered",
        _is_always_first,
        ("kill",),
        Mutation(
            "an owner counts as confirmed from its takeover on",
            membership.GroupMembership,
            "is_confirmed",
            _always(True),
            (),
        ),
    ),
    "no-lease": Mutation(
        "an owner that was replaced begins chunks without claims",
        membership.GroupMembership,
        "is_confirmed",
        _always(True),
        ("freeze",),
    ),
    "no-admission-once": Mutation(
        "a repeated request is admitted again", agency_actor, "_known", _always(None), ("repeats",)
    ),
    "no-replay": Mutation(
        "a new owner does not rebuild the state of open runs",
        claims,
        "replay_of",
        _replays_nothing,
        ("kill", "expel"),
    ),
    "no-looking": Mutation(
        "external values are not polled: they are found only by their channel message",
        key_watcher.KeyWatcher,
        "_wait",
        _never_polls,
        ("messages",),
    ),
    "no-restoring": Mutation(
        "a replaced store is not noticed",
        commits.Committer,
        "_check_store",
        _ignores_identity,
        ("empty-store",),
    ),
    "by-shape": Mutation(
        "a value that looks like a reference is published unchanged",
        value_references,
        "is_stored",
        _by_size_only,
        (),
    ),
    "no-admission": Mutation(
        "an admission is confused with an earlier one of the same request id",
        known_runs,
        "is_known",
        _is_known_by_id,
        ("ids-again", "older-store", "part-store"),
        Mutation("likewise in the session's owner", actor, "is_known", _is_known_by_id, ()),
    ),
    "no-generation": Mutation(
        "a topic that was created again is confused with the deleted one",
        claims,
        "generation_of",
        _generation_zero,
        ("recreate",),
    ),
    "refuses-large": Mutation(
        "a record over the limit of its topic is not split",
        FittedLog,
        "publish",
        _refuses_large,
        ("small-records",),
    ),
    "deaf-owner": Mutation(
        "a session's owner that lost the records of a run does not report it",
        actor,
        "answer_lost",
        _returns_none,
        ("trim",),
        Mutation("likewise for a stop", known_runs, "answer_lost", _returns_none, ()),
    ),
    "local-clock": Mutation(
        "deadlines are compared with the local clock", LogClock, "observe", _keeps_local_time, ("clocks",)
    ),
    "late-inline": Mutation(
        "a decision uses the limits of its process instead of those of the run",
        held_start,
        "open_run",
        _limits_left_out,
        ("settings", "kill", "restart"),
    ),
    "snapshot-gap": Mutation(
        "records between the state in a snapshot and the snapshot are not applied",
        RunSnapshots,
        "read",
        _ignores_gaps,
        ("snapshots", "late-snapshots", "retain", "kill", "restart"),
    ),
    "snapshot-pin": Mutation(
        "a replay begins at a snapshot although records of the run are before it",
        PartitionTrail,
        "snapshotted",
        _pins_at_the_snapshot,
        ("snapshots", "late-snapshots", "retain", "kill", "restart"),
    ),
    "snapshot-field": Mutation(
        "a field of the state is not in snapshots",
        StateCodec,
        "write",
        _without("watched"),
        ("snapshots",),
    ),
    "no-snapshots-read": Mutation(
        "a new owner does not restore runs from snapshots",
        *(PartitionTrail, "restores", _always(False)),
        ("snapshots", "retain", "kill"),
    ),
    **{name: Mutation(*broken, ()) for name, broken in ending_mutations.BROKEN.items()},
    **{name: Mutation(*broken, ()) for name, broken in branch_mutations.BROKEN.items()},
    **{name: Mutation(*broken, ()) for name, broken in loop_mutations.BROKEN.items()},
    **{name: Mutation(*broken, ()) for name, broken in waiting_mutations.BROKEN.items()},
    **_all_of(child_mutations.BROKEN, child_mutations.ALSO),
    **_all_of(BROKEN, ALSO),
    **{name: Mutation(*broken, ()) for name, broken in event_mutations.BROKEN.items()},
    **{
        name: Mutation(*broken, ("snapshots", "retain", "kill") if name in schedule_mutations.IN_TAKEOVERS else ())
        for name, broken in schedule_mutations.BROKEN.items()
    },
    **{name: Mutation(*broken, ("kill",)) for name, broken in limit_mutations.BROKEN.items()},
    **{name: Mutation(*broken, ("kill",)) for name, broken in spending_mutations.BROKEN.items()},
    **{name: Mutation(*broken, ("kill",)) for name, broken in required_mutations.BROKEN.items()},
    **{name: Mutation(*broken, ()) for name, broken in ordered_mutations.BROKEN.items()},
    "cut-short": Mutation(
        "claimed chunks are not started if their partition is lost meanwhile",
        dispatch,
        "asyncio",
        lambda original: _NoShield,
        FAULTS,
    ),
}
