"""The outline of what controls a task: its conditions, the tasks that it comes after, its branch, its loop. Pure.

Part of `outline`: only a task with such a field has one. Tolerant, as the outline is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

from anabranch.core.conditions import InvalidCondition, fields_of, normalized
from anabranch.core.request.envelope import Path
from anabranch.core.request.models import TaskSpec
from anabranch.core.request.task_spelling import KINDS, split_optional


class Declared(NamedTuple):
    """A name or key, with its path in the request."""

    text: str
    path: Path


Mode = Literal["completed", "ended", "not_failed"]
"""How a task has to end before another one begins, which is skipped otherwise."""


class Target(NamedTuple):
    """Another task that a task names, as (group, task)."""

    group: str
    task: str
    mode: Mode
    path: Path


class BranchOutline(NamedTuple):
    """The case of a switch that a task belongs to."""

    switch: Target
    case: int


@dataclass(slots=True)
class FlowOutline:
    """What controls one task.

    Attributes:
        when: its condition in the data form; None if it has none, or an unreadable one.
        cases: the conditions of its switch, with null for an unreadable one.
        fields: the paths that its conditions read and that have to be settled before it begins. Those of a loop's
            condition may be keys of the loop's body.
        after: the tasks that it waits for.
        in_loop: the task of its group that repeats it.
        repeats: the task has a `loop`.
        error_key: the key that has a value if the task fails.
        each: the path of the list that its loop goes through.
        states: the names that its loop keeps from one iteration to the next.
        compensation: the agent that undoes it.
        is_final: it is one of the tasks in `finally`.
    """

    kind: str
    when: Any
    cases: tuple[Any, ...]
    fields: tuple[Declared, ...]
    after: tuple[Target, ...]
    branch: BranchOutline | None
    in_loop: Declared | None
    repeats: bool
    error_key: Declared | None
    each: Declared | None
    states: tuple[Declared, ...]
    compensation: Declared | None
    is_final: bool

    @property
    def arrays(self) -> tuple[Declared, ...]:
        return () if self.each is None else (self.each,)

    @property
    def produces(self) -> tuple[Declared, ...]:
        return () if self.error_key is None else (self.error_key,)

    @property
    def targets(self) -> Iterator[Target]:
        """All tasks that it names."""
        yield from self.after
        if self.branch is not None:
            yield self.branch.switch


FIELDS: Final = frozenset(
    {"when", "after", "follows", "error_key", "branch", "in_loop", "compensate", *KINDS} - {"agent"}
)
"""The fields of a task of which an outline is made."""


def flow_outline(task: Mapping[str, Any], group: str, path: Path, is_final: bool = False) -> FlowOutline | None:
    """The outline of a task's document; None if it has none of the fields, and is not in `finally`."""
    if not is_final and FIELDS.isdisjoint(task):
        return None
    loop = _mapping(task.get("loop"))
    error_key, each = task.get("error_key"), loop.get("each")
    in_loop, undoing = task.get("in_loop"), _mapping(task.get("compensate")).get("agent")
    return FlowOutline(
        kind=next((kind for kind in KINDS[1:] if task.get(kind) is not None), "task"),
        when=_condition(task.get("when")),
        cases=tuple(_condition(case) for case in _cases(task)),
        fields=tuple(_fields(task, loop, path)),
        after=tuple(_after(task, group, path)),
        branch=_branch(_mapping(task.get("branch")), group, (*path, "branch", "switch")),
        in_loop=Declared(in_loop, (*path, "in_loop")) if isinstance(in_loop, str) else None,
        repeats=task.get("loop") is not None,
        error_key=Declared(error_key, (*path, "error_key")) if isinstance(error_key, str) else None,
        each=Declared(each, (*path, "loop", "each")) if isinstance(each, str) else None,
        states=tuple(Declared(name, (*path, "loop", "state", name)) for name in _mapping(loop.get("state"))),
        compensation=Declared(undoing, (*path, "compensate", "agent")) if isinstance(undoing, str) else None,
        is_final=is_final,
    )


def flow_outline_of(task: TaskSpec, group: str, is_final: bool = False) -> FlowOutline | None:
    """The same of a valid task, without paths."""
    # The set itself: the property of the same content is a Python call for each task of each request.
    if not is_final and FIELDS.isdisjoint(task.__pydantic_fields_set__):
        return None
    found = flow_outline(task.to_document(), group, (), is_final)
    return found and without_paths(found)


def without_paths(flow: FlowOutline) -> FlowOutline:
    """A copy with empty paths."""
    branch = flow.branch
    return replace(
        flow,
        fields=tuple(Declared(field.text, ()) for field in flow.fields),
        after=tuple(target._replace(path=()) for target in flow.after),
        branch=branch and branch._replace(switch=branch.switch._replace(path=())),
        in_loop=flow.in_loop and Declared(flow.in_loop.text, ()),
        error_key=flow.error_key and Declared(flow.error_key.text, ()),
        each=flow.each and Declared(flow.each.text, ()),
        states=tuple(Declared(state.text, ()) for state in flow.states),
        compensation=flow.compensation and Declared(flow.compensation.text, ()),
    )


def task_named(text: str, group: str) -> tuple[str, str]:
    """Group and name of a task that is written as ``task`` (of this group) or ``group/task``."""
    first, slash, second = text.partition("/")
    return (first, second) if slash else (group, text)


def _after(task: Mapping[str, Any], group: str, path: Path) -> Iterator[Target]:
    for index, text in _texts(task.get("after")):
        name, is_optional = split_optional(text)
        yield Target(*task_named(name, group), "ended" if is_optional else "completed", (*path, "after", index))
    for index, text in _texts(task.get("follows")):
        yield Target(*task_named(text, group), "not_failed", (*path, "follows", index))


def _branch(branch: Mapping[str, Any], group: str, path: Path) -> BranchOutline | None:
    switch, case = branch.get("switch"), branch.get("case")
    if not isinstance(switch, str) or not isinstance(case, int):
        return None
    return BranchOutline(Target(*task_named(switch, group), "completed", path), case)


def _fields(task: Mapping[str, Any], loop: Mapping[str, Any], path: Path) -> Iterator[Declared]:
    """Each path once: of the task's condition, of the cases of its switch, of the conditions of its loop."""
    conditions: list[tuple[Any, Path]] = [(task.get("when"), (*path, "when"))]
    conditions += [(case, (*path, "switch", "cases", index)) for index, case in enumerate(_cases(task))]
    conditions += [(loop.get(name), (*path, "loop", name)) for name in ("while", "until")]
    seen: set[str] = set()
    for condition, place in conditions:
        read = _condition(condition)
        for field in fields_of(read) if read is not None else ():
            if field not in seen:
                seen.add(field)
                yield Declared(field, place)


def _cases(task: Mapping[str, Any]) -> Sequence[Any]:
    cases = _mapping(task.get("switch")).get("cases")
    return cases if isinstance(cases, (list, tuple)) else ()


def _condition(condition: Any) -> Any:
    """The data form; None for an invalid condition, which the check of its field reports."""
    if condition is None:
        return None
    try:
        return normalized(condition)
    except InvalidCondition:
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> Iterable[tuple[int, str]]:
    items = value if isinstance(value, (list, tuple)) else ()
    return ((index, item) for index, item in enumerate(items) if isinstance(item, str))
