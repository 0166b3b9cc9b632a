"""Broken mechanisms of conditions and branches, for `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch_taskgroup.owner import handler
from anabranch_taskgroup.session import endings, lifecycle, signals
from anabranch_taskgroup.session.state import Absent
from anabranch_taskgroup.session.turn import JudgeConditions


def judges_early(original: Callable[..., Any]) -> Callable[..., Any]:
    """A condition is evaluated although its fields are not settled."""

    def begin_or_skip(turn: Any, run: Any, task: Any) -> None:
        if task.order.when is not None:
            task.missing.clear()
        original(turn, run, task)

    return begin_or_skip


def judges_again(original: Callable[..., Any]) -> Callable[..., Any]:
    """Each answer of the shell decides twice about a step that begins with the first one."""

    def take_judgement(turn: Any, step: Any, message: Any) -> None:
        original(turn, step, message)
        if not step.task.is_over:
            step.task.judging = message.purpose
            original(turn, step, message)

    return take_judgement


def takes_every_branch(original: Callable[..., Any]) -> Callable[..., Any]:
    """The tasks of each case run."""

    def other_branch(run: Any, task: Any) -> None:
        return None

    return other_branch


def first_absence(original: Callable[..., Any]) -> Callable[..., Any]:
    """A key of several producers is absent as soon as one of them has ended without a value."""

    def set_key(turn: Any, run: Any, scope: Any, key: str, value: Any) -> None:
        scope.alternatives.pop(key, None)
        original(turn, run, scope, key, value)

    return set_key


def never_decides(original: Callable[..., Any]) -> Callable[..., Any]:
    """No task decides its group."""

    def decision_of(group: Any, task: Any) -> None:
        return None

    return decision_of


def forgets_questions(original: Callable[..., Any]) -> Callable[..., Any]:
    """A new owner does not ask the shell again for conditions over stored values."""

    def derive(run: Any) -> Any:
        return (effect for effect in original(run) if not isinstance(effect, JudgeConditions))

    return derive


def fails_anyway(original: Callable[..., Any]) -> Callable[..., Any]:
    """The failure of a task has no value."""

    def publish_error(*given: Any) -> Any:
        return Absent("the failure is lost")

    return publish_error


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "condition-early": (
        "a condition is evaluated before the last of its fields is settled",
        lifecycle,
        "_begin_or_skip",
        judges_early,
    ),
    "condition-again": (
        "a condition is evaluated twice",
        signals,
        "take_judgement",
        judges_again,
    ),
    "two-cases": ("all cases of a switch run", lifecycle, "other_branch", takes_every_branch),
    "absent-early": (
        "a key is absent at the first producer's end without a value",
        endings,
        "set_key",
        first_absence,
    ),
    "no-winner": ("a race has no end before its last task", lifecycle, "decision_of", never_decides),
    "unasked": (
        "conditions over stored values are not evaluated again by a new owner",
        handler,
        "derive",
        forgets_questions,
    ),
    "lost-error": ("the value of an error_key is lost", endings, "_publish_error", fails_anyway),
}
"""By name: the wrong behaviour, the module and its function that is replaced, and what makes the replacement."""
