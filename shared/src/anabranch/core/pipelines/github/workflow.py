"""Converts workflows of GitHub Actions: each job becomes a group, whose task runs the steps as one program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from anabranch.core.pipelines.conversion import Conversion, Findings, Path, mapping
from anabranch.core.pipelines.github.job import JobReader, after_of
from anabranch.core.pipelines.github.values import JobValues, WorkflowValues, checked_template

Engine = Literal["process", "container", "kubernetes"]

_FIELDS = ("name", "run-name", "on", "env", "defaults", "concurrency", "jobs", "permissions", "true")
_SCHEDULED = ("schedule",)


def convert_workflow(
    workflow: Mapping[str, Any], *, actions: Mapping[str, str], engine: Engine, container_engine: Engine
) -> Conversion:
    """Convert a workflow.

    Args:
        workflow: the parsed file.
        actions: shell scripts that replace `uses`, by the name of the action with or without its version.
        engine: the built-in agent of jobs without `container`.
        container_engine: that of jobs with one.
    """
    findings = Findings()
    findings.unknown_fields((), workflow, _FIELDS)
    jobs = {
        name: mapping(findings, ("jobs", name), job)
        for name, job in mapping(findings, ("jobs",), workflow.get("jobs")).items()
    }
    if not jobs:
        findings.wrong(("jobs",), "a workflow has at least one job", "is this a workflow of GitHub Actions?")
    outputs = {
        name: tuple(mapping(findings, ("jobs", name, "outputs"), job.get("outputs"))) for name, job in jobs.items()
    }
    name = workflow.get("name")
    values = WorkflowValues(findings, outputs, name if isinstance(name, str) else "")
    values.context.update(_inputs(workflow, findings))
    readers = [
        JobReader(name, job, workflow, jobs, values, actions, container_engine if job.get("container") else engine)
        for name, job in jobs.items()
    ]
    groups = _connected([reader.group() for reader in readers])
    request: dict[str, Any] = {}
    if isinstance(workflow.get("name"), str):
        request["name"] = workflow["name"].replace("/", "-")
    request |= _concurrency(workflow, values)
    if values.context:
        request["context"] = values.context
    if policies := {reader.name: "last_write" for reader in readers if reader.is_many}:
        request["context_policies"] = policies
    request["task_groups"] = groups
    return findings.result(request)


def _connected(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups, with the tasks of needed jobs in `after`."""
    names = {group["name"]: [task["name"] for task in group["tasks"]] for group in groups}
    for group in groups:
        for task in group["tasks"]:
            if after := list(after_of(task.pop("needs", ()), names)):
                task["after"] = after
    return groups


def _inputs(workflow: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    """The context values of the inputs of `workflow_dispatch` and `workflow_call`; triggers are left out."""
    triggers = workflow.get("on", workflow.get("true"))
    if isinstance(triggers, dict):
        for name in _SCHEDULED:
            if name in triggers:
                findings.warn(
                    ("on", name), "the schedule is not part of the request", "make one with `anabranch schedules`"
                )
    found: dict[str, Any] = {}
    for trigger in ("workflow_dispatch", "workflow_call"):
        path: Path = ("on", trigger)
        declared = mapping(findings, path, triggers.get(trigger)) if isinstance(triggers, dict) else {}
        for name, each in mapping(findings, (*path, "inputs"), declared.get("inputs")).items():
            fields = mapping(findings, (*path, "inputs", name), each)
            found[f"inputs.{name}"] = fields.get("default", "")
            if fields.get("required") and "default" not in fields:
                findings.warn(
                    (*path, "inputs", name),
                    "is required",
                    f"give it with `--input inputs.{name}=VALUE`, it is empty now",
                )
    return found


def _concurrency(workflow: Mapping[str, Any], values: WorkflowValues) -> dict[str, Any]:
    """One run at a time: GitHub keeps the running one and the newest that waits."""
    findings = values.findings
    given = workflow.get("concurrency")
    if given is None:
        return {}
    fields = {"group": given} if not isinstance(given, dict) else given
    findings.unknown_fields(("concurrency",), fields, ("group", "cancel-in-progress"))
    group, cancels = fields.get("group"), fields.get("cancel-in-progress", False)
    if not isinstance(group, str):
        findings.wrong(("concurrency", "group"), "must be a text")
        return {}
    key = checked_template(JobValues(values, (), ()), findings, ("concurrency", "group"), group)
    if not isinstance(cancels, bool):
        findings.unsupported(("concurrency", "cancel-in-progress"), "must be true or false")
        return {}
    return {"concurrency": {"key": key, "limit": 1, "on_full": "cancel_running" if cancels else "replace_queued"}}
