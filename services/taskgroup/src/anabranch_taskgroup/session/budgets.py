"""How many members of a task may start within the budgets of the task, its group and its run. Pure.

What a member is expected to use is reserved when it is offered, and given back as it spends: by its task's
`estimate`, else by the mean of the members that have ended. Before the first one has ended, a few members may
start that are not reserved for. So a budget is exceeded by what members use beyond that, and by no member that
starts after it was used up.
"""

from __future__ import annotations

from typing import NamedTuple

from anabranch.core.costs import NO_COSTS, seconds_of, usd_of
from anabranch.core.request.budget_fields import Limit
from anabranch.core.wire.messages import Failure
from anabranch_taskgroup.session.budget_state import Amounts, Budget, minus, plus, times
from anabranch_taskgroup.session.spending import costs_of
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import Turn

EXCEEDED = "BudgetExceeded"
PROBE = 10
"""Members of a task that start before it is known what one uses."""
MANY = 1_000_000_000
"""More members than any task has."""
KINDS = ("usd", "tokens", "seconds", "executions")
"""The kinds of amounts, in the order of `core.costs.Costs`."""
EXECUTIONS = KINDS.index("executions")


class Refusal(NamedTuple):
    """The budget that lets no further member start, and the kind of amount.

    `is_final`: nothing that is reserved can come back, so none of the members will start. `is_probe`: it is not
    known yet what a member uses.
    """

    budget: Budget
    kind: int
    share: int
    is_final: bool
    is_probe: bool = False


class Allowance(NamedTuple):
    """How many members of a task may start, what is reserved for each of them, and what allows no more."""

    members: int
    share: Amounts
    refusal: Refusal | None
    limited: tuple[bool, bool, bool, bool]
    """The kinds that a budget limits."""

    @property
    def limit_of_child(self) -> Limit:
        """The budget of a sub-run that starts with this allowance."""
        first, second, third, fourth = (
            amount if is_limited else None for amount, is_limited in zip(self.share, self.limited, strict=True)
        )
        return first, second, third, fourth


def budgets_of(run: Run, group: Group, task: Task) -> list[Budget]:
    """The budgets that a task counts against. The groups of the run's end have to run, whatever was spent."""
    found = [task.budget] if group.is_ending else [task.budget, group.budget, run.budget]
    return [budget for budget in found if budget is not None]


def is_exhausted(run: Run, group: Group) -> bool:
    """True if the budget of a group, or of its run, is exceeded: nothing that is not under way starts any more."""
    if group.is_ending:
        return False
    return any(budget is not None and budget.is_exceeded for budget in (group.budget, run.budget))


# --- starting ------------------------------------------------------------------------------------


def allowance(run: Run, group: Group, task: Task, wanted: int) -> Allowance:
    """How many of `wanted` members may start."""
    budgets = budgets_of(run, group, task)
    shares, limited = list(NO_COSTS), [False] * len(KINDS)
    count, refusal = wanted, None
    for kind in range(len(KINDS)):
        limiting = [budget for budget in budgets if budget.limit[kind] is not None]
        share = _expected(task, kind, limiting)
        shares[kind], limited[kind] = share or 0, bool(limiting)
        for budget in limiting:
            allowed, found = _allowed(task, budget, kind, share)
            if allowed < count:
                count, refusal = allowed, found
    return Allowance(count, _vector(shares), refusal, (limited[0], limited[1], limited[2], limited[3]))


