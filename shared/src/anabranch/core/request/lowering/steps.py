"""Lowers `steps`: one after another, into the tasks of one group. Pure.

A step begins when the last steps before it in its list have ended, unless one of them failed. It sees the keys of
all steps before it: a key that its templates mention becomes an optional dependency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anabranch.core.errors import Code
from anabranch.core.request.lowering.cases import Case, read_switch, switch_step
from anabranch.core.request.lowering.drafts import (
    MAX_NESTING,
    GroupDraft,
    Names,
    Problems,
    TaskDraft,
    follow,
    unknown_fields,
    with_full_names,
)
from anabranch.core.request.lowering.groups import loop_step
from anabranch.core.request.lowering.mentions import with_mentioned
from anabranch.core.request.sent import Path

GROUP = "steps"
"""The name of the group."""
STRUCTURES = ("parallel", "sequential", "if", "switch", "loop")
"""The fields of steps that contain steps."""
MAX_EDGES = 100
"""If parallel steps wait for more tasks, counted for each of them, one added step waits for these tasks."""


@dataclass(frozen=True, slots=True)
class _Around:
    """What surrounds a list of steps: the loop and the case that its steps belong to, and the keys before it."""

    loop: str | None = None
    branch: tuple[str, int] | None = None
    keys: Mapping[str, None] | None = None
    level: int = 1


@dataclass(frozen=True, slots=True)
class _Ended:
    """What follows a list of steps: the names of its last steps, and all keys that are known after it."""

    last: tuple[str, ...]
    keys: Mapping[str, None]


def lower_steps(steps: Any, path: Path, problems: Problems) -> GroupDraft:
    """The group that a list of steps stands for."""
    lowering = _StepLowering(problems, _names_in(steps))
    if not isinstance(steps, (list, tuple)):
        problems.add(path, "`steps`: must be a list")
    elif not steps:
        problems.add(path, "`steps`: is empty", "give it at least one")
    else:
        lowering.sequence(steps, path, (), _Around(keys={}))
    return GroupDraft({"name": GROUP}, path, path, lowering.tasks)


def _names_in(steps: Any) -> list[str]:
    """All names that users gave to steps, so that no other step gets one of them."""
    found, waiting = [], [steps]
    while waiting:
        at = waiting.pop()
        if isinstance(at, Mapping):
            found += [at["name"]] if isinstance(at.get("name"), str) else []
            waiting += [at[name] for name in _CONTAINERS if name in at]
        elif isinstance(at, (list, tuple)):
            waiting += at
    return found


_CONTAINERS = (*STRUCTURES, "then", "else", "steps", "tasks", "cases", "default")


class _StepLowering:
    def __init__(self, problems: Problems, names: Sequence[str]) -> None:
        self.tasks: list[TaskDraft] = []
        self._problems = problems
        self._names = Names(names)
        self._lower: Mapping[str, Callable[[Mapping[str, Any], Path, tuple[str, ...], _Around], _Ended]] = {
            "parallel": self._parallel,
            "sequential": self._sequential,
            "if": self._if,
            "switch": self._switch,
            "loop": self._loop,
        }

    def sequence(self, steps: Sequence[Any], path: Path, before: tuple[str, ...], around: _Around) -> _Ended:
        """Lower steps that run one after another. The first one follows the tasks in `before`."""
        keys = dict(around.keys or {})
        for number, step in enumerate(steps):
            ended = self._step(step, (*path, number), before, replace(around, keys=keys))
            before, keys = ended.last or before, {**keys, **ended.keys}
        return _Ended(before, keys)

    def _step(self, step: Any, path: Path, before: tuple[str, ...], around: _Around) -> _Ended:
        if around.level > MAX_NESTING:
            message = f"steps are nested deeper than {MAX_NESTING} levels"
            self._problems.add(path, message, "move some into a run of their own", Code.TOO_DEEP)
            return _Ended((), {})
        inside = replace(around, level=around.level + 1)
        if isinstance(step, (list, tuple)):
            return self.sequence(step, path, before, inside)
        if not isinstance(step, Mapping):
            self.tasks.append(TaskDraft(step, path))  # reported by the schema check
            return _Ended((), {})
        given = [name for name in STRUCTURES if step.get(name) is not None]
        if len(given) > 1 or (given and any(step.get(kind) is not None for kind in ("agent", "wait", "run"))):
            kinds = [*given, *(kind for kind in ("agent", "wait", "run") if step.get(kind) is not None)]
            message = f"the step has both `{kinds[0]}` and `{kinds[1]}`"
            self._problems.add(path, message, "make two steps of it")
            return _Ended((), {})
        return (
            self._lower[given[0]](step, path, before, inside) if given else self._task(step, path, before, around)
        )

    # --- tasks ------------------------------------------------------------------------------------

    def _task(self, step: Mapping[str, Any], path: Path, before: tuple[str, ...], around: _Around) -> _Ended:
        document = dict(step)
        if document.get("name") is None and (made := _made_name(document)) is not None:
            document["name"] = self._names.take(*made)
        task = TaskDraft(with_mentioned(document, around.keys or {}, in_loop=around.loop is not None), path)
        return self._add(task, before, around)

    def _add(self, task: TaskDraft, before: tuple[str, ...], around: _Around) -> _Ended:
        """Add a task that follows others, in its loop and its case."""
        with_full_names(task.document, GROUP)
        follow(task, (f"{GROUP}/{name}" for name in before))
        if around.loop is not None:
            task.document["in_loop"] = around.loop
        if around.branch is not None:
            switch, case = around.branch
            task.document["branch"] = {"switch": f"{GROUP}/{switch}", "case": case}
        self.tasks.append(task)
        last = () if task.name is None else (task.name,)
        error_key = task.document.get("error_key")
        keys = [*task.result_keys, *([error_key] if isinstance(error_key, str) else [])]
        return _Ended(last, dict.fromkeys(keys))

    def _named(self, step: Mapping[str, Any], kind: str) -> str:
        name = step.get("name")
        return name if isinstance(name, str) else self._names.take(f"({kind})", f"({kind} {{}})")

    # --- steps that contain steps -----------------------------------------------------------------

    def _sequential(self, step: Mapping[str, Any], path: Path, before: tuple[str, ...], around: _Around) -> _Ended:
        unknown_fields(step, ("name", "sequential"), path, self._problems)
        return self._list(step["sequential"], (*path, "sequential"), before, around)

    def _parallel(self, step: Mapping[str, Any], path: Path, before: tuple[str, ...], around: _Around) -> _Ended:
        unknown_fields(step, ("name", "parallel"), path, self._problems)
        steps = step["parallel"]
        if not isinstance(steps, (list, tuple)):
            self._problems.add((*path, "parallel"), "`parallel`: must be a list of steps")
            return _Ended((), {})
        if len(before) * len(steps) > MAX_EDGES:
            before = self._joined(path, before, around)
        ended = [
            self._step(each, (*path, "parallel", number), before, around) for number, each in enumerate(steps)
        ]
        return _union(ended)

    def _joined(self, path: Path, before: tuple[str, ...], around: _Around) -> tuple[str, ...]:
        """One step that waits for all of `before`."""
        name = self._names.take("(join)", "(join {})")
        return self._add(TaskDraft({"name": name, "switch": {"cases": [True]}}, path), before, around).last

    def _if(self, step: Mapping[str, Any], path: Path, before: tuple[str, ...], around: _Around) -> _Ended:
        unknown_fields(step, ("name", "if", "then", "else"), path, self._problems)
        if step.get("then") is None and step.get("else") is None:
            self._problems.add(path, "`then` is missing", "add `then`, `else` or both")
        cases = [Case(step["if"], (*path, "if"), "then", _steps(step.get("then")), (*path, "then"))]
        cases.append(Case(None, path, "else", _steps(step.get("else")), (*path, "else"), is_default=True))
        for name in ("then", "else"):
            if not isinstance(step.get(name), (list, tuple, Mapping, type(None))):
                self._problems.add((*path, name), f"`{name}`: must be a list of steps")
        return self._choose(self._named(step, "if"), cases, {}, path, before, around)

    def _switch(self, step: Mapping[str, Any], path: Path, before: tuple[str, ...], around: _Around) -> _Ended:
        unknown_fields(step, ("name", "switch"), path, self._problems)
        cases, fields = read_switch(step["switch"], (*path, "switch"), ("steps", "tasks"), self._problems)
        return self._choose(self._named(step, "switch"), cases, fields, path, before, around)

    def _choose(
        self,
        name: str,
        cases: Sequence[Case],
        fields: Mapping[str, Any],
        path: Path,
        before: tuple[str, ...],
        around: _Around,
    ) -> _Ended:
        if cases:
            self._add(switch_step(name, fields, cases, path), before, around)
        ended = []
        for number, case in enumerate(cases):
            inside = replace(around, branch=(name, number))
            ended.append(self.sequence(case.items, case.items_path, (), inside))
        found = _union(ended)
        # Where no case has a step, what comes next waits for the choice itself.
        return found if found.last else replace(found, last=(name,))

    def _loop(self, step: Mapping[str, Any], path: Path, before: tuple[str, ...], around: _Around) -> _Ended:
        loop = step["loop"]
        if not isinstance(loop, Mapping):
            self._problems.add(
                (*path, "loop"), "`loop`: must be an object", "it has `steps`, and `while` or the like"
            )
            return _Ended((), {})
        if loop.get("name") is not None:
            step, loop = self._with_own_name(step, loop, path)
        name, is_named = self._named(step, "loop"), isinstance(step.get("name"), str)
        at = len(self.tasks)
        if not loop.get("steps"):
            self._problems.add((*path, "loop"), "`steps` is missing", "add the steps that the loop repeats")
        self._list(loop.get("steps") or [], (*path, "loop", "steps"), (), replace(around, loop=name, branch=None))
        body = [task for task in self.tasks[at:] if _loop_of(task) == name]
        # Without a name, the first loop is that of the group, as in a group with `loop`.
        own_key = f"{name}.loop" if is_named else f"{GROUP}.{name.strip('()').replace(' ', '-')}"
        rest = {field: value for field, value in loop.items() if field != "steps"}
        task = loop_step(name, rest, own_key, _without_loop(body), path)
        task.document = {**{field: value for field, value in step.items() if field != "loop"}, **task.document}
        task.moved[("result_keys",)] = (*path, "loop", "steps")
        with_mentioned(task.document, around.keys or {}, in_loop=around.loop is not None)
        ended = self._add(task, before, around)
        # In declared order: the loop, then its body.
        self.tasks.insert(at, self.tasks.pop())
        return ended

    def _with_own_name(
        self, step: Mapping[str, Any], loop: Mapping[str, Any], path: Path
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The step and its loop, with a name that was given inside of the loop as that of the step."""
        if step.get("name") not in (None, loop["name"]):
            message = f"the loop has two names, {step['name']!r} and {loop['name']!r}"
            self._problems.add((*path, "loop", "name"), message, "keep one of them")
        inside = {field: value for field, value in loop.items() if field != "name"}
        return {**step, "name": step.get("name") or loop["name"]}, inside

    def _list(self, steps: Any, path: Path, before: tuple[str, ...], around: _Around) -> _Ended:
        if not isinstance(steps, (list, tuple)):
            self._problems.add(path, f"`{path[-1]}`: must be a list of steps")
            return _Ended((), {})
        ended = self.sequence(steps, path, before, around)
        return ended if steps else _Ended((), {})


def _steps(value: Any) -> Sequence[Any]:
    """The steps of a branch; a single step may be written without a list."""
    if isinstance(value, Mapping):
        return [value]
    return value if isinstance(value, (list, tuple)) else ()


def _union(ended: Sequence[_Ended]) -> _Ended:
    last = dict.fromkeys(name for each in ended for name in each.last)
    return _Ended(tuple(last), dict.fromkeys(key for each in ended for key in each.keys))


def _loop_of(task: TaskDraft) -> Any:
    return task.document.get("in_loop") if isinstance(task.document, dict) else None


def _without_loop(body: Sequence[TaskDraft]) -> list[TaskDraft]:
    """The tasks of a body as they were before they were in the loop."""
    return [
        TaskDraft({name: value for name, value in task.document.items() if name != "in_loop"}, task.path)
        for task in body
    ]


def _made_name(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """The name of a step that the user did not name, and its form with a number."""
    agent = document.get("agent") or document.get("agent_class")
    if isinstance(agent, Mapping):
        agent = agent.get("capability")
    if isinstance(agent, str):
        return agent, agent + "-{}"
    kind = next((kind for kind in ("wait", "run") if document.get(kind) is not None), None)
    return None if kind is None else (f"({kind})", f"({kind} {{}})")
