"""`bench workflows`: repeated runs of one workflow with many tasks and dependencies, from a file or generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from anabranch.cli.bench.client import BenchClient, MeasuredRun
from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.layered import edge_count, layered
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import Document, single_request, workflow_request
from anabranch.core.request.admission import Limits, read_request
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.client import session_keys_of

WARM_UP_REQUESTS = 5
"""Warm-up requests of one task, which open connections and load code; not counted."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A request and its size: number of declared tasks, and of dependencies between them."""

    document: Document
    tasks: int
    edges: int
    source: str


def generated(tasks: int, edges: int, layers: int) -> Workflow:
    """Generate a workflow of this size. Raises Misconfigured if no such graph exists."""
    graph = layered(tasks, edges, layers)
    source = f"generated, {layers:,} layers"
    return Workflow(workflow_request(graph), tasks, edge_count(graph), source)


def from_document(document: Document, source: str, limits: Limits) -> Workflow:
    """The workflow of a request, in canonical form and without its id. Raises RequestRefused."""
    validation = read_request(document, limits=limits, session_keys=session_keys_of(document))
    canonical = validation.required().to_document()
    canonical.pop("request_id", None)  # each run needs an id of its own
    return Workflow(canonical, *size_of(canonical), source)


def size_of(document: Document) -> tuple[int, int]:
    """Number of declared tasks, and number of their dependencies on keys that other tasks produce."""
    tasks = [task for group in document["task_groups"] for task in group["tasks"]]
    produced = {key for task in tasks for key in task["result_keys"]}
    edges = sum(key.removesuffix("?") in produced for task in tasks for key in task.get("dependencies") or ())
    return len(tasks), edges


async def workflows(settings: Settings, options: BenchOptions, workflow: Workflow, repeat: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{repeat:,} runs of a workflow with {workflow.tasks:,} tasks and {workflow.edges:,} edges"
    return await run_bench(settings, options, words, partial(_measure, workflow=workflow, repeat=repeat))


async def _measure(client: BenchClient, workflow: Workflow, repeat: int) -> Measurement:
    for _ in range(WARM_UP_REQUESTS):
        await client.run(single_request())
    return workflow_report(workflow, [await client.run(workflow.document) for _ in range(repeat)])


def workflow_report(workflow: Workflow, ended: Sequence[MeasuredRun]) -> Measurement:
    """The figures and the table. The distribution is that of the median run: when its results were published."""
    by_time = sorted(ended, key=lambda each: each.seconds)
    middle = by_time[(len(by_time) - 1) // 2]
    document = {
        "tasks": workflow.tasks,
        "edges": workflow.edges,
        "members": middle.members,
        "seconds": round(middle.seconds, 4),
        "tasks_per_second": round(workflow.tasks / middle.seconds, 1),
        "edges_per_second": round(workflow.edges / middle.seconds, 1),
        "repeats": [round(each.seconds, 4) for each in ended],
    }
    rows = [
        ("workflow", f"{workflow.tasks:,} tasks", f"{workflow.edges:,} edges, {workflow.source}"),
        ("median run", milliseconds(middle.seconds), _range_of(by_time)),
        ("tasks per second", f"{workflow.tasks / middle.seconds:,.0f}", ""),
    ]
    spreads = [("result published", Distribution.of(middle.published))] if middle.published else []
    return Measurement("One large workflow", document, rows, spreads)


def _range_of(by_time: Sequence[MeasuredRun]) -> str:
    fastest, slowest = milliseconds(by_time[0].seconds), milliseconds(by_time[-1].seconds)
    return f"of {len(by_time)}, from {fastest} to {slowest}"
