"""Draws the graph of a plan as the text of a Mermaid or a Graphviz diagram. Pure.

A task is a node, and what it waits for is an edge. An edge from a switch has the condition of its case; one from a
task that may end in any way is dotted. A loop is a box around its body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from anabranch.core.conditions import to_text
from anabranch.core.request.flow_document import bound_of
from anabranch.core.request.planning import Plan, PlannedTask

Drawing = Literal["mermaid", "dot"]
LONGEST_LABEL = 80


@dataclass(frozen=True, slots=True)
class _Edge:
    source: int
    target: int
    label: str
    is_dotted: bool


def draw(plan: Plan, form: Drawing) -> str:
    """The diagram of a plan."""
    return "\n".join(_mermaid(plan) if form == "mermaid" else _dot(plan)) + "\n"


# --- Mermaid --------------------------------------------------------------------------------------


def _mermaid(plan: Plan) -> Iterator[str]:
    yield "flowchart TD"

    def begin(index: int, indent: str) -> str:
        return f'{indent}subgraph loop{index}["{_for_mermaid(bound_of(plan.tasks[index]))}"]'

    yield from _nested(plan, _mermaid_node, begin, "end")
    for edge in _edges(plan):
        arrow = "-.->" if edge.is_dotted else "-->"
        label = f'|"{_for_mermaid(edge.label)}"|' if edge.label else ""
        yield f"  t{edge.source} {arrow}{label} t{edge.target}"


def _mermaid_node(index: int, task: PlannedTask) -> str:
    begin, end = _MERMAID_SHAPES.get(task.spec.kind, ("[", "]"))
    return f't{index}{begin}"{"<br/>".join(map(_for_mermaid, _lines(task)))}"{end}'


_MERMAID_SHAPES = {"switch": ("{", "}"), "loop": ("([", "])"), "wait": (">", "]"), "run": ("[[", "]]")}


def _for_mermaid(text: str) -> str:
    """Escape what Mermaid or HTML would read in a label."""
    return _shortened(text).translate(_ENTITIES)


_ENTITIES = str.maketrans({char: f"#{ord(char)};" for char in '#"<>&`\\{}[]()|;'})


# --- Graphviz -------------------------------------------------------------------------------------


def _dot(plan: Plan) -> Iterator[str]:
    yield "digraph plan {"
    yield "  rankdir=TB;"
    yield '  node [shape=box, fontname="sans-serif"];'

    def begin(index: int, indent: str) -> str:
        return f'{indent}subgraph cluster_{index} {{ label="{_for_dot(bound_of(plan.tasks[index]))}";'

    yield from _nested(plan, _dot_node, begin, "}")
    for edge in _edges(plan):
        options = [f'label="{_for_dot(edge.label)}"'] if edge.label else []
        options += ["style=dotted"] if edge.is_dotted else []
        shown = f" [{', '.join(options)}]" if options else ""
        yield f"  t{edge.source} -> t{edge.target}{shown};"
    yield "}"


def _dot_node(index: int, task: PlannedTask) -> str:
    label = "\\n".join(map(_for_dot, _lines(task)))
    return f't{index} [label="{label}", shape={_DOT_SHAPES.get(task.spec.kind, "box")}];'


_DOT_SHAPES = {"switch": "diamond", "loop": "ellipse", "wait": "cds", "run": "box3d"}


def _for_dot(text: str) -> str:
    return _shortened(text).replace("\\", "\\\\").replace('"', '\\"')


# --- both -----------------------------------------------------------------------------------------


def _nested(
    plan: Plan, node: Callable[[int, PlannedTask], str], begin: Callable[[int, str], str], end: str
) -> Iterator[str]:
    """The nodes, with those of each loop and its body inside of a box. A stack, as loops nest."""
    bodies: dict[int, list[int]] = {}
    for index in range(len(plan.tasks)):
        around = plan.flow.loops[index] if plan.flow is not None else ()
        bodies.setdefault(around[0] if around else -1, []).append(index)
    waiting: list[int | str] = list(reversed(bodies.get(-1, ())))
    depth = 1
    while waiting:
        at = waiting.pop()
        if isinstance(at, str):
            depth -= 1
            yield "  " * depth + at
            continue
        task = plan.tasks[at]
        if task.spec.loop is None:
            yield "  " * depth + node(at, task)
            continue
        yield begin(at, "  " * depth)
        depth += 1
        yield "  " * depth + node(at, task)
        waiting += [end, *reversed(bodies.get(at, ()))]


def _edges(plan: Plan) -> Iterator[_Edge]:
    for index, sources in enumerate(plan.sources):
        loops = plan.flow.loops[index] if plan.flow is not None else ()
        links = {link.task: link.mode for link in plan.flow.targets[index]} if plan.flow is not None else {}
        keys = {need.producer for need in plan.tasks[index].needs if need.kind == "produced" and not need.optional}
        for source in sources:
            if (
                source in loops[:1]
                and len(sources) > 1
                and any(plan.flow and loops[0] in plan.flow.loops[each] for each in sources)
            ):
                continue  # the task comes after another one of the same iteration
            is_dotted = links.get(source, "completed") != "completed" and _place(plan, source) not in keys
            yield _Edge(source, index, _case(plan, index, source), is_dotted)


def _place(plan: Plan, index: int) -> tuple[str, str]:
    task = plan.tasks[index]
    return task.group, task.name


def _case(plan: Plan, index: int, source: int) -> str:
    """The condition by which a task's switch chooses it; empty for any other source."""
    branch, chooser = plan.tasks[index].branch, plan.tasks[source]
    if branch is None or branch.switch != (chooser.group, chooser.name) or chooser.spec.switch is None:
        return ""
    cases = chooser.spec.switch.cases
    return to_text(cases[branch.case]) if branch.case < len(cases) else "else"


def _lines(task: PlannedTask) -> list[str]:
    what = task.spec.agent or task.spec.kind
    when = [] if task.spec.when is None else [f"when {to_text(task.spec.when)}"]
    return [task.label, f"{what} × {task.members:,}" if task.members not in (1, None) else what, *when]


def _shortened(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= LONGEST_LABEL else plain[: LONGEST_LABEL - 3] + "..."
