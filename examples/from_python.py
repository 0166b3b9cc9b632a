"""Agents, a request and a run in one file: `python from_python.py`."""

from __future__ import annotations

import asyncio

from anabranch import Expansion, Registry, Request, Task, TaskGroup, TaskSpec, agent
from anabranch.embedded import embedded
from anabranch.runtime.process.settings import Settings


@agent("square")
def square(task: Task) -> int:
    return int(task.inputs["number"]) ** 2


@agent("add")
def add(task: Task) -> dict[str, int]:
    squares = task.context["squares"]
    return {"sum": sum(squares), "largest": max(squares)}


REQUEST = Request(
    name="squares",
    context={"numbers": list(range(1, 101))},
    task_groups=(
        TaskGroup(
            name="squares",
            tasks=(
                TaskSpec(
                    name="square",
                    agent="square",
                    dependencies=("numbers",),
                    inputs={"number": "{number}"},
                    expansion_config=Expansion(type="array", array_mapping={"number": "numbers"}),
                    result_keys=("squares",),
                ),
                TaskSpec(name="add", agent="add", dependencies=("squares",), result_keys=("sum", "largest")),
            ),
        ),
    ),
)


async def main() -> None:
    registry = Registry().add(square).add(add)
    async with embedded(registry, Settings()) as system:
        run = await system.client.submit(REQUEST)
        async for event in run.events():
            if event["index"] is None:
                print(event["type"], event["task"] or event["group"] or "")
        result = await run.result(check=True)
    print(f"sum {result.results['sum']}, largest {result.results['largest']}")


if __name__ == "__main__":
    asyncio.run(main())
