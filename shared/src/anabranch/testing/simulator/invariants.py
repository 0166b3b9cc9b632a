"""Checks the promises after a simulation: each run ended once and as expected, and nothing is left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.errors import AnabranchError
from anabranch.core.names import session_key
from anabranch.core.wire.results import is_reference
from anabranch.runtime.reading.contexts import load_context
from anabranch.runtime.reading.values import public_value, resolve
from anabranch.testing.simulator.accounts import Account
from anabranch.testing.simulator.branches import loose_differences
from anabranch.testing.simulator.children import has_children
from anabranch.testing.simulator.deadlines import wrong_times
from anabranch.testing.simulator.endings import has_endings
from anabranch.testing.simulator.faults import HORIZON
from anabranch.testing.simulator.scheduled import misreported
from anabranch.testing.simulator.sharing import SESSION, SHARED, combined
from anabranch.testing.simulator.workload import Expected

if TYPE_CHECKING:
    from anabranch.testing.simulator.world import World

EXPECTED_ERRORS = ("taking over",)
"""Beginnings of log lines of errors that faults cause: a partition cannot be taken over yet, and is retried."""
TOPIC_LOST = ("so the topic was deleted and created again", "replaying it from its beginning")
"""Parts of log lines about recreated topics: of an owner that notices it, or of the next owner."""
LONGEST_SECONDS = 16 * 86_400.0
"""Maximum time to live of a key: a run's timeout, retention and margins."""


# --- while it runs -----------------------------------------------------------------------------------


class _Listener(logging.Handler):
    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        is_expected = message.startswith(EXPECTED_ERRORS) or any(part in message for part in TOPIC_LOST)
        if not is_expected:
            cause = record.exc_info[1] if record.exc_info else None
            self._report(f"a service logged: {message}" + (f" ({cause!r})" if cause else ""))


