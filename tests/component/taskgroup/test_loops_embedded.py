"""Loops with real workers and a store: templates, large values, lists that the store has, delays."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import Any

from flow_runs import compare, order
from ordered_runs import finished, open_orders

from anabranch.core.request.flow import Loop
from anabranch.core.wire import messages as m
from anabranch.ports import Incoming
from anabranch.sdk.task import Task
from anabranch.testing import system

LARGE = 100_000


def loop(*needs: str, keys: tuple[str, ...] = ("draft", "g.loop"), **spec: Any) -> m.TaskOrder:
    return order("L", *needs, kind="loop", result_keys=keys, loop=Loop(**spec))


def body(name: str = "draft", *needs: str, **fields: Any) -> m.TaskOrder:
    names = ("iteration", "item", "state", "last")
    return order(name, *needs, in_loop="L", loop_names=names, **fields)


class Recorder:
    """An agent "a" that remembers its calls, and returns the number of the iteration."""

    def __init__(self, size: int = 0) -> None:
        self.calls: list[tuple[tuple[int, ...], Any, str]] = []
        self.size = size

    async def __call__(self, task: Task) -> Any:
        self.calls.append((task.iteration, task.message, task.idempotency_key))
        return {"n": task.iteration[-1], "text": "x" * self.size}

    def agents(self) -> dict[str, Any]:
        async def run(task: Task) -> Any:
            return await self(task)

        return {"a": run}


UNTIL = {"until": compare("draft.n", "greater_or_equal", 2)}


def test_templates_see_the_names_of_the_loop_and_idempotency_keys_differ() -> None:
    recorder = Recorder()
    with system(agents=recorder.agents()) as s:
        open_orders(s, {"g": [loop(**UNTIL), body(message_template="{iteration} after {last.draft.n}")]})
        ended = finished(s)

    assert [message for _, message, _ in recorder.calls] == ["0 after {last.draft.n}", "1 after 0", "2 after 1"]
    assert [iteration for iteration, _, _ in recorder.calls] == [(0,), (1,), (2,)]
    assert len({key for _, _, key in recorder.calls}) == 3
    assert ended.results["draft"] == {"n": 2, "text": ""}


def test_large_values_of_iterations_do_not_overwrite_each_other() -> None:
    recorder = Recorder(LARGE)
    with system(agents=recorder.agents()) as s:
        orders = [loop(collect="append", **UNTIL), body(message_template="{iteration} after {last.draft.n}")]
        open_orders(s, {"g": orders})
        finished(s)
        value = s.value("s", "draft")

    assert [(each["n"], len(each["text"])) for each in value] == [(0, LARGE), (1, LARGE), (2, LARGE)]
    # The condition and the templates read values that only the store has.
    assert [message for _, message, _ in recorder.calls][1:] == ["1 after 0", "2 after 1"]


def test_the_large_value_of_the_last_iteration_is_published_under_the_key_itself() -> None:
    with system(agents=Recorder(LARGE).agents()) as s:
        open_orders(s, {"g": [loop(**UNTIL), body()]})
        ended = finished(s)
        value = s.value("s", "draft")

    assert ended.results["draft"]["$anabranch"] == "s/draft"
    assert (value["n"], len(value["text"])) == (2, LARGE)


def test_a_list_in_the_store_is_read_some_items_at_a_time() -> None:
    seen: list[str] = []

    async def make(task: Task) -> list[str]:
        return [f"item {number} of a long list of texts" for number in range(3_000)]

    async def take(task: Task) -> None:
        seen.append(str(task.message))

    with system(agents={"make": make, "a": take}) as s:
        files = order("files").model_copy(update={"agent": "make"})
        orders = [files, loop("files", each="files", max_iterations=10_000), body(message_template="{item}")]
        open_orders(s, {"g": orders}, inline_limit=10_000)
        ended = finished(s)

    assert ended.results["g.loop"] == {"iterations": 3_000, "ended_by": "items"}
    assert seen == [f"item {number} of a long list of texts" for number in range(3_000)]


def test_a_delay_of_an_hour_takes_no_time_of_a_worker() -> None:
    recorder = Recorder()
    with system(agents=recorder.agents()) as s:
        open_orders(s, {"g": [loop(delay=3_600, **UNTIL), body()]})
        ended = finished(s, patience=20_000)
        assert s.elapsed >= 7_200

    assert ended.results["g.loop"] == {"iterations": 3, "ended_by": "condition"}


def test_many_collected_values_are_a_list_of_pages() -> None:
    with system(agents=Recorder(200).agents()) as s:
        spec = {"each": list(range(500)), "collect": "append", "max_iterations": 500}
        open_orders(s, {"g": [loop(**spec), body()]}, inline_limit=10_000)
        finished(s)
        value = s.value("s", "draft")

    assert [each["n"] for each in value] == list(range(500))


# --- long loops ----------------------------------------------------------------------------------


def request_of(iterations: int, task: dict[str, Any]) -> dict[str, Any]:
    spec = {"while": "iteration >= 0", "max_iterations": iterations, "on_limit": "complete"}
    return {"timeout": "10d", "task_groups": [{"name": "l", "loop": spec, "tasks": [task]}]}


def objects() -> Counter[type]:
    """The number of objects of each type. The log in memory keeps its records."""
    gc.collect()
    found = Counter(type(each) for each in gc.get_objects())
    del found[Incoming]
    return found


def test_a_thousand_iterations_leave_no_objects_behind() -> None:
    """A no-op of 50 ms, so that the owner's checks, which forget what has ended, run as on servers."""
    seen: dict[int, Counter[type]] = {}

    async def nothing(task: Task) -> None:
        await asyncio.sleep(0.05)
        if task.iteration[0] in (500, 1_500):
            seen[task.iteration[0]] = objects()

    with system(agents={"nothing": nothing}) as s:
        result = s.run(request_of(1_600, {"name": "t", "agent": "nothing"}))

    assert result.results["l.loop"] == {"iterations": 1_600, "ended_by": "limit"}
    grown = seen[1_500] - seen[500]
    assert grown.total() < 100, grown.most_common(5)


def test_ten_thousand_iterations_without_members_need_few_records() -> None:
    """Iterations of which the owner decides all are taken together, some dozens by each record."""
    with system() as s:
        ended = {"name": "t", "wait": {"until": "2020-01-01T00:00:00Z"}}
        result = s.run(request_of(10_000, ended))
        records = len(s.records("groups"))

    assert result.results["l.loop"] == {"iterations": 10_000, "ended_by": "limit"}
    assert records < 1_000
