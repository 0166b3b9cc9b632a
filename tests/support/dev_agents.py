"""Agents of `anabranch dev` in tests: they log, fail, wait, and use a client of the system that runs them."""

from __future__ import annotations

import asyncio
import logging
import threading

from anabranch import Client, SyncClient, Task, agent


@agent("greet")
def greet(task: Task) -> str:
    task.log.info("greeting", extra={"who": task.inputs})
    logging.getLogger("letters").info("dear")
    return f"Hello {task.inputs}"


@agent("refuse")
def refuse(task: Task) -> None:
    logging.getLogger("orders").warning("no order")
    raise ValueError("no such order")


@agent("wait")
async def wait(task: Task) -> None:
    await asyncio.Event().wait()


def _request(name: str) -> dict[str, object]:
    task = {"name": "t", "agent": "echo", "inputs": name, "result_keys": ["k"]}
    return {"name": f"of {name}", "task_groups": [{"name": "inner", "tasks": [task]}]}


@agent("asks")
async def asks(task: Task) -> str:
    async with Client() as client:
        run = await client.submit(_request("asks"))
        return str((await run.result(30, check=True)).results["k"])


@agent("asks_in_a_thread")
def asks_in_a_thread(task: Task) -> str:
    with SyncClient() as client:
        return str(client.submit(_request("a thread")).result(30, check=True).results["k"])


@agent("asks_on_a_loop_of_its_own")
def asks_on_a_loop_of_its_own(task: Task) -> str:
    return asyncio.run(asks(task))


@agent("asks_in_a_thread_of_its_own")
def asks_in_a_thread_of_its_own(task: Task) -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(asks_in_a_thread(task)))
    thread.start()
    thread.join()
    return found[0]
