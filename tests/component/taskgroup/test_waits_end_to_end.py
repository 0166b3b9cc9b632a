"""Waits in a whole system with virtual time: times, signals, people, retries."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from anabranch import DecisionRefused
from anabranch.cli.commands.run import RunOptions, run
from anabranch.core.names import run_id_for
from anabranch.embedded import embedded
from anabranch.runtime.process.settings import Settings
from anabranch.testing import system
from anabranch.testing.leaps import leaping
from anabranch.testing.loop import SeededIds, VirtualClock, VirtualLoop


def request_of(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"timeout": "500d", "task_groups": [{"name": "g", "tasks": list(tasks)}], **fields}


def test_a_wait_of_a_year_ends_in_virtual_time() -> None:
    async def play() -> tuple[Any, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        clock = VirtualClock(loop)
        async with (
            embedded(store="memory", clock=clock, ids=SeededIds(clock, 1)) as running,
            leaping(running, loop),
        ):
            handle = await running.client.submit(request_of({"name": "w", "wait": {"for": "365d"}}))
            return await handle.result(), loop.time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        result, took = runner.run(play())

    assert (result.status, result.results) == ("completed", {"w": None})
    assert 365 * 86_400 <= took < 365 * 86_400 + 60


@pytest.mark.parametrize("seconds", [60, 300, 600])
def test_time_does_not_leap_over_a_timer_that_has_just_fired(
    seconds: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Whole seconds, at which the system is looked at too.
    file = tmp_path / "request.yaml"
    file.write_text(
        yaml.safe_dump({"task_groups": [{"name": "g", "tasks": [{"name": "w", "wait": {"for": seconds}}]}]})
    )

    assert run(RunOptions(str(file), embedded=True, json=True, virtual_time=True), Settings()) == 0

    assert seconds <= orjson.loads(capfd.readouterr().out)["duration_seconds"] < seconds + 1


def test_the_command_runs_a_file_in_virtual_time_with_signals(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "request.yaml"
    late = {
        "name": "late",
        "wait": {"signal": "never", "timeout": "90d", "on_timeout": "value", "value": "too late"},
    }
    both = {
        "name": "both",
        "agent": "echo",
        "dependencies": ["paid", "late"],
        "message_template": "{paid.amount} {late}",
        "result_keys": ["both"],
    }
    file.write_text(yaml.safe_dump(request_of({"name": "paid", "wait": {"signal": "paid"}}, late, both)))
    options = RunOptions(str(file), embedded=True, json=True, signals=('paid={"amount": 5}',), virtual_time=True)

    assert run(options, Settings()) == 0

    found = orjson.loads(capfd.readouterr().out)
    assert found["results"]["both"] == "5 too late"
    assert found["duration_seconds"] >= 90 * 86_400


async def test_a_signal_before_its_run_is_not_lost() -> None:
    async with system() as s:
        await s.client.control("signal", request_id="r", name="go", value=[1, 2], signal_id="s1")
        await s.client.control("signal", request_id="r", name="go", value="other", signal_id="s1")

        result = await s.run(request_of({"name": "w", "wait": {"signal": "go"}}, request_id="r"))

        assert result.results == {"w": [1, 2]}


async def test_values_in_the_store_decide_what_members_wait_for() -> None:
    names = [{"name": f"n{number}", "text": "x" * 200} for number in range(30)]
    make = {"name": "make", "agent": "echo", "inputs": {"names": names}, "result_keys": ["made"]}
    wait = {
        "name": "w",
        "dependencies": ["made"],
        "expansion_config": {"type": "array", "array_mapping": {"item": "made.names"}},
        "wait": {"signal": "ready-{item.name}"},
    }
    async with system(inline_limit=500) as s:
        handle = await s.submit(request_of(make, wait))
        for number in reversed(range(30)):
            await handle.signal(f"ready-n{number}", number)

        result = await handle.result(timeout=60)

        assert result.results["w"] == list(range(30))


async def test_a_wait_compares_values_in_the_store() -> None:
    large = {"text": "x" * 100_000, "stage": "ready"}
    async with system(agents={"report": lambda task: large, "late": lambda task: 3}) as s:
        both = "report.stage == 'ready' && exists(n)"
        handle = await s.submit(
            request_of(
                {"name": "report", "agent": "report"},
                {"name": "n", "agent": "late", "after": ["report"]},
                {"name": "w", "wait": {"condition": both}},
                {"name": "open", "wait": {"condition": "report.missing > 3", "timeout": 5, "on_timeout": "skip"}},
                {"name": "odd", "wait": {"condition": "report.stage > 3"}, "error_key": "odd-error"},
            )
        )
        result = await handle.result()

    assert result.status == "completed"
    assert result.results["w"] is None
    assert [each["task"] for each in result.skipped] == ["open"]
    assert result.results["odd-error"]["error_type"] == "ConditionError"


async def test_people_decide_and_the_second_is_told_the_first() -> None:
    async with system() as s:
        first = {"name": "first", "wait": {"approval": {"subject": "Pay?"}}}
        other = {"name": "other", "wait": {"signal": "end"}}
        handle = await s.submit(request_of(first, other, request_id="r"))
        decision = await _decided(handle, "first", by="ann")
        assert (decision.ended, decision.group) == (True, "g")

        with pytest.raises(DecisionRefused) as refused:
            await handle.approve("first", "reject", by="bob")

        assert (refused.value.code, refused.value.stood and refused.value.stood["by"]) == ("decided", "ann")
        await handle.signal("end")
        result = await handle.result(timeout=60)
        assert result.results["first"]["decision"] == "approve"


async def test_a_retry_takes_over_waits_that_have_ended() -> None:
    async with system() as s:
        go = {"name": "go", "wait": {"signal": "go"}}
        late = {"name": "late", "wait": {"signal": "late", "timeout": 1}}
        handle = await s.submit(request_of(go, late, request_id="r"))
        await handle.signal("go", "once")
        assert (await handle.result(timeout=60)).status == "failed"

        again = await s.client.retry(run_id_for("r"), request_id="again")
        await again.signal("late", "in time")

        result = await again.result(timeout=60)
        assert result.results == {"go": "once", "late": "in time"}
        assert result.taken_over == 1


async def test_each_iteration_of_a_loop_waits_for_its_own_signal() -> None:
    body = [{"name": "w", "wait": {"signal": "go-{item}"}}, {"name": "c", "wait": {"condition": "iteration >= 0"}}]
    group = {"name": "g", "loop": {"each": ["a", "b", "c"], "collect": "append"}, "tasks": body}
    async with system() as s:
        handle = await s.submit({"task_groups": [group]})
        for name in "cab":
            await handle.signal(f"go-{name}", name.upper())

        result = await handle.result(timeout=60)

        assert (result.status, result.results["w"]) == ("completed", ["A", "B", "C"])


async def _decided(handle: Any, task: str, **more: Any) -> Any:
    """Decide once the task waits."""
    async for event in handle.events():
        if event["type"] == "task.waiting" and event["task"] == task:
            return await handle.approve(task, **more)
    raise AssertionError("the task never waited")
