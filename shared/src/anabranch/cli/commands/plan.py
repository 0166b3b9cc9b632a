"""`anabranch plan FILE`: validates a request and prints what it would run. Needs no server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from anabranch.cli import request_files
from anabranch.cli.commands.plan_executors import add_executors, shown_executor
from anabranch.cli.commands.plan_limits import add_configured, places, shared_limits
from anabranch.cli.exits import COMPLETED, WRONG
from anabranch.cli.render.output import (
    continued,
    count,
    foreign_output_to_stderr,
    print_json,
    print_text,
    say,
    short,
    wide_console,
)
from anabranch.cli.render.tables import Form, fields, print_csv
from anabranch.core.conditions import to_text
from anabranch.core.durations import format_duration
from anabranch.core.errors import RequestRefused
from anabranch.core.programs import PROGRAM_KINDS
from anabranch.core.request.admission import Limits, ValidationResult, read_request
from anabranch.core.request.drawing import Drawing, draw
from anabranch.core.request.flow import WAIT_KINDS, Approval
from anabranch.core.request.planning import refused_document
from anabranch.core.request.task_spelling import MADE_UP

if TYPE_CHECKING:
    from anabranch.cli.commands.plan_forecast import ForecastOptions
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.agents import Registry

SHOWN_MEMBERS = 20


def plan(
    file: str,
    settings: Settings,
    *,
    form: Form,
    expand: bool,
    strict: bool = False,
    graph: Drawing | None = None,
    forecast: ForecastOptions | None = None,
) -> int:
    """Print the plan, or with `graph` its diagram; returns the exit code: 2 if the request is invalid.

    Raises:
        Misconfigured: a module with agents, or a file of measurements, cannot be loaded.
    """
    if graph is not None:
        return _draw(file, settings, graph, strict=strict)
    with foreign_output_to_stderr(form is not Form.TABLE):
        document = plan_document(file, settings, expand=expand, strict=strict, forecast=forecast)
    if form is Form.JSON:
        print_json(document)
    elif form is Form.CSV and document["valid"]:
        _print_rows(document, expand=expand)
    else:
        _show(document)
    return COMPLETED if document["valid"] else WRONG


def plan_document(
    file: str,
    settings: Settings,
    *,
    expand: bool,
    strict: bool = False,
    forecast: ForecastOptions | None = None,
) -> dict[str, Any]:
    """The document of `--json`. With `strict`, placeholders without a value are errors."""
    registry = _registry(settings)
    try:
        validation = _validated(file, settings, registry, strict=strict)
        document = validation.to_document(expand=expand)
        if registry is not None:
            document = _with_breakers(document, registry)
        add_executors(document, validation.request, registry or (), settings.executors)
        if settings.limits is not None and validation.request is not None:
            add_configured(document, settings.limits, validation.request.project)
        if forecast is not None and validation.plan is not None:
            from anabranch.cli.commands.plan_forecast import forecast_document

            document["forecast"] = forecast_document(validation.plan, registry or (), settings, forecast)
        return document
    except RequestRefused as refused:
        return refused_document(refused.errors, refused.warnings, task_groups=0, tasks=0, document_bytes=0)


def _with_breakers(document: dict[str, Any], registry: Registry) -> dict[str, Any]:
    """Add to each task the breaker that its agent declares."""
    declared = {each.name: each.breaker for each in registry if each.breaker is not None}
    for task in document.get("tasks", ()):
        if (breaker := declared.get(task["agent"])) is not None:
            task["breaker"] = breaker.to_document()
    return document


def _validated(file: str, settings: Settings, registry: Registry | None, *, strict: bool) -> ValidationResult:
    """Raises RequestRefused: the file is no document."""
    return read_request(
        request_files.load(file),
        limits=Limits(settings.request_limit, settings.members_limit, settings.inline_limit),
        agents=None if registry is None else {*registry.choices, *PROGRAM_KINDS},
        strict=strict,
    )


def _draw(file: str, settings: Settings, form: Drawing, *, strict: bool) -> int:
    with foreign_output_to_stderr(True):
        try:
            validation = _validated(file, settings, _registry(settings), strict=strict)
        except RequestRefused as refused:
            validation = ValidationResult(errors=refused.errors)
    if validation.plan is None:
        _show(validation.to_document())
        return WRONG
    print_text(draw(validation.plan, form).rstrip("\n"))
    return COMPLETED


def _registry(settings: Settings) -> Registry | None:
    """The agents of modules and files, and the built-in ones; None if there is neither: they are not known."""
    if not (settings.agents or settings.agent_files):
        return None
    from anabranch.cli.backends.systems import load_registry

    return load_registry(settings.agents, settings)


def _show(document: dict[str, Any]) -> None:
    for warning in document["warnings"]:
        say(f"Warning: {warning}")
    counts = document["counts"]
    head = (
        f"{count(counts['task_groups'], 'group')}, {count(counts['tasks'], 'task')}, "
        f"{count(counts['executions'], 'execution')}, {count(document['bytes'], 'byte')}"
    )
    if not document["valid"]:
        say(f"The request is invalid ({head}), {count(len(document['errors']), 'error')}:")
        for error in document["errors"]:
            hint = f" ({error['hint']})" if error["hint"] else ""
            say(f"  {error['path'] or '(the request)'}: {continued(error['message'])}{hint}")
        return
    _tree(document, head)
    if "concurrency" in document:
        say(f"  the run holds a place of {places(document['concurrency'])}")
    for each in document.get("budgets", ()):
        say(f"  budget of {each['of']}: {_amounts(each['budget'])}; estimated: {_amounts(each['estimated'])}")
    if "forecast" in document:
        from anabranch.cli.commands.plan_forecast import show_forecast

        show_forecast(document["forecast"])


def _amounts(amounts: dict[str, Any]) -> str:
    return ", ".join(f"{kind} {value:,.10g}" for kind, value in amounts.items())


def _print_rows(document: dict[str, Any], *, expand: bool) -> None:
    """Print one CSV row per task, or with `expand` per member."""
    if not expand:
        print_csv(TASK_COLUMNS, document["tasks"])
        return
    where = [{"group": task["group"], "task": task["name"]} for task in document["tasks"]]
    members = [
        place | member
        for place, task in zip(where, document["tasks"], strict=True)
        for member in task.get("expanded") or ()
    ]
    print_csv(MEMBER_COLUMNS, members)


def _tree(document: dict[str, Any], head: str) -> None:
    from rich.text import Text
    from rich.tree import Tree

    by_label = {f"{task['group']}/{task['name']}": task for task in document["tasks"]}
    producers: dict[str, list[str]] = defaultdict(list)
    for label, task in by_label.items():
        for key in task["result_keys"]:
            producers[key].append(label)
    tree = Tree(Text(head, style="bold"))
    for number, labels in enumerate(document["levels"], 1):
        level = tree.add(Text(f"level {number}", style="cyan"))
        for label in labels:
            task = by_label[label]
            givers = {giver for key in task["dependencies"] for giver in producers.get(key, ())}
            branch = level.add(Text(_line(label, task, givers)))
            for line in _members(task.get("expanded", ())):
                branch.add(Text(line, style="dim"))
    wide_console().print(tree)


def _line(label: str, task: dict[str, Any], givers: Collection[str]) -> str:
    if task["members"] is None:
        members = " × length of its array, not known yet"
    else:
        members = "" if task["members"] == 1 or task.get("kind") in MADE_UP else f" × {task['members']:,}"
    # A task that is awaited for its key is not named a second time.
    before = [*task["dependencies"], *(each for each in _awaited(task) if each not in givers)]
    needs = f"  after {', '.join(before)}" if before else ""
    results = f"  → {', '.join(task['result_keys'])}" if task["result_keys"] else ""
    return (
        f"{label} [{task['agent'] or task['kind']}]{members}{needs}{''.join(_flow(task))}{_order(task)}"
        f"{''.join(shared_limits(task))}{shown_executor(task)}{results}"
    )


def _order(task: dict[str, Any]) -> str:
    """In which order and where its members run, if the request says anything of that."""
    if "priority" not in task:
        return ""
    return f"  {task['priority']} in pool {task['pool']}, fair by {task['fairness_key']}"


def _awaited(task: dict[str, Any]) -> Iterator[str]:
    """The tasks whose end a task waits for."""
    yield from task.get("after", ())
    yield from task.get("follows", ())


def _flow(task: dict[str, Any]) -> Iterator[str]:
    """What controls a task, in words."""
    if "in_loop" in task:
        yield f"  in {task['in_loop']}"
    if "loop" in task:
        yield f"  {task['bound']}"
    if "switch" in task:
        cases = [*task["switch"]["cases"], *(["else"] if task["switch"]["has_default"] else [])]
        yield f"  cases {'; '.join(f'{number}: {case}' for number, case in enumerate(cases))}"
    if "branch" in task:
        yield f"  in case {task['branch']['case']} of {task['branch']['switch']}"
    if "when_text" in task:
        yield f"  when {task['when_text']}"
    if "wait" in task:
        yield f"  {_waited(task['wait'])}"
    if "error_key" in task:
        yield f"  its failure → {task['error_key']}"
    if task.get("will_skip"):
        yield "  (will be skipped)"


def _waited(wait: dict[str, Any]) -> str:
    name = next((name for name in WAIT_KINDS if name in wait), "")
    limit = f", at most {_duration(wait['timeout'])}" if "timeout" in wait else ""
    return f"{_waited_for(name, wait.get(name))}{limit}"


def _waited_for(name: str, value: Any) -> str:
    match name:
        case "for":
            return f"for {_duration(value)}"
        case "condition":
            return f"until {to_text(value)}"
        case "approval":
            subject = f": {value['subject']}" if value.get("subject") else ""
            return f"for a decision{subject} ({', '.join(value.get('options', Approval().options))})"
        case "event":
            key = f" of {value['key']}" if value.get("key") else ""
            return f"for the event {value['name']}{key}"
        case "signal":
            return f"for the signal {value}"
    return f"{name} {value if isinstance(value, (str, int, float)) else short(value)}"


def _duration(value: float | str) -> str:
    return value if isinstance(value, str) else format_duration(value)


def _members(expanded: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"{each['name']}: {short(_given(each))}" for each in expanded[:SHOWN_MEMBERS]]
    more = len(expanded) - len(lines)
    return [*lines, f"and {more:,} more"] if more else lines


def _given(member: dict[str, Any]) -> Any:
    return {name: member[name] for name in ("message", "inputs", "error") if member.get(name) is not None}


TASK_COLUMNS = fields("group", "name", "agent", "members", "dependencies", "result_keys")
MEMBER_COLUMNS = fields("group", "task", "name", "index", "variables", "message", "inputs", "error")
