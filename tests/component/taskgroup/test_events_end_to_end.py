"""Waits for published events in a whole system with virtual time."""

from __future__ import annotations

from typing import Any

from anabranch import Task
from anabranch.testing import system


def request_of(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"timeout": "500d", "task_groups": [{"name": "g", "tasks": list(tasks)}], **fields}


def waits(name: str, key: str | int = "k", **more: Any) -> dict[str, Any]:
    """A task that waits for the event `paid`; `event` adds fields of the event."""
    return {"name": name, "wait": {"event": {"name": "paid", "key": key, **more.pop("event", {})}, **more}}


async def publish(s: Any, data: Any = None, key: str = "k", **more: Any) -> None:
    await s.client.control("event", name="paid", key=key, data=data, **more)


async def has_opened(handle: Any, count: int = 1) -> None:
    """Return once so many waits of the run are open."""
    async for event in handle.events():
        count -= event["type"] == "task.waiting"
        if not count:
            return


async def test_an_event_before_its_wait_is_its_value() -> None:
    async with system() as s:
        await publish(s, {"amount": 5}, key="order-7", id="e1")

        result = await s.run(request_of(waits("w", "{order}"), context={"order": "order-7"}), timeout=60)

        assert (result.status, result.results) == ("completed", {"w": {"amount": 5}})


async def test_the_number_of_a_key_is_the_text_that_a_template_makes_of_it() -> None:
    async with system() as s:
        await s.client.publish("paid", 4711, "first")
        await s.client.publish("paid", "4711", "second")
        tasks = [waits("literal", 4711), waits("template", "{order}")]

        result = await s.run(request_of(*tasks, context={"order": 4711}), timeout=60)

        assert sorted(result.results.values()) == ["first", "second"]


async def test_an_event_ends_the_wait_of_each_run_and_says_so() -> None:
    async with system() as s:
        handles = [await s.submit(request_of(waits("w"))) for _ in range(3)]
        for handle in handles:
            await has_opened(handle)

        await publish(s, "now", id="e1")

        for handle in handles:
            assert (await handle.result(timeout=60)).results == {"w": "now"}
        ended = [event async for event in handles[0].events() if event["type"] == "task.completed"]
        assert [(event["ended_by"], event["event_id"]) for event in ended] == [("event", "e1")]


async def test_of_runs_that_share_events_one_gets_each() -> None:
    async with system() as s:
        handles = []
        for _ in range(3):
            handles.append(await s.submit(request_of(waits("w", event={"deliver": "one"}))))
            await has_opened(handles[-1])

        for number in range(3):
            await publish(s, number)

        assert [(await handle.result(timeout=60)).results["w"] for handle in handles] == [0, 1, 2]


async def test_two_events_at_once_are_two_events() -> None:
    async with system() as s:
        handle = await s.submit(request_of(waits("a"), waits("b")))
        await has_opened(handle, 2)

        await publish(s, 1)
        await publish(s, 2)

        assert (await handle.result(timeout=60)).results == {"a": 1, "b": 2}


async def test_the_same_id_is_the_same_event() -> None:
    async with system() as s:
        for number in range(3):
            await publish(s, number, id="once")
        await publish(s, "other", id="twice")

        result = await s.run(request_of(waits("a"), waits("b")), timeout=60)

        assert result.results == {"a": 0, "b": "other"}


async def test_a_condition_over_the_data_chooses_the_event() -> None:
    async with system() as s:
        for amount in (5, 50):
            await publish(s, {"amount": amount})

        result = await s.run(request_of(waits("w", event={"when": "amount >= 10"})), timeout=60)

        assert result.results == {"w": {"amount": 50}}


async def test_an_event_that_does_not_fit_the_schema_leaves_the_wait_open() -> None:
    async with system() as s:
        handle = await s.submit(request_of(waits("w", schema={"type": "object"})))
        await has_opened(handle)
        await publish(s, "text")
        await publish(s, {})

        assert (await handle.result(timeout=60)).results == {"w": {}}
        types = [event["type"] async for event in handle.events()]
        assert types.count("event.refused") == 1


async def test_several_events_are_collected() -> None:
    async with system() as s:
        await publish(s, 1)
        handle = await s.submit(request_of(waits("w", collect=3)))
        await publish(s, 2)
        await publish(s, 3)

        assert (await handle.result(timeout=60)).results == {"w": [1, 2, 3]}


async def test_an_iteration_does_not_see_what_the_one_before_took() -> None:
    group = {"name": "g", "loop": {"each": [0, 1, 2], "collect": "append"}, "tasks": [waits("w")]}
    async with system() as s:
        await publish(s, "a")
        handle = await s.submit({"task_groups": [group]})
        await publish(s, "b")
        await publish(s, "c")

        assert (await handle.result(timeout=60)).results["w"] == ["a", "b", "c"]


