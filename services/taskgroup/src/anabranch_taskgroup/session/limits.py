"""Asks for grants of the limits that runs share, and gives back what is not needed any more. Pure.

A chunk of a task with limits is not offered before each of them has granted it. What a task holds follows from its
chunks: after each message about it, what is held for a delivery that is not under way is given back. So no ending
of a member has to think of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from anabranch.core.lanes import number_of
from anabranch.core.ranges import Ranges
from anabranch.core.request.limits import Breaker
from anabranch.core.wire.messages import (
    CheckGrant,
    GrantAnswer,
    GrantHolder,
    HoldLimit,
    MemberFailed,
    ReturnGrant,
    WantGrant,
)
from anabranch_taskgroup.session.budgets import affordable, reserve
from anabranch_taskgroup.session.dead_letters import fail_without_attempt
from anabranch_taskgroup.session.known_runs import open_run
from anabranch_taskgroup.session.levels import priority_at
from anabranch_taskgroup.session.limit_keys import LimitUse, name_of, names_in, uses_of
from anabranch_taskgroup.session.limit_returns import holder_of, outcome_of
from anabranch_taskgroup.session.limit_state import LimitHolding, LimitWish, TaskLimits
from anabranch_taskgroup.session.raising import watch_deadline
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import OfferChunk, Turn

MAX_WISHES = 8
"""Open wishes of a task at most: the chunks that it would offer next."""
SHARES = 8
"""A chunk asks for at most such a part of the places of a key, so that several workers share them."""
REFUSED = "ConcurrencyLimit"
"""The error type of members that found their key full."""
_HELD_FIRST = ("rate", "concurrency", "breaker")
"""The kind of limit that an agent has wait, the first one that its task has."""
BREAKER_OPEN = "BreakerOpen"
"""That of members that found the breaker of their agent open, if it says `on_open: fail`."""


def schedule_limited(turn: Turn, run: Run, task: Task, cut: Callable[[], Chunk | None]) -> None:
    """Give back what is not needed any more, and ask for the chunks that would be offered next.

    Args:
        cut: the next chunk; None if there is none, or the limits of task and group have no room.
    """
    assert task.limits is not None
    _give_back(turn, run, task, task.limits)
    uses = uses_of(run, task)
    while task.state is TaskState.RUNNING and _may_ask(task.limits, uses):
        chunk = cut()
        if chunk is None:
            return
        _split_by_key(run, task, uses, chunk)
        _ask(turn, run, task, chunk, 0, turn.at)


def _may_ask(limits: TaskLimits, uses: tuple[LimitUse, ...]) -> bool:
    """True if one more chunk should ask: more than the keys have places for would only wait."""
    if not limits.wishes:
        return True
    if len(limits.wishes) >= MAX_WISHES:
        return False
    most = min((use.limit for use in uses if use.kind == "concurrency"), default=None)
    if most is None:
        return True
    # With several keys, a chunk that runs holds a place of each.
    held: Counter[str] = Counter()
    for each in limits.holdings.values():
        if each.kind == "concurrency":
            held[each.address] += each.amount
    return max(held.values(), default=0) + limits.waiting_members < most


def _split_by_key(run: Run, task: Task, uses: tuple[LimitUse, ...], chunk: Chunk) -> None:
    """Leave members in a chunk whose keys are the same, and queue the others."""
    if len(chunk.pending) < 2:
        return
    indexes = list(chunk.pending.indexes())
    same = len(indexes)
    for use in uses:
        names = [name for start, stop in chunk.pending for name in names_in(run, task, use, start, stop)]
        same = min(same, next((at for at, name in enumerate(names) if name != names[0]), same))
    if same < len(indexes):
        rest = split_off(task, chunk, chunk.pending.difference(Ranges((i, i + 1) for i in indexes[:same])))
        task.requeued.insert(0, rest)


def split_off(task: Task, chunk: Chunk, members: Ranges) -> Chunk:
    """A new chunk of some members of one that is not offered."""
    number, task.chunk_count = task.chunk_count, task.chunk_count + 1
    chunk.pending = chunk.pending.difference(members)
    chunk.size, chunk.charge = len(chunk.pending), min(chunk.charge, len(chunk.pending))
    attempts = {index: made for index, made in chunk.attempts.items() if index in members}
    return Chunk(
        number,
        members,
        min(chunk.charge, len(members)),
        task.first_fence,
        attempts=attempts,
        size=len(members),
        mode=chunk.mode,
        is_looked=chunk.is_looked,
    )


# --- wishes --------------------------------------------------------------------------------------


def _ask(turn: Turn, run: Run, task: Task, chunk: Chunk, stage: int, since: float) -> None:
    """Ask for a chunk's next grant, or offer it if it has all of them."""
    assert task.limits is not None
    uses = uses_of(run, task)
    if stage == len(uses):
        group = run.groups[task.group]
        if run.has_budgets and affordable(turn, run, group, task) < len(chunk.pending):
            # As in a pause: the place is given back, and the members ask again if the budget lets them.
            task.requeued.insert(0, chunk)
            return
        task.add_offered(chunk)
        if run.has_budgets:
            reserve(turn, run, group, task, chunk)
        chunk.offered_at = turn.at
        turn.effects.append(OfferChunk(run.run_id, task.group, task.name, chunk.number))
        if run.due_at is not None:
            watch_deadline(turn, run)
        return
    use = uses[stage]
    amount = len(chunk.pending)
    if use.kind == "concurrency":
        amount = min(amount, chunk.charge, -(-use.limit // SHARES))
        chunk.charge = amount
    number, task.limits.count = task.limits.count, task.limits.count + 1
    name = name_of(run, task, use, next(chunk.pending.indexes()))
    task.limits.wishes[number] = wish = LimitWish(chunk, stage, use.address(run, name), amount, since)
    turn.publish(turn.config.names.runs, wish.address, _wanted(run, task, number, wish))


def _wanted(run: Run, task: Task, number: int, wish: LimitWish) -> WantGrant:
    use = uses_of(run, task)[wish.stage]
    return WantGrant(
        run_id=wish.address,
        rule=use.rule(run, name_of(run, task, use, next(wish.chunk.pending.indexes()))),
        holder=holder_of(run, task),
        number=number,
        amount=wish.amount,
        since=wish.since,
        level=number_of(priority_at(run, task, wish.since)),
    )


def repetitions(run: Run, task: Task) -> Iterator[WantGrant]:
    """The open wishes of a task, and what it holds, for the owners of the limits: a new owner repeats them."""
    if task.limits is None:
        return
    for number, wish in task.limits.wishes.items():
        yield _wanted(run, task, number, wish)
    for number, holding in task.limits.holdings.items():
        yield _held(run, task, number, holding)


def _held(run: Run, task: Task, number: int, holding: LimitHolding) -> WantGrant:
    chunk = task.chunks.get(holding.chunk)
    index = next(chunk.pending.indexes(), 0) if chunk is not None else 0
    named = [(each, name_of(run, task, each, index)) for each in uses_of(run, task) if each.kind == holding.kind]
    use, name = next((each for each in named if each[0].address(run, each[1]) == holding.address), named[0])
    return WantGrant(
        run_id=holding.address,
        rule=use.rule(run, name),
        holder=holder_of(run, task),
        number=number,
        amount=holding.amount,
        since=holding.since,
        held=holding.amount,
    )


# --- answers -------------------------------------------------------------------------------------


def grant_received(turn: Turn, message: GrantAnswer) -> tuple[Run, Group, Task] | None:
    """Apply the answer to a wish. Returns the step if that has changed it. What is granted and not needed is given
    back at once."""
    found = _task_of(turn, message)
    if found is None:
        turn.partition.drop("grant for a task that is not open")
        _return(turn, message)
        return None
    run, _, task = found
    assert task.limits is not None
    wish = task.limits.wishes.get(message.number)
    if message.verdict in ("revoked", "replaced"):
        return found if wish is not None or message.number in task.limits.holdings else None
    if wish is None:
        turn.partition.drop("grant known before")
        if message.number not in task.limits.holdings:
            _return(turn, message)
        return None
    if message.verdict == "refused":
        del task.limits.wishes[message.number]
        _refuse(turn, run, task, wish.chunk, message)
        return found
    count = message.amount - wish.granted
    if count <= 0:
        turn.partition.drop("grant known before")
        return None
    _take(turn, run, task, message, wish, count)
    return found


def _task_of(turn: Turn, message: GrantAnswer | CheckGrant) -> tuple[Run, Group, Task] | None:
    run = open_run(turn, message)
    group = run.groups.get(message.group) if run is not None else None
    task = group.tasks.get(message.task) if group is not None else None
    if run is None or group is None or task is None or task.limits is None:
        return None
    return (run, group, task) if task.iteration == message.iteration else None


def _take(turn: Turn, run: Run, task: Task, message: GrantAnswer, wish: LimitWish, count: int) -> None:
    limits, number = task.limits, message.number
    assert limits is not None
    if message.kind != "concurrency" and count < len(wish.chunk.pending):
        indexes = wish.chunk.pending.indexes()
        part = split_off(task, wish.chunk, Ranges((i, i + 1) for i, _ in zip(indexes, range(count), strict=False)))
        wish.granted += count
        if message.kind == "breaker":  # each grant ends its wish
            del limits.wishes[number]
            task.requeued.insert(0, wish.chunk)
    else:
        part = wish.chunk
        del limits.wishes[number]
    if message.kind == "concurrency":
        part.charge = min(part.charge, count)
    if message.kind != "rate":
        held = LimitHolding(wish.address, count, part.number, part.fence, turn.at, message.kind)
        limits.holdings[number] = held
    if run.paused:
        # The place is given back, as the chunk is not offered; it asks again once the run is resumed.
        task.requeued.insert(0, part)
    else:
        _ask(turn, run, task, part, wish.stage + 1, wish.since)


def _refuse(turn: Turn, run: Run, task: Task, chunk: Chunk, message: GrantAnswer) -> None:
    error_type = BREAKER_OPEN if message.kind == "breaker" else REFUSED
    for index in chunk.pending.indexes():
        attempts = chunk.attempts.get(index, 0)
        failed = MemberFailed(index=index, error_type=error_type, message=message.because, attempts=attempts)
        fail_without_attempt(turn, run, task, failed)


def grant_checked(turn: Turn, message: CheckGrant) -> None:
    """Answer the owner of a limit that asks about wishes and places: each is repeated, or given back."""
    found = _task_of(turn, message)
    if found is None:
        for number in message.numbers:
            _return(turn, message, number)
        return
    run, _, task = found
    assert task.limits is not None
    for number in message.numbers:
        if (wish := task.limits.wishes.get(number)) is not None:
            turn.publish(turn.config.names.runs, message.address, _wanted(run, task, number, wish))
        elif (holding := task.limits.holdings.get(number)) is not None:
            turn.publish(turn.config.names.runs, message.address, _held(run, task, number, holding))
        else:
            _return(turn, message, number)


def hold_key(turn: Turn, run: Run, task: Task, index: int, until: float) -> None:
    """Have all wait that share the rate of a task with a member, else its key, else the breaker of its agent. The
    limit of a project is none that an agent may hold."""
    uses = [use for use in uses_of(run, task) if use.scope != "project"]
    if not uses:
        return
    use = min(uses, key=lambda each: _HELD_FIRST.index(each.kind))
    name = name_of(run, task, use, index)
    address = use.address(run, name)
    message = HoldLimit(run_id=address, rule=use.rule(run, name), until=until)
    turn.publish(turn.config.names.runs, address, message)


# --- returns -------------------------------------------------------------------------------------


def _give_back(turn: Turn, run: Run, task: Task, limits: TaskLimits) -> None:
    for number, holding in list(limits.holdings.items()):
        chunk = _holding_chunk(task, limits, holding)
        needed = 0 if chunk is None else min(holding.amount, len(chunk.pending))
        if chunk is not None and holding.kind == "concurrency":
            # A further key may have granted fewer places.
            needed = min(needed, chunk.charge)
        if needed == holding.amount and not holding.has_news:
            continue
        holding.amount, holding.has_news = needed, False
        if not needed:
            del limits.holdings[number]
        message = outcome_of(run, task, number, holding, left=needed)
        turn.publish(turn.config.names.runs, holding.address, message)


def _holding_chunk(task: Task, limits: TaskLimits, holding: LimitHolding) -> Chunk | None:
    """The chunk that holds a grant: it is under way, or waits for a further one."""
    waiting = (wish.chunk for wish in limits.wishes.values() if wish.chunk.number == holding.chunk)
    chunk = task.chunks.get(holding.chunk) or next(waiting, None)
    return chunk if chunk is not None and chunk.fence == holding.fence else None


def note_outcomes(task: Task, chunk: Chunk, passed: int, failed: int) -> None:
    """Count attempts of an agent with a breaker."""
    assert task.limits is not None
    for holding in task.limits.holdings.values():
        if holding.kind == "breaker" and (holding.chunk, holding.fence) == (chunk.number, chunk.fence):
            holding.passed += passed
            holding.failed += failed
            holding.has_news = holding.has_news or failed > 0


def learn_breaker(run: Run, agent: str, breaker: Breaker) -> None:
    """A worker has returned members of an agent that declares a breaker: all of its members ask it from now on."""
    run.breakers[agent] = breaker
    for group in run.groups.values():
        for task in group.tasks.values():
            if task.order.agent == agent and task.limits is None and task.state is TaskState.RUNNING:
                task.limits = TaskLimits()


def _return(turn: Turn, message: GrantAnswer | CheckGrant, number: int | None = None) -> None:
    """Give back what a task that does not need it was granted."""
    holder = GrantHolder(
        run_id=message.run_id,
        session_id=message.session_id,
        admission=message.admission or 0,
        group=message.group,
        task=message.task,
        iteration=message.iteration,
    )
    if number is None:
        assert isinstance(message, GrantAnswer)
        number = message.number
    back = ReturnGrant(run_id=message.address, holder=holder, number=number)
    turn.publish(turn.config.names.runs, message.address, back)