def _allowed(task: Task, budget: Budget, kind: int, share: int | None) -> tuple[int, Refusal]:
    left = (budget.limit[kind] or 0) - budget.spent[kind]
    reserved = budget.reserved[kind]
    refusal = Refusal(budget, kind, share or 0, is_final=left <= 0 or reserved <= 0)
    if left <= 0:
        return 0, refusal
    probing = refusal._replace(is_final=False, is_probe=True)
    if share is None:
        return (0 if task.in_flight else PROBE), probing
    most = MANY if _is_estimated(task, kind) else _unproven(task)
    allowed = max(0, (left - reserved) // share) if share else MANY
    if most < allowed:
        return most, probing
    # Less than a mean member is left, and nothing is under way: one more may use the rest.
    if not allowed and reserved <= 0 and not _is_estimated(task, kind):
        return 1, refusal
    return allowed, refusal


def _unproven(task: Task) -> int:
    """How many further members of a task without an estimate may start: no more are under way than have ended, so
    that the first members that use much are found out before thousands of them have started."""
    if not task.in_flight:
        return max(PROBE, _ended(task))
    return max(0, max(PROBE, _ended(task)) - (task.cursor - task.ended))


def _ended(task: Task) -> int:
    """Members that have ended and were called, in all iterations."""
    return task.priced + task.ended - task.imported_count - task.cached


def _is_estimated(task: Task, kind: int) -> bool:
    estimate = task.order.estimate
    return kind == EXECUTIONS or task.children is not None or (estimate is not None and estimate[kind] is not None)


def _expected(task: Task, kind: int, limiting: list[Budget]) -> int | None:
    """What a member uses, as far as it is known; None if it is not."""
    estimate = task.order.estimate
    if task.children is not None:
        if estimate is not None and estimate[kind] is not None:
            return estimate[kind]
        return _share_of_child(task, kind, limiting)
    if kind == EXECUTIONS:
        return 1
    if estimate is not None and estimate[kind] is not None:
        return estimate[kind]
    ended = _ended(task)
    return -(-costs_of(task)[kind] // ended) if ended > 0 else None


def _share_of_child(task: Task, kind: int, limiting: list[Budget]) -> int:
    """The budget of a sub-run without an estimate: what is left, divided among those that have not started."""
    if not limiting:
        return 0
    waiting = task.total - task.cursor + sum([len(chunk.pending) for chunk in task.requeued])
    free = min([(each.limit[kind] or 0) - each.spent[kind] - each.reserved[kind] for each in limiting])
    return max(1, free // max(1, waiting))


def _vector(amounts: list[int]) -> Amounts:
    return amounts[0], amounts[1], amounts[2], amounts[3]


def starve(turn: Turn, run: Run, group: Group, task: Task, refusal: Refusal | None) -> None:
    """No further member of a task may start now. `lifecycle.settle` asks again, or ends the task."""
    if refusal is None or not refusal.is_probe:  # else its own members tell what one uses
        run.starved.setdefault((group.name, task.name), turn.at)
        wake(turn, run)


def wake(turn: Turn, run: Run) -> None:
    """Have `lifecycle.settle` ask again which members may start."""
    if run.starved and run not in turn.waking:
        turn.waking.append(run)


# --- reserving and spending ----------------------------------------------------------------------


def affordable(turn: Turn, run: Run, group: Group, task: Task) -> int:
    """How many further members of a task may start now. If none may, it is among those that wait for a budget."""
    allowed = allowance(run, group, task, MANY)
    if allowed.members <= 0:
        starve(turn, run, group, task, allowed.refusal)
    return allowed.members


def reserve(turn: Turn, run: Run, group: Group, task: Task, chunk: Chunk) -> None:
    """Reserve what the members of a chunk are expected to use, which is about to be offered."""
    chunk.share = allowance(run, group, task, MANY).share
    hold(task, chunk)
    settle_costs(turn, run, group, task)


def hold(task: Task, chunk: Chunk) -> None:
    """Reserve as much for a chunk as its members may still use that have not ended."""
    held = _held(chunk) if chunk.number in task.chunks else NO_COSTS
    task.reserved = plus(task.reserved, minus(held, chunk.reserved))
    chunk.reserved = held


def _held(chunk: Chunk) -> Amounts:
    nanos, tokens, micros, _ = times(chunk.share, len(chunk.pending))
    used: dict[int, tuple[int, int]] = {}
    for (index, _), (spent, count) in chunk.spent.items():
        known = used.get(index, (0, 0))
        used[index] = known[0] + spent, known[1] + count
    for index, (spent, count) in used.items():
        if index in chunk.pending:
            nanos -= min(spent, chunk.share[0])
            tokens -= min(count, chunk.share[1])
    return nanos, tokens, micros, len(chunk.pending.difference(chunk.begun)) * chunk.share[3]


def reserve_for_child(turn: Turn, run: Run, group: Group, task: Task, index: int, allowed: Allowance) -> None:
    """Reserve the budget of a sub-run, which is about to be requested."""
    task.child_limits[index] = allowed.limit_of_child
    task.reserved = plus(task.reserved, _amounts(allowed.limit_of_child))
    settle_costs(turn, run, group, task)


def release_child(task: Task, index: int) -> None:
    """Give back the budget of a sub-run that is no longer open."""
    limit = task.child_limits.pop(index, None)
    if limit is not None:
        task.reserved = minus(task.reserved, _amounts(limit))


def _amounts(limit: Limit) -> Amounts:
    return limit[0] or 0, limit[1] or 0, limit[2] or 0, limit[3] or 0


def settle_costs(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """Count what a task has used and reserved, since the last call, against its budgets."""
    used = plus(costs_of(task), NO_COSTS)  # a plain tuple, as snapshots write it
    if used == task.charged and task.reserved == task.counted:
        return
    spent, change = minus(used, task.charged), minus(task.reserved, task.counted)
    task.charged, task.counted = used, task.reserved
    for budget in budgets_of(run, group, task):
        budget.spent, budget.reserved = plus(budget.spent, spent), plus(budget.reserved, change)
        kinds = [
            kind for kind, limit in enumerate(budget.limit) if limit is not None and budget.spent[kind] > limit
        ]
        if kinds and not budget.is_exceeded:
            note_exceeded(turn, run, group, task, Refusal(budget, kinds[0], 0, is_final=True))
    if min(change) < 0 or max(spent) > 0:
        wake(turn, run)


def note_exceeded(turn: Turn, run: Run, group: Group, task: Task, refusal: Refusal) -> None:
    """A budget is exceeded, or lets no further member start: its group fails, whatever becomes of its tasks."""
    refusal.budget.is_exceeded = True
    if refusal.budget is not task.budget:
        turn.exhausted.append((run, None if refusal.budget is run.budget else group))
    failure = Failure(
        group=group.name,
        task=task.name,
        error_type=EXCEEDED,
        message=why(run, group, task, refusal),
        iteration=task.iteration or None,
    )
    group.conflicts.append(failure)


# --- for people ----------------------------------------------------------------------------------


def why(run: Run, group: Group, task: Task, refusal: Refusal) -> str:
    """Why a budget lets no further member start."""
    budget, kind, share, _, _ = refusal
    whose = (
        f"task {group.name}/{task.name}"
        if budget is task.budget
        else f"group {group.name!r}"
        if budget is group.budget
        else "the run"
    )
    limit, spent, reserved = budget.limit[kind] or 0, budget.spent[kind], budget.reserved[kind]
    text = f"the budget of {whose} is {amount(kind, limit)} (spent: {amount(kind, spent)}"
    if spent >= limit:
        return f"{text})"
    if reserved > 0:
        text += f", reserved for members under way: {amount(kind, reserved)}"
    return f"{text}); the next member is expected to use {amount(kind, share)}"


def refused_by(run: Run, group: Group, task: Task) -> str | None:
    """Why no further member of a task may start now; None if one may."""
    refusal = allowance(run, group, task, 1).refusal
    return None if refusal is None else why(run, group, task, refusal)


def amount(kind: int, value: int) -> str:
    """An amount for people: `$0.042`, `1,200 tokens`, `3.5 s`, `10 executions`."""
    if kind == 0:
        return f"${usd_of(value):,.10g}"
    if KINDS[kind] == "seconds":
        return f"{seconds_of(value):,.10g} s"
    noun = KINDS[kind].removesuffix("s")
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"
