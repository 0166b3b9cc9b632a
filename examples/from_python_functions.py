"""Functions as tasks: a parameter is a key that the task needs, the returned value is the key of its name.

`python from_python_functions.py` runs it in this process. A worker with `--agents from_python_functions` has
the same functions as agents, and `anabranch run` takes what `python from_python_functions.py --print` prints.
"""

from __future__ import annotations

import asyncio
import json
import sys

from anabranch import Task, WorkflowBuilder
from anabranch.embedded import embedded

flow = WorkflowBuilder("letters", context={"names": ["Ada", "Grace", "Barbara"], "goal": 12})


@flow.task(each={"name": "names"})
def letter(name: str, task: Task) -> str:
    """One member for each name."""
    task.log.info("writes to %s", name)
    return f"Dear {name}"


@flow.task
def length(letter: list[str]) -> int:
    """Joins all letters."""
    return sum(map(len, letter))


@flow.task
async def longest(letter: list[str]) -> str:
    """Runs beside `length`: both need the letters only."""
    return max(letter, key=len)


with flow.loop("growing", until="size >= goal", state={"size": 0}, max_iterations=20):

    @flow.task(inputs={"size": "{state.size}"}, result_keys=["size"])
    def grow(size: int, length: int, iteration: int) -> int:
        """Writes the state `size`, and reads the one before."""
        return size + length // (iteration + 4)


@flow.task
def report(length: int, longest: str, size: int, greeting: str = "none") -> str:
    """`greeting` is an optional key: nobody gives it, so it has its default."""
    return f"{length} letters, longest {longest!r}, size {size}, greeting {greeting}"


async def main() -> None:
    async with embedded(flow.registry()) as system:
        run = await system.client.submit(flow.build())
        print((await run.result(check=True)).results["report"])


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(json.dumps(flow.build(), indent=2))
    else:
        asyncio.run(main())
