"""Members with large rendered templates: their estimated size, and how many run at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from anabranch import Task, agent
from anabranch.core.templates import MAX_RENDERED, RenderedTooLarge, compile_template, render
from anabranch.testing import system
from anabranch_taskgroup.worker.template_memory import LIGHT, TemplateMemory, Weight

MB = 1_000_000


def weight(template: Any, context: dict[str, Any], *, typed: bool = False) -> Weight:
    return Weight.of([compile_template(template, typed=typed)], context)


@pytest.mark.parametrize(
    ("template", "context", "expected"),
    [
        ("no place", {}, Weight(0, 0)),
        ("Hello {name}", {}, Weight(0, 1)),
        ("{big}", {"big": "x" * MB}, Weight(MB, 0)),
        ("{big}{big} {name} {big}", {"big": "x" * MB}, Weight(3 * MB, 1)),
        ({"a": ["{big}!", {"b": "{name}{name}"}]}, {"big": ["x" * 10]}, Weight(14, 2)),
        ("{big}", {"big": "\u65e5" * 10}, Weight(40, 0)),
        ("{{big}}", {"big": "x" * MB}, Weight(0, 0)),
    ],
)
def test_the_weight_of_templates_is_that_of_their_placeholders_values(
    template: Any, context: Any, expected: Weight
) -> None:
    assert weight(template, context) == expected


def test_a_value_with_its_type_weighs_nothing() -> None:
    assert weight({"a": "{big}"}, {"big": "x" * MB}, typed=True) == Weight(0, 0)


def test_a_value_of_many_placeholders_is_converted_to_text_once() -> None:
    class Counted(dict[str, Any]):
        reads = 0

        def get(self, name: str, default: Any = None) -> Any:
            self.reads += 1
            return super().get(name, default)

    context = Counted(big="x" * MB)

    assert weight("{big}" * 10_000, context) == Weight(10_000 * MB, 0)
    assert context.reads == 1


def test_only_heavy_members_are_counted() -> None:
    assert Weight(LIGHT, 0).of_members(10 * MB, None) == 0
    assert Weight(LIGHT + 1, 0).of_members(0, None) == LIGHT + 1
    assert Weight(0, 3).of_members(100_000, {"a": ["x"]}) == 0
    assert Weight(0, 10).of_members(MB, {"a": ["x" * 1_000] * 1_000}) == 0
    assert Weight(0, 10).of_members(MB, {"a": ["x", "x" * MB]}) == 10 * MB
    assert Weight(10**12, 0).of_members(0, None) == 3 * MAX_RENDERED


def test_a_text_is_bounded_in_bytes_of_memory() -> None:
    quarter = MAX_RENDERED // 4
    assert len(render("{a}{a}", {"a": "x" * quarter})) == 2 * quarter
    with pytest.raises(RenderedTooLarge, match=f"{MAX_RENDERED:,} bytes"):
        render("{a}{b}", {"a": "x" * quarter, "b": "\U0001f600"})


async def test_waiting_members_are_served_in_order_and_may_be_cancelled() -> None:
    memory, served = TemplateMemory(10), []

    async def member(name: str, size: int, until: asyncio.Event) -> None:
        async with memory.hold(size):
            served.append(name)
            await until.wait()

    go, stay = asyncio.Event(), asyncio.Event()
    tasks = [
        asyncio.create_task(member(name, size, go)) for name, size in (("a", 6), ("b", 6), ("c", 1), ("d", 5))
    ]
    for _ in range(5):
        await asyncio.sleep(0)
    assert served == ["a"]
    tasks[1].cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert served == ["a", "c"]
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == ["a", "c", "d"]
    last = asyncio.create_task(member("all", 10, stay))
    await asyncio.sleep(0)
    assert served[-1] == "all"
    stay.set()
    await last


async def test_memory_of_a_member_that_is_cancelled_as_it_is_admitted_goes_to_the_next() -> None:
    memory = TemplateMemory(1)
    first, second = memory.hold(1), asyncio.create_task(_held(memory))
    async with first:
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)

    async with asyncio.timeout(5), memory.hold(1):
        pass


async def _held(memory: TemplateMemory) -> None:
    async with memory.hold(1):
        pass


def test_members_with_large_texts_run_a_few_at_once() -> None:
    at_once, peak = 0, 0

    @agent("large")
    async def large(task: Task) -> int:
        nonlocal at_once, peak
        at_once += 1
        peak = max(peak, at_once)
        await asyncio.sleep(1)
        at_once -= 1
        return len(task.message or "")

    task = {
        "name": "t",
        "agent": "large",
        "result_keys": ["k"],
        "message_template": "{big}" * 50,
        "expansion_config": {"type": "array", "array_mapping": {"n": list(range(12))}},
    }
    request = {"context": {"big": "x" * 800_000}, "task_groups": [{"name": "g", "tasks": [task]}]}
    with system(agents=[large]) as running:
        result = running.run(request)

    assert result.results["k"] == [40 * MB] * 12
    assert 1 <= peak <= 6
