"""Agents of the files step_*.yaml: a small build server that needs no network and always answers the same."""

from __future__ import annotations

from typing import Any

from anabranch import Task, agent


@agent("compile")
def compile_sources(task: Task) -> dict[str, Any]:
    """Compile `inputs.package`; a package without a name is refused."""
    package = task.inputs["package"]
    if not package:
        raise ValueError("the package has no name")
    return {"package": package, "file": f"{package}.tar"}


@agent("check")
def check(task: Task) -> dict[str, Any]:
    """Run the checks `inputs.suite` of an archive; suites in `inputs.broken` fail."""
    suite, broken = task.inputs["suite"], task.inputs.get("broken", [])
    if suite in broken:
        raise RuntimeError(f"the {suite} checks of {task.inputs['file']} found a mistake")
    return {"suite": suite, "status": "passed"}


@agent("probe")
def probe(task: Task) -> dict[str, Any]:
    """Ask a service whether it is up. It is from the iteration `inputs.up_after` on."""
    return {"up": task.iteration[-1] >= task.inputs["up_after"]}