@contextmanager
def errors_logged(report: Callable[[str], None]) -> Iterator[None]:
    """Report every error that services log as a violation. Lower levels are not logged while the context is
    open."""
    listener = _Listener(report)
    loggers = [
        logging.getLogger(name)
        for name in ("anabranch", "anabranch_agency", "anabranch_taskgroup", "anabranch_eventmanager")
    ]
    before = [(each.level, each.propagate) for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
        each.propagate = False
        each.addHandler(listener)
    try:
        yield
    finally:
        for each, (level, propagate) in zip(loggers, before, strict=True):
            each.setLevel(level)
            each.propagate = propagate
            each.removeHandler(listener)


def unclaimed_call(process: Any, task: Any, now: float) -> str | None:
    """What is wrong with a call of an agent in a process: its chunk has no claim, and the process was replaced as
    the owner of the chunk's session. Reads private state of the service: a claim says nothing of its necessity."""
    service = process.incarnation.service
    place, index = (task.run_id, task.group, task.task_name), task.index or 0
    if not any(
        key[:3] == place and any(start <= index < stop for start, stop in offer.spans)
        for key, offer in service._worker._held.unclaimed.items()
    ):
        return None
    memberships = process.incarnation.log.memberships
    membership = next(each for each in reversed(memberships) if service._handler.topic in each.topics)
    if membership.replaced_at is None or now <= membership.replaced_at:
        return None
    since = now - membership.replaced_at
    return f"{process.name} called {task.name} of {task.run_id} without a claim, replaced since {since:.3f} s"


# --- results -----------------------------------------------------------------------------------------


async def check_results(world: World) -> None:
    """Check that each run ended once, with the expected outcome."""
    for account in world.observer.accounts.values():
        if problem := misreported(account):
            world.observer.violated(problem)
        for final in account.finals if account.expected is not None else ():
            is_last = final is account.finals[-1]
            results = await _resolved(world, account, final["results"], may_be_gone=not is_last)
            if world.lost_at < account.ended[final["accepted_at"]] and world.keeps_results:
                _check_store(world, final)
            order = world.observer.endings.get(final["run_id"])
            if has_endings(str(world.seed)) and order is not None and account.expected is not None:
                for problem in order.problems(account.expected, final):
                    world.observer.violated(f"{final['run_id']} ({final['request_id']}): {problem}")
            for problem in _wrong_children(world, account, final):
                world.observer.violated(f"{final['run_id']} ({final['request_id']}): {problem}")
            problems = _problems(account, final, results, may_be_lost=world.edges.loses_log)
            for problem in (*problems, *_wrong_times(world, account, final)):
                world.observer.violated(f"{final['run_id']} ({final['request_id']}): {problem}")
            # A second final record was reported by the observer already.
            if not account.may_repeat:
                break
    for problem in world.observer.children.left():
        world.observer.violated(problem)
    await _check_session(world)


def _wrong_children(world: World, account: Account, final: Mapping[str, Any]) -> Iterator[str]:
    expected = account.expected
    if has_children(str(world.seed)) and expected is not None and expected.is_exact:
        is_cut = "timeout" in expected.request and final["status"] in ("timed_out", "cancelled")
        if not is_cut:
            yield from world.observer.children.differences(final["run_id"], expected.children)


def _wrong_times(world: World, account: Account, final: dict[str, Any]) -> Iterator[str]:
    jumps_at = world.clocks.jump_at or inf
    if world.edges.chosen and account.ended[final["accepted_at"]] < jumps_at:
        yield from wrong_times(
            account,
            final,
            epoch=world.clocks.epoch,
            faults_stop_at=HORIZON,
            cancelled_at=world.workload.cancelled.get(final["request_id"]),
            may_be_late=world.may_resubmit(),
        )


async def _check_session(world: World) -> None:
    """Check the key that the runs of a session share: its value, and one version for each change."""
    policy, accounts = world.workload.policy, list(world.observer.accounts.values())
    if policy is None or any(not each.finals or world.lost_at >= each.ended_at for each in accounts):
        return
    finals = [
        each.finals[0] | {"results": await _resolved(world, each, each.finals[0]["results"])} for each in accounts
    ]
    # With equal times of admission, the order in which the runs write the key is not determined.
    if len({final["accepted_at"] for final in finals}) == len(finals):
        wanted = combined(policy, finals)
        found = await _session_value(world)
        if found != wanted:
            world.observer.violated(f"the session has {found} under {policy}, expected {wanted}")
    context = await load_context(MemoryStore(world.server), world.settings.names, SESSION)
    if context.dropped:
        return
    written = [(each.change.run_id, each.change.key) for each in context.versions]
    plain = [
        (final["run_id"], key)
        for final, account in zip(finals, accounts, strict=True)
        for key in final["results"]
        if key == SHARED or (key in account.expected.values if account.expected else False)
    ]
    if _are_exact(accounts) and sorted(written) != sorted(plain):
        world.observer.violated(f"the session's versions are {sorted(written)}, expected {sorted(plain)}")


def _are_exact(accounts: list[Account]) -> bool:
    return all(each.expected is not None and each.expected.is_exact for each in accounts)


async def _session_value(world: World) -> Any:
    return await public_value(MemoryStore(world.server), world.settings.names, SESSION, SHARED)


def _check_store(world: World, final: Mapping[str, Any]) -> None:
    """Check that published results and the tombstone are in the store, whatever the store has lost meanwhile."""
    for key in final["results"] if final["status"] == "completed" else ():
        if world.server.get(session_key(final["session_id"], key)) is None:
            world.observer.violated(f"{final['run_id']} ({final['request_id']}): {key!r} is not in the store")
    if world.server.get(world.settings.names.tombstone(final["run_id"])) is None:
        world.observer.violated(f"{final['run_id']} ({final['request_id']}): its end is not in the store")


def _problems(
    account: Account, final: Mapping[str, Any], results: Mapping[str, Any], *, may_be_lost: bool
) -> Sequence[str]:
    """What is wrong with a final record, compared with the expected outcome of the body that fits best."""
    if account.may_end_again and final["status"] == "failed":
        return []
    found = [list(_differences(each, final, results, may_be_lost)) for each in account.variants]
    return min(found, key=len)


LOST = frozenset(("RunLost", "StopUnanswered"))
"""Error types of a run whose records the log has lost."""


def _differences(
    expected: Expected, final: Mapping[str, Any], results: Mapping[str, Any], may_be_lost: bool
) -> Iterator[str]:
    if expected.skips_values:
        return
    may_be_short = "timeout" in expected.request or "deadline" in expected.request
    is_lost = may_be_lost and any(each["error_type"] in LOST for each in final["failures"])
    is_cut = may_be_short and (is_lost or final["status"] in ("timed_out", "cancelled"))
    if is_cut or not (expected.is_exact or (may_be_short and final["status"] == "completed")):
        # Contributions to the shared key from before the end may be compatible although all of them are not.
        unknown = results.keys() - expected.results.keys() - ({SHARED} if expected.writers else set())
        if unknown:
            yield f"it has results that no task produces: {sorted(unknown)}"
        return
    if final["status"] != expected.status:
        yield f"it ended {final['status']}, expected {expected.status}: {final['failures'][:3]}"
    for key in sorted(results.keys() | expected.results.keys()):
        found, wanted = results.get(key, "nothing"), expected.results.get(key, expected.loose.get(key, "nothing"))
        is_unchecked = key in expected.unchecked and "nothing" not in (found, wanted)
        if found is not _GONE and found != wanted and not is_unchecked:
            yield f"{key!r} is {found}, expected {wanted}"
    yield from loose_differences(expected, results)
    if not 0 <= final["failure_count"] - expected.failed <= expected.may_fail:
        yield f"{final['failure_count']} failures, expected {expected.failed}: {final['failures'][:3]}"
    if final["handled_failures"] != expected.handled:
        yield f"{final['handled_failures']} failures were handled, expected {expected.handled}"
    completed = expected.completed + len(results.keys() & expected.loose.keys())
    if final["executions"]["completed"] != completed:
        yield f"{final['executions']['completed']} members completed, expected {completed}"


_GONE: Any = object()


async def _resolved(
    world: World, account: Account, results: Mapping[str, Any], *, may_be_gone: bool = False
) -> dict[str, Any]:
    """Results with references resolved. Values that the store has lost since the end are `_GONE`, as are values of
    an earlier admission, which the last one has overwritten."""
    store = MemoryStore(world.server)
    found: dict[str, Any] = {}
    within = account.session_id or account.finals[0]["run_id"]
    for key, value in results.items():
        found[key] = value
        if is_reference(value, within) and may_be_gone:
            found[key] = _GONE
        elif is_reference(value, within):
            try:
                found[key] = await resolve(store, world.settings.names, value, within=within)
            except AnabranchError as gone:
                found[key] = _GONE
                if world.lost_at < account.ended_at and world.keeps_results:
                    world.observer.violated(f"the value of {key!r} is missing: {gone}")
    return found


# --- leftovers ---------------------------------------------------------------------------------------


def uncleaned(world: World) -> list[str]:
    """Everything that is still held although every run has ended."""
    names = world.settings.names
    found = [each for process in world.processes for each in _held(process)]
    for group, topic in (
        (names.agency_requests, names.requests),
        (names.agency_runs, names.runs),
        (names.taskgroup_groups, names.groups),
        (names.taskgroup_tasks, names.tasks()),
    ):
        behind = sum(world.broker.lag(group, topic).values())
        if behind:
            found.append(f"{behind} records of {topic} are not committed")
    if world.platform is not None:
        found += world.platform.left()
    channels = [channel for channel in world.server.channels if channel.startswith("session:")]
    if channels:
        found.append(f"subscriptions to {channels}")
    horizon = world.clock.now() + LONGEST_SECONDS
    tags = [
        f"{{{tag}}}" for run_id, account in world.observer.accounts.items() for tag in (run_id, account.session_id)
    ]
    eternal = [
        key
        for key, expires in world.server.keys().items()
        if expires > horizon and any(tag in key for tag in tags)
    ]
    if eternal:
        found.append(f"keys that do not expire: {eternal[:3]}")
    return found


def _held(process: Any) -> Iterator[str]:
    """What a process still holds of runs. Reads private state of the service: a leak is not visible otherwise."""
    incarnation = process.incarnation
    if incarnation is None or not incarnation.is_started or not incarnation.gate.is_open:
        yield f"{process.name} is not running"
        return
    service = incarnation.service
    if process.kind == "eventmanager":
        if service.projector.open_runs():
            yield f"{process.name} sees {service.projector.open_runs()} open runs"
        return
    owner = service._owner
    if not owner.is_caught_up:
        yield f"{process.name} has not caught up"
    for number, state in owner.states.items():
        if state.runs:
            yield f"{process.name} has open runs in partition {number}: {list(state.runs)}"
        for address in getattr(state, "addresses", {}).values():
            if found := [place for place, _ in address.waits()]:
                yield f"{process.name} has open waits for events: {found}"
        for limit in getattr(state, "limits", {}).values():
            if limit.holders or limit.wishes:
                yield f"{process.name} has a limit in use: {limit.rule.name}, {limit.holders}, {limit.wishes}"
    if process.kind == "taskgroup":
        yield from _worker_held(process.name, service)


def _worker_held(name: str, service: Any) -> Iterator[str]:
    if service._worker.held:
        yield f"{name} holds chunks: {service._worker.held_keys}"
    if service._handler.watcher._waiting:
        yield f"{name} watches keys: {list(service._handler.watcher._waiting)}"
