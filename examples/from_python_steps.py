"""The request of delivery.yaml, built in Python. `python from_python_steps.py` runs it, and approves."""

from __future__ import annotations

import asyncio

import delivery_agents

from anabranch import Registry, WorkflowBuilder
from anabranch.embedded import embedded

WHO_WATCHES = "The trial has {health.errors} % errors after {watch.loop.iterations} looks."


def delivery(trial: str = "1m", rest: str = "10m") -> WorkflowBuilder:
    """From a commit to production; `trial`: between two looks at the trial, `rest`: before the last check."""
    flow = WorkflowBuilder(
        "delivery",
        timeout="5d",
        context={"repository": "ferry", "commit": "9f3c2ab41d", "red": [], "floor": 0},
    )
    sources = flow.add_task(
        "fetch",
        agent=delivery_agents.fetch_sources,
        inputs={"repository": "{repository}", "commit": "{commit}"},
        retry={"strategy": "exponential", "delay": "2s", "max_attempts": 4},
        result_keys=["sources"],
    )
    image = flow.add_task(
        "build",
        agent=delivery_agents.build_image,
        inputs={"repository": sources.value("repository"), "commit": sources.value("commit")},
        result_keys=["image"],
    )
    with flow.parallel():
        for suite in ("unit", "contract", "security"):
            tested = {"suite": suite, "image": image.value(), "red": "{red}"}
            flow.add_task(suite, agent=delivery_agents.run_tests, inputs=tested)
    flow.add_task(
        "try out", agent=delivery_agents.install, inputs={"environment": "trial", "image": image.value()}
    )
    with flow.loop("watch", until="health.errors <= 1", delay=trial, max_iterations=10):
        flow.add_task("look", agent=delivery_agents.measure, inputs={"floor": "{floor}"}, result_keys=["health"])
    flow.add_wait(
        "release",
        approval={"subject": "Release {image}?", "body": WHO_WATCHES, "on_reject": "fail"},
        timeout="3d",
    )
    flow.add_task(
        "production",
        agent=delivery_agents.install,
        inputs={"environment": "production", "image": image.value()},
        compensate={"agent": "reinstall", "inputs": {"image": "{result.production.image}"}},
    )
    flow.add_wait("settle", for_=rest)
    final = {"suite": "production", "image": image.value(), "red": "{red}"}
    flow.add_task("final check", agent=delivery_agents.run_tests, inputs=final)
    with flow.finally_():
        flow.add_task("tell", agent="echo", message_template="delivery of {commit}: {run.status}")
    return flow


async def main() -> None:
    registry = Registry.builtin().add(delivery_agents)
    async with embedded(registry) as system:
        run = await system.client.submit(delivery(trial="10ms", rest="10ms").build())
        async for event in run.events():
            if event["type"] == "task.waiting" and event["reason"] == "approval":
                print(event["approval"]["subject"])
                await run.approve("release", by="Ada")
        print((await run.result(check=True)).results["tell"])


if __name__ == "__main__":
    asyncio.run(main())