async def test_each_member_waits_for_the_event_of_its_key() -> None:
    each = {"type": "array", "array_mapping": {"order": ["x", "y", "z"]}}
    task = {**waits("w", "{order}"), "expansion_config": each}
    async with system() as s:
        handle = await s.submit(request_of(task))
        await has_opened(handle)
        for key in "zyx":
            await publish(s, key.upper(), key=key)

        assert (await handle.result(timeout=60)).results["w"] == ["X", "Y", "Z"]


async def test_a_wait_that_timed_out_leaves_the_event_to_the_next() -> None:
    short = waits("short", timeout=5, on_timeout="value", value="late")
    later = {**waits("later"), "after": ["short"]}
    async with system() as s:
        handle = await s.submit(request_of(short, later))
        async for event in handle.events():
            if event["type"] == "task.completed":
                break
        await publish(s, "here")

        assert (await handle.result(timeout=60)).results == {"short": "late", "later": "here"}


async def test_events_are_accepted_while_a_run_is_paused() -> None:
    async with system() as s:
        handle = await s.submit(request_of(waits("w")))
        await has_opened(handle)
        await handle.pause()
        await publish(s, 1)

        assert (await handle.result(timeout=60)).results == {"w": 1}


async def test_a_retry_takes_over_what_an_event_gave() -> None:
    async with system() as s:
        await publish(s, "once")
        late = {"name": "late", "wait": {"signal": "late", "timeout": 1}}
        handle = await s.submit(request_of(waits("w"), late))
        assert (await handle.result(timeout=60)).status == "failed"

        again = await s.client.retry(handle.run_id, request_id="again")
        await again.signal("late", "now")

        assert (await again.result(timeout=60)).results == {"w": "once", "late": "now"}


async def test_a_cancelled_run_gives_its_place_to_the_next() -> None:
    async with system() as s:
        first, second = [await s.submit(request_of(waits("w", event={"deliver": "one"}))) for _ in range(2)]
        for handle in (first, second):
            await has_opened(handle)
        await first.cancel()
        await first.result(timeout=60)

        await publish(s, "x")

        assert (await second.result(timeout=60)).results == {"w": "x"}


async def test_projects_do_not_share_events() -> None:
    async with system() as s:
        handle = await s.submit(request_of(waits("w", timeout=5), project="shop"))
        await publish(s, "of the default project")
        assert (await handle.result(timeout=60)).status == "failed"

        await publish(s, "mine", project="shop")
        result = await s.run(request_of(waits("w"), project="shop"), timeout=60)
        assert result.results == {"w": "mine"}


async def test_the_agent_emit_publishes_once_however_often_it_is_attempted() -> None:
    emit = {"name": "emit", "agent": "emit", "inputs": {"name": "paid", "key": "k", "data": {"n": 1}}}
    async with system() as s:
        handle = await s.submit(request_of(waits("w"), emit, project="shop"))

        result = await handle.result(timeout=60)

        assert result.results["w"] == {"n": 1}
        again = waits("again", timeout=5, on_timeout="value", value="nothing")
        late = await s.run(request_of(waits("w"), again, project="shop"), timeout=60)
        assert late.results == {"w": {"n": 1}, "again": "nothing"}


async def test_an_invalid_event_fails_its_task_for_good() -> None:
    emit = {"name": "emit", "agent": "emit", "inputs": {"key": "k"}, "retry": {"strategy": "immediate"}}
    async with system() as s:
        result = await s.run(request_of(emit), timeout=60)

        [failure] = result.failures
        assert (failure["attempts"], "inputs.name" in failure["message"]) == (1, True)


async def test_large_data_of_an_event_is_a_large_value() -> None:
    async with system() as s:
        await publish(s, ["x" * 1_000] * 400)
        measure = {"name": "m", "agent": "echo", "inputs": {"size": "{w.0}"}, "dependencies": ["w"]}

        result = await s.run(request_of(waits("w"), measure), timeout=60)

        assert result.results == {"w": ["x" * 1_000] * 400, "m": {"size": "x" * 1_000}}


async def test_an_agent_publishes_several_events_by_ids_of_their_own() -> None:
    async def tell(task: Task) -> list[str]:
        return [
            await task.publish("paid", "k", number, id=f"{task.idempotency_key}-{number}") for number in range(2)
        ]

    async with system(agents={"tell": tell}) as s:
        told = {"name": "told", "agent": "tell"}

        result = await s.run(request_of(waits("a"), waits("b"), told), timeout=60)

        assert [result.results["a"], result.results["b"]] == [0, 1]
        assert len(set(result.results["told"])) == 2
