"""The graph of a run: its tasks with what controls them, their dependencies, and the progress of each. Pure.

Compensations are tasks that the request does not have. They are taken from the view, and are the last nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anabranch.core.conditions import to_text
from anabranch.core.progress import share_of_task
from anabranch.core.request.flow import WAIT_KINDS, Wait
from anabranch.core.request.flow_document import end_of_loop
from anabranch.core.request.models import COMPENSATE, FINALLY, TaskSpec
from anabranch.core.wire.run_view import GroupView, RunView, TaskView
from anabranch_gateway.runs.admitted_requests import AdmittedRequest

Document = dict[str, Any]

MAX_TEXT = 300
"""Maximum characters of a condition or a subject in a node; longer ones are shortened."""
_LIVE = ("iteration", "loop", "chosen", "ended_by", "reason", "because", "costs")
"""Fields of a task in a view that only some tasks have."""


def graph_of(run_id: str, admitted: AdmittedRequest, view: RunView) -> Document:
    """The graph of a run.

    Returns:
        `nodes`, `edges` as `[from, to]` indexes into them, `optional` (the numbers of the edges whose first task
        may end in any way), and the status of each of the `groups`.
    """
    nodes = list(_nodes(admitted, view))
    edges = [(target, index) for index, targets in enumerate(admitted.graph.edges) for target in targets]
    optional = [number for number, (target, index) in enumerate(edges) if _is_optional(admitted, target, index)]
    undone = list(_compensations(admitted, view, _level_after(admitted)))
    first = len(nodes)
    edges += [(first + number, first + number + 1) for number in range(len(undone) - 1)]
    names = [group.name for group in admitted.request.task_groups]
    names += [COMPENSATE] * bool(undone) + [FINALLY] * bool(admitted.request.finally_)
    return {
        "run_id": run_id,
        "nodes": nodes + undone,
        "edges": edges,
        "optional": optional,
        "groups": [{"name": name, "status": view.groups.get(name, GroupView("waiting")).status} for name in names],
    }


def add_executors(graph: Document, agents: Iterable[Mapping[str, Any]]) -> Document:
    """Say of each node how live workers execute its agent, as far as they are known.

    Args:
        agents: the agents of live workers, by name and version: the last one of a name counts.
    """
    known = {agent["name"]: agent for agent in agents}
    for node in graph["nodes"]:
        if (agent := known.get(node["agent"])) is not None:
            node["executor"] = agent["kind"]
            if agent["program"] is not None:
                node["program"] = agent["program"]
    return graph


def _nodes(admitted: AdmittedRequest, view: RunView) -> Iterator[Document]:
    levels = admitted.graph.levels or [0] * len(admitted.tasks)
    for index, ((group, spec), level) in enumerate(zip(admitted.tasks, levels, strict=True)):
        expanded = spec.expansion_config is not None
        state = view.task(group, spec.name) or TaskView("waiting", members=None if expanded else 1)
        node = _node(group, spec.name, spec.agent, level, state)
        node |= {"expanded": expanded, "result_keys": list(spec.result_keys)}
        if group == FINALLY:
            node["phase"] = FINALLY
        yield node | _flow(admitted, index, group, spec)


def _node(group: str, task: str, agent: str, level: int, state: TaskView) -> Document:
    live = {name: value for name in _LIVE if (value := getattr(state, name)) is not None}
    return {
        "id": f"{group}/{task}",
        "group": group,
        "task": task,
        "agent": agent,
        "level": level,
        "status": state.status,
        "expanded": state.expanded,
        "members": state.members,
        "started": state.started,
        "completed": state.completed,
        "failed": state.failed,
        "share": share_of_task(state),
        "started_at": state.started_at,
        "ended_at": state.ended_at,
        "waits": state.waits,
        "result_keys": [],
        "reason": None,
        "because": None,
    } | live


def _flow(admitted: AdmittedRequest, index: int, group: str, spec: TaskSpec) -> Document:
    """What controls a task; only the fields that it has."""
    found: Document = {} if spec.kind == "task" else {"kind": spec.kind}
    flow = admitted.graph.tasks[index].flow
    if flow is None:
        return found
    if spec.when is not None:
        found["when"] = _shortened(to_text(spec.when))
    if flow.branch is not None:
        switch, case = flow.branch.switch, flow.branch.case
        found["branch"] = {
            "switch": f"{switch.group}/{switch.task}",
            "case": case,
            "text": _text_of_case(admitted.spec(switch.group, switch.task), case),
        }
    if spec.in_loop is not None:
        found["in_loop"] = f"{group}/{spec.in_loop}"
    if spec.loop is not None:
        found |= {"bound": _shortened(end_of_loop(spec.loop)), "max_iterations": spec.loop.limit}
    if spec.wait is not None:
        found["wait"] = _wait(spec.wait)
    if spec.run is not None:
        found["definition"] = spec.run.definition
    return found


def _text_of_case(spec: TaskSpec | None, case: int) -> str:
    cases = spec.switch.cases if spec is not None and spec.switch is not None else ()
    return _shortened(to_text(cases[case])) if case < len(cases) else "else"


def _wait(wait: Wait) -> Document:
    """What a task waits for: seconds for a duration, else a text."""
    kinds = (wait.for_, wait.until, wait.condition, wait.event, wait.signal, wait.approval)
    [(kind, _)] = [each for each in zip(WAIT_KINDS, kinds, strict=True) if each[1] is not None]
    if wait.event is not None:
        of: Any = f"{wait.event.name} {wait.event.key}".rstrip()
    elif wait.approval is not None:
        of = wait.approval.subject
    else:
        of = to_text(wait.condition) if wait.condition is not None else wait.for_ or wait.until or wait.signal
    return {"kind": kind, "of": _shortened(of) if isinstance(of, str) else of, "timeout": wait.timeout}


def _is_optional(admitted: AdmittedRequest, target: int, index: int) -> bool:
    """True if a task waits for the end of another one, and needs neither a value of it nor that it completed."""
    graph = admitted.graph
    if graph.flow is None:
        return False
    modes = {link.task: link.mode for link in graph.flow.targets[index]}
    needed = graph.tasks[target].group, graph.tasks[target].name
    keys = {need.producer for need in graph.needs[index] if need.kind == "produced" and not need.optional}
    return modes.get(target) == "ended" and needed not in keys


def _level_after(admitted: AdmittedRequest) -> int:
    """The level of compensations: after all tasks but those of `finally`."""
    levels = admitted.graph.levels or ()
    return (
        max(
            (level for level, (group, _) in zip(levels, admitted.tasks, strict=False) if group != FINALLY),
            default=-1,
        )
        + 1
    )


def _compensations(admitted: AdmittedRequest, view: RunView, level: int) -> Iterator[Document]:
    agents: dict[str, str] = {}
    for group, spec in admitted.tasks:
        if spec.compensate is not None:
            agents[f"{group}.{spec.name}"] = spec.compensate.agent
            agents.setdefault(spec.name, spec.compensate.agent)
    undone = view.groups[COMPENSATE].tasks if COMPENSATE in view.groups else {}
    for name, state in undone.items():
        yield _node(COMPENSATE, name, agents.get(name, ""), level, state) | {"phase": COMPENSATE}


def _shortened(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= MAX_TEXT else f"{plain[: MAX_TEXT - 1]}…"
