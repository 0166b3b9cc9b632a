"""Agents of delivery.yaml: from a commit to production, without network and always with the same answers."""

from __future__ import annotations

from typing import Any

from anabranch import GiveUp, Task, agent


@agent("fetch sources")
def fetch_sources(task: Task) -> dict[str, Any]:
    """The sources of `inputs.repository` at `inputs.commit`."""
    return {"repository": task.inputs["repository"], "commit": task.inputs["commit"][:7]}


@agent("build image")
def build_image(task: Task) -> str:
    """Build an image; its name has the commit."""
    return f"{task.inputs['repository']}:{task.inputs['commit']}"


@agent("run tests")
def run_tests(task: Task) -> dict[str, Any]:
    """Run one suite. The suites in `inputs.red` fail, which no further attempt changes."""
    if task.inputs["suite"] in task.inputs["red"]:
        raise GiveUp(f"2 of 40 {task.inputs['suite']} tests failed")
    return {"suite": task.inputs["suite"], "tests": 40}


@agent("install")
def install(task: Task) -> dict[str, str]:
    """Install an image in an environment."""
    return {"environment": task.inputs["environment"], "image": task.inputs["image"]}


@agent("measure")
def measure(task: Task) -> dict[str, Any]:
    """The share of requests that failed since the installation: it sinks from look to look to `inputs.floor`."""
    look = task.iteration[-1]
    return {"look": look, "errors": max(task.inputs["floor"], 8 - 4 * look)}


@agent("reinstall")
def reinstall(task: Task) -> dict[str, str]:
    """Install the image that was there before."""
    print(f"production is back at the image before {task.inputs['image']}", flush=True)
    return {"replaced": task.inputs["image"]}
