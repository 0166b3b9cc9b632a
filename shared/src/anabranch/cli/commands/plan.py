"""`anabranch plan FILE`: validates a request and prints what it would run. Needs no server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from anabranch.cli import request_files
from anabranch.cli.exits import COMPLETED, WRONG
from anabranch.cli.render.output import (
    continued,
    count,
    foreign_output_to_stderr,
    print_json,
    say,
    short,
    wide_console,
)
from anabranch.cli.render.tables import Form, fields, print_csv
from anabranch.core.errors import RequestRefused
from anabranch.core.request.admission import Limits, read_request
from anabranch.core.request.planning import refused_document

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings

SHOWN_MEMBERS = 20


def plan(file: str, settings: Settings, *, form: Form, expand: bool, strict: bool = False) -> int:
    """Print the plan; returns the exit code: 2 if the request is invalid.

    Raises:
        Misconfigured: a module with agents cannot be loaded.
    """
    with foreign_output_to_stderr(form is not Form.TABLE):
        document = plan_document(file, settings, expand=expand, strict=strict)
    if form is Form.JSON:
        print_json(document)
    elif form is Form.CSV and document["valid"]:
        _print_rows(document, expand=expand)
    else:
        _show(document)
    return COMPLETED if document["valid"] else WRONG


def plan_document(file: str, settings: Settings, *, expand: bool, strict: bool = False) -> dict[str, Any]:
    """The document of `--json`. With `strict`, placeholders without a value are errors."""
    try:
        document = request_files.load(file)
    except RequestRefused as refused:
        return refused_document(refused.errors, refused.warnings, task_groups=0, tasks=0, document_bytes=0)
    validation = read_request(
        document,
        limits=Limits(settings.request_limit, settings.members_limit, settings.inline_limit),
        agents=_agents(settings.agents),
        strict=strict,
    )
    return validation.to_document(expand=expand)


def _agents(modules: Sequence[str]) -> Collection[str] | None:
    if not modules:
        return None
    from anabranch.cli.backends.systems import load_registry

    return load_registry(modules).names


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
    tree = Tree(Text(head, style="bold"))
    for number, labels in enumerate(document["levels"], 1):
        level = tree.add(Text(f"level {number}", style="cyan"))
        for label in labels:
            branch = level.add(Text(_line(label, by_label[label])))
            for line in _members(by_label[label].get("expanded", ())):
                branch.add(Text(line, style="dim"))
    wide_console().print(tree)


def _line(label: str, task: dict[str, Any]) -> str:
    if task["members"] is None:
        members = " × length of its array, not known yet"
    else:
        members = "" if task["members"] == 1 else f" × {task['members']:,}"
    needs = f"  after {', '.join(task['dependencies'])}" if task["dependencies"] else ""
    return f"{label} [{task['agent']}]{members}{needs}  → {', '.join(task['result_keys'])}"


def _members(expanded: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"{each['name']}: {short(_given(each))}" for each in expanded[:SHOWN_MEMBERS]]
    more = len(expanded) - len(lines)
    return [*lines, f"and {more:,} more"] if more else lines


def _given(member: dict[str, Any]) -> Any:
    return {name: member[name] for name in ("message", "inputs", "error") if member.get(name) is not None}


TASK_COLUMNS = fields("group", "name", "agent", "members", "dependencies", "result_keys")
MEMBER_COLUMNS = fields("group", "task", "name", "index", "variables", "message", "inputs", "error")
