"""Converts one job of a workflow of GitHub Actions into a group of tasks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anabranch.core.pipelines.conversion import Path, mapping
from anabranch.core.pipelines.github.conditions import JobConditions, exists
from anabranch.core.pipelines.github.expressions import (
    ExpressionError,
    condition_of,
    has_operators,
    has_status_function,
    only_reference,
)
from anabranch.core.pipelines.github.fields import environment, flag, minutes, names_of
from anabranch.core.pipelines.github.matrix import combination_label, read_strategy
from anabranch.core.pipelines.github.script import SHELLS, ScriptWriter, Step, no_script
from anabranch.core.pipelines.github.values import JobValues, WorkflowValues, checked_template, step_variable
from anabranch.core.templates import compact_json, literal

MAX_SCRIPT = 100_000
"""Characters of the script of a job: an argument of a program has 128 KiB at most."""

_JOB_FIELDS = (
    "container", "continue-on-error", "defaults", "env", "environment", "if", "name", "needs", "outputs",
    "permissions", "runs-on", "steps", "strategy", "timeout-minutes",
)  # fmt: skip
_STEP_FIELDS = (
    "continue-on-error", "env", "id", "if", "name", "run", "shell", "timeout-minutes", "uses", "with",
    "working-directory",
)  # fmt: skip
_HINTS = {
    "services": "start the service where the job runs, and give its address in `env`",
    "uses": "store the called workflow as a definition, and call it with a task that has `run`",
    "concurrency": "move it to the workflow, or add `concurrency` to the task",
}
_SYSTEMS = ("windows", "macos")


class JobReader:
    """Reads one job."""

    def __init__(
        self,
        name: str,
        job: Mapping[str, Any],
        workflow: Mapping[str, Any],
        jobs: Mapping[str, Mapping[str, Any]],
        values: WorkflowValues,
        actions: Mapping[str, str],
        engine: str,
    ) -> None:
        self.name = name
        self._job = job
        self._workflow = workflow
        self._jobs = jobs
        self._actions = actions
        self._engine = engine
        self._findings = values.findings
        self._path: Path = ("jobs", name)
        self._needs = list(names_of(self._findings, (*self._path, "needs"), job.get("needs")))
        for each in self._needs:
            if each not in jobs:
                self._findings.wrong((*self._path, "needs"), f"there is no job {each!r}")
        self._strategy = read_strategy(job, self._needs, values.outputs, self._findings, self._path)
        self._values = JobValues(values, self._needs, self._strategy.axes)

    @property
    def is_many(self) -> bool:
        """True if the job is several tasks."""
        return len(self._combinations()) > 1

    def group(self) -> dict[str, Any]:
        """The group: one task, or one for each combination where the first failure stops the others."""
        self._check_fields()
        task = self._task()
        combinations = self._combinations()
        group: dict[str, Any] = {"name": self.name}
        if self._strategy.max_parallel is not None:
            group["max_concurrency"] = self._strategy.max_parallel
        if combinations == [{}]:
            if self._strategy.expansion is not None:
                task["expansion_config"] = self._strategy.expansion
                if self._goes_on:
                    task["tolerated_failures"] = "100%"
            return group | {"tasks": [task]}
        if self._strategy.fail_fast:
            group["fail_fast"] = True
        return group | {"tasks": [self._of_combination(task, each) for each in combinations]}

    def _combinations(self) -> list[dict[str, Any]]:
        """The combinations that are tasks of their own."""
        found = self._strategy.combinations
        if found is None or not self._strategy.fail_fast or self._strategy.expansion is None:
            return [{}]
        return list(found)

    def _of_combination(self, task: dict[str, Any], combination: Mapping[str, Any]) -> dict[str, Any]:
        name = f"{self.name} ({combination_label(combination)})".replace("/", "-")[:255]
        environment = {key: _replaced(text, combination) for key, text in task["inputs"].get("env", {}).items()}
        inputs = task["inputs"] | ({"env": environment} if environment else {})
        if "image" in inputs:
            inputs["image"] = _replaced(inputs["image"], combination)
        return task | {"name": name, "result_keys": [self.name], "inputs": inputs}

    # --- the task ------------------------------------------------------------------------------------------

    @property
    def _goes_on(self) -> bool:
        return self._job.get("continue-on-error") is True

    def _task(self) -> dict[str, Any]:
        task: dict[str, Any] = {"name": self.name, "agent": self._engine}
        container = self._container()
        given = self._environment(container)
        computed = {name: text for name, text in given.items() if has_operators(text)}
        script = self._script(computed)
        shell = "sh" if container else "bash"
        inputs: dict[str, Any] = {"command": [shell, "-c", literal(script)], **container}
        variables = {
            name: self._template("env", name, text) for name, text in given.items() if name not in computed
        }
        if variables := {"GITHUB_JOB": literal(self.name), **variables, **self._values.variables}:
            inputs["env"] = variables
        task |= self._order() | {"inputs": inputs}
        if self._values.producers:
            task["dependencies"] = [
                each for each in task.get("needs", ()) if each.rstrip("?") in self._values.producers
            ]
        if seconds := minutes(self._findings, (*self._path, "timeout-minutes"), self._job.get("timeout-minutes")):
            task["timeout"] = f"{seconds}s"
        if flag(self._findings, (*self._path, "continue-on-error"), self._job.get("continue-on-error")):
            if self._strategy.expansion is None:
                task["error_key"] = _error_key(self.name)
            elif self._strategy.fail_fast:
                self._findings.unsupported(
                    (*self._path, "continue-on-error"), "needs `fail-fast: false` in the strategy of the job"
                )
        return task

    def _order(self) -> dict[str, Any]:
        """After which jobs the task starts, and under which condition."""
        path = (*self._path, "if")
        conditions: list[Any] = []
        waits_for_any_end = False
        if (given := self._job.get("if")) is not None:
            try:
                expression = condition_of(given)
                waits_for_any_end = has_status_function(expression)
                condition = JobConditions(self._values, self._findings, path).build(expression)
                conditions += [] if condition is True else [condition]
            except ExpressionError as error:
                self._findings.unsupported(path, str(error))
        after: list[str] = []
        for needed in self._needs:
            tolerant = self._jobs.get(needed, {}).get("continue-on-error") is True
            mark = "?" if waits_for_any_end or tolerant else ""
            after.append(f"{needed}{mark}")
            if tolerant and not waits_for_any_end:
                ended = [exists(needed), {"field": _error_key(needed), "operator": "exists"}]
                conditions.append({"any": ended})
        order: dict[str, Any] = {"needs": after} if after else {}
        if conditions:
            order["when"] = conditions[0] if len(conditions) == 1 else {"all": conditions}
        return order

    def _container(self) -> dict[str, Any]:
        path = (*self._path, "container")
        given = self._job.get("container")
        if given is None:
            if self._engine != "process":
                self._findings.unsupported(
                    self._path, f"has no `container`, and {self._engine} needs an image", "add `container: IMAGE`"
                )
            return {}
        fields = {"image": given} if isinstance(given, str) else mapping(self._findings, path, given)
        self._findings.unknown_fields(path, fields, ("image", "env"))
        if not isinstance(fields.get("image"), str):
            self._findings.wrong((*path, "image"), "must be the name of an image")
            return {}
        return {"image": checked_template(self._values, self._findings, (*path, "image"), fields["image"])}

    def _environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        found = environment(self._findings, ("env",), self._workflow.get("env"))
        found |= environment(self._findings, (*self._path, "env"), self._job.get("env"))
        given = self._job.get("container")
        if container and isinstance(given, dict):
            found |= environment(self._findings, (*self._path, "container", "env"), given.get("env"))
        return found

    def _template(self, field: str, name: str, text: str) -> str:
        return checked_template(self._values, self._findings, (*self._path, field, name), text)

    # --- the steps -----------------------------------------------------------------------------------------

    def _script(self, computed: Mapping[str, str]) -> str:
        """The script of all steps, which first computes variables whose texts have operators."""
        steps = self._job.get("steps")
        if not isinstance(steps, list) or not steps:
            if "uses" not in self._job:
                self._findings.wrong((*self._path, "steps"), "a job has at least one step")
            return ""
        writer = ScriptWriter(self._values)
        for name, text in computed.items():
            try:
                writer.export(name, text)
            except ExpressionError as error:
                self._findings.unsupported((*self._path, "env", name), str(error))
        for number, given in enumerate(steps):
            path = (*self._path, "steps", number)
            self._add_step(writer, mapping(self._findings, path, given), path)
        path = (*self._path, "outputs")
        outputs = {
            name: str(text) for name, text in mapping(self._findings, path, self._job.get("outputs")).items()
        }
        try:
            script = writer.finish(outputs)
        except ExpressionError as error:
            self._findings.unsupported(path, str(error))
            return ""
        if len(script) > MAX_SCRIPT:
            self._findings.unsupported(
                (*self._path, "steps"),
                f"have {len(script):,} characters, the maximum is {MAX_SCRIPT:,}",
                "move scripts into files of the repository",
            )
        return script

    def _add_step(self, writer: ScriptWriter, given: Mapping[str, Any], path: Path) -> None:
        self._findings.unknown_fields(path, given, _STEP_FIELDS)
        script = self._script_of_step(given, path)
        if script is None:
            return
        if script.strip() == ":":
            # The caller leaves the action out, so it needs none of its values.
            given = {name: each for name, each in given.items() if name not in ("with", "env")}
        variables = environment(self._findings, (*path, "env"), given.get("env"))
        for name, value in mapping(self._findings, (*path, "with"), given.get("with")).items():
            variables[f"INPUT_{name.upper().replace(' ', '_').replace('-', '_')}"] = _text(value)
        shell = given.get("shell", self._default("shell") or "")
        if shell not in SHELLS:
            known = ", ".join(each for each in SHELLS if each)
            self._findings.unsupported(
                (*path, "shell"), f"the shell {shell!r} is not supported", f"use one of {known}"
            )
            return
        identifier = given.get("id")
        label = given.get("name") or given.get("uses") or identifier or script.strip().splitlines()[0]
        try:
            condition = None if given.get("if") is None else condition_of(given["if"])
            writer.add(
                Step(
                    label=_text(label),
                    script=script,
                    prefix=step_variable(identifier, "") if isinstance(identifier, str) else "",
                    condition=condition,
                    environment=variables,
                    directory=given.get("working-directory", self._default("working-directory") or ""),
                    shell=shell if shell or not self._job.get("container") else "sh",
                    seconds=minutes(self._findings, (*path, "timeout-minutes"), given.get("timeout-minutes")),
                    goes_on=flag(self._findings, (*path, "continue-on-error"), given.get("continue-on-error")),
                )
            )
        except ExpressionError as error:
            self._findings.unsupported(path, str(error))
        if isinstance(identifier, str):
            self._values.steps.append(identifier)

    def _script_of_step(self, given: Mapping[str, Any], path: Path) -> str | None:
        action = given.get("uses")
        if action is None:
            if no_script(given.get("run")):
                self._findings.wrong(path, "a step has `run` or `uses`")
                return None
            return str(given["run"])
        if not isinstance(action, str):
            self._findings.wrong((*path, "uses"), "must be the name of an action")
            return None
        script = self._actions.get(action, self._actions.get(action.partition("@")[0]))
        if script is None:
            self._findings.unsupported(
                (*path, "uses"),
                f"the action {action!r} is a program of GitHub",
                f"give a script: --action {action.partition('@')[0]}='SCRIPT', or `:` to leave it out",
            )
        return script

    def _default(self, field: str) -> Any:
        for source in (self._job, self._workflow):
            defaults = source.get("defaults")
            run = defaults.get("run") if isinstance(defaults, dict) else None
            if isinstance(run, dict) and run.get(field):
                return run[field]
        return None

    # --- what is left out ----------------------------------------------------------------------------------

    def _check_fields(self) -> None:
        for name in self._job:
            if name not in _JOB_FIELDS:
                self._findings.unsupported(
                    (*self._path, name),
                    f"the field {name!r} cannot be converted",
                    _HINTS.get(name, "leave it out"),
                )
        for system in self._runners():
            if system.lower().startswith(_SYSTEMS):
                self._findings.unsupported(
                    (*self._path, "runs-on"),
                    f"{system!r}: jobs run in a POSIX shell",
                    "leave out what needs another system",
                )
            elif system.lower() == "self-hosted" or isinstance(self._job.get("runs-on"), list):
                self._findings.warn(
                    (*self._path, "runs-on"),
                    "labels of runners are left out",
                    "choose workers with `pool` or `requires`",
                )
        if "environment" in self._job:
            self._findings.warn(
                (*self._path, "environment"),
                "its protection rules are left out",
                "add a task with `wait: approval`",
            )

    def _runners(self) -> Iterator[str]:
        """The labels of runners, also those that are values of the matrix."""
        for label in names_of(self._findings, (*self._path, "runs-on"), _labels(self._job.get("runs-on"))):
            axis = str(only_reference(label) or "")
            if "${{" not in label:
                yield label
            elif self._strategy.combinations and axis.partition(".")[2] in self._strategy.axes:
                yield from dict.fromkeys(str(each[axis]) for each in self._strategy.combinations)
            else:
                yield "self-hosted"


def _labels(given: Any) -> Any:
    if isinstance(given, dict):
        return given.get("labels")
    return given


def _replaced(template: str, combination: Mapping[str, Any]) -> str:
    """A template with the values of one combination in place of its placeholders."""
    for name, value in combination.items():
        text = value if isinstance(value, str) else "" if value is None else compact_json(value)
        # Not within two pairs of braces, which stand for a literal text.
        template = literal(text).join(re.split(r"(?<!\{)\{" + re.escape(name) + r"\}(?!\})", template))
        if isinstance(value, dict):
            template = _replaced(template, {f"{name}.{key}": each for key, each in value.items()})
    return template


def _error_key(job: str) -> str:
    return f"{job}.error"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else compact_json(value)


def after_of(needs: Sequence[str], tasks: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The `after` of a task: the tasks of the jobs that it needs."""
    for each in needs:
        mark = "?" if each.endswith("?") else ""
        job = each.removesuffix("?")
        yield from (f"{job}/{task}{mark}" for task in tasks.get(job, ()))
