"""`bench workflows`: one workflow of many tasks with many dependencies, again and again; from a file, or made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.layered import edge_count, layered
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import Document, single_request, workflow_request
from anabranch.cli.bench.submitting import Asker, Ended
from anabranch.core.request.admission import Limits, read_request
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.client import session_keys_of

FIRST_REQUESTS = 5
"""Single tasks, not counted: they open connections and load code."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A request and its size: declared tasks, and dependencies between them."""

    document: Document
    tasks: int
    edges: int
    source: str


def made(tasks: int, edges: int, layers: int) -> Workflow:
    """A workflow of this size. Raises Misconfigured where there is none."""
    graph = layered(tasks, edges, layers)
    source = f"{layers:,} layers, as the bench makes them"
    return Workflow(workflow_request(graph), tasks, edge_count(graph), source)


def from_document(document: Document, source: str, limits: Limits) -> Workflow:
    """The workflow of a request, in its canonical form without its id. Raises RequestRefused."""
    reading = read_request(document, limits=limits, session_keys=session_keys_of(document))
    canonical = reading.required().to_document()
    canonical.pop("request_id", None)
    return Workflow(canonical, *size_of(canonical), source)


def size_of(document: Document) -> tuple[int, int]:
    """How many tasks a request declares, and how many dependencies on what another of them produces."""
    tasks = [task for group in document["task_groups"] for task in group["tasks"]]
    produced = {key for task in tasks for key in task["result_keys"]}
    edges = sum(key.removesuffix("?") in produced for task in tasks for key in task.get("dependencies") or ())
    return len(tasks), edges


async def workflows(settings: Settings, options: BenchOptions, workflow: Workflow, repeat: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{repeat:,} times a workflow of {workflow.tasks:,} tasks and {workflow.edges:,} edges"
    return await run_bench(settings, options, words, partial(_measure, workflow=workflow, repeat=repeat))


async def _measure(asking: Asker, workflow: Workflow, repeat: int) -> Measurement:
    for _ in range(FIRST_REQUESTS):
        await asking.ask(single_request())
    return workflow_report(workflow, [await asking.ask(workflow.document) for _ in range(repeat)])


def workflow_report(workflow: Workflow, ended: Sequence[Ended]) -> Measurement:
    """The figures and the table. The run of the median time is drawn: when each of its results was published."""
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
        ("median run", milliseconds(middle.seconds), _others(by_time)),
        ("tasks a second", f"{workflow.tasks / middle.seconds:,.0f}", ""),
    ]
    spreads = [("result published", Distribution.of(middle.published))] if middle.published else []
    return Measurement("One large workflow", document, rows, spreads)


def _others(by_time: Sequence[Ended]) -> str:
    fastest, slowest = milliseconds(by_time[0].seconds), milliseconds(by_time[-1].seconds)
    return f"of {len(by_time)}, from {fastest} to {slowest}"
