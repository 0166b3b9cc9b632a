"""Sub-runs through the whole system: results, failures, cancels, pauses, depth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from owner_changes import Installation
from small_requests import array, request, task

from anabranch import Task
from anabranch.core.names import Names, child_request_id, run_id_for
from anabranch.ports import Outgoing
from anabranch.testing import System, system

Start = Callable[..., System]


async def length(task: Task) -> Any:
    return len(task.inputs)


async def naps(task: Task) -> Any:
    await asyncio.sleep(float(task.inputs))
    return task.name


async def fails(task: Task) -> Any:
    raise ValueError(str(task.inputs))


NAMES = Names()
AGENTS = {"length": length, "naps": naps, "fails": fails}


def starts(name: str = "child", *, inner: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A task that starts a run with these tasks."""
    run = {name: fields.pop(name) for name in ("context", "session", "on_parent_end", "outputs") if name in fields}
    child = {"task_groups": [{"name": "inner", "tasks": inner}]}
    return {"name": name, "run": {"request": child, **run}, "result_keys": [name], **fields}


def test_the_results_of_a_sub_run_are_the_value(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    inner = [task("a", "echo", inputs="{word}"), task("b", "echo", inputs={"seen": "{a}"}, dependencies=["a"])]
    run = s.submit(
        request(
            starts(inner=inner, context={"word": "{greeting} you"}, dependencies=["greeting"]),
            task("after", "echo", inputs="{child.b.seen}!", dependencies=["child"]),
            context={"greeting": "hello"},
        )
    )

    result = run.result()

    assert result.status == "completed"
    assert result.results["child"] == {"a": "hello you", "b": {"seen": "hello you"}}
    assert result.results["after"] == "hello you!"
    started = [each for each in run.events() if each["type"] == "task.started" and each["task"] == "child"]
    assert [each["child_run_id"] for each in started] == [
        run_id_for(child_request_id(result.run_id, "g", "child", 0))
    ]


def child_of(run: Any, name: str = "child", index: int = 0, attempt: int = 1) -> str:
    return run_id_for(child_request_id(run.run_id, "g", name, index, (), attempt))


def final_of(s: System, run_id: str) -> dict[str, Any] | None:
    """The body of the final record of a run; each repetition has to be the same."""
    found = [json.loads(each.value) for each in s.records("results") if each.key == run_id.encode()]
    finals = [body for body in found if "failures" in body]
    assert all(body == finals[0] for body in finals)
    return finals[0] if finals else None


def test_each_member_has_a_sub_run_of_its_own(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    inner = [task("a", "echo", inputs="{n}")]
    run = s.submit(
        request(
            starts(
                inner=inner,
                context={"n": "{item}"},
                dependencies=["numbers"],
                expansion_config=array("numbers"),
                max_concurrency=2,
            ),
            context={"numbers": [1, 2, 3, 4, 5]},
        )
    )

    result = run.result()

    assert result.results["child"] == [{"a": n} for n in [1, 2, 3, 4, 5]]
    assert {final_of(s, child_of(run, index=index))["status"] for index in range(5)} == {"completed"}


def test_outputs_and_several_result_keys_select_results(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    inner = [task("a", "echo", inputs=1), task("b", "echo", inputs=2)]
    some = starts("some", inner=inner, outputs=["b"])
    both = {**starts("both", inner=inner), "result_keys": ["a", "b"]}

    result = s.run(request(some, both))

    assert result.results == {"some": {"b": 2}, "a": 1, "b": 2}


def test_large_results_are_readable_in_the_session_of_the_parent(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    text = "x" * 200_000
    inner = [task("a", "echo", inputs=text), task("b", "echo", inputs=1)]
    after = task("after", "length", inputs="{child.a}", dependencies=["child"])

    result = s.run(request(starts(inner=inner), after))

    assert result.results["after"] == len(text)
    assert result.results["child"] == {"a": text, "b": 1}


def test_large_arrays_and_values_of_the_parent_reach_its_sub_runs(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    items = [f"{n}" * 2_000 for n in range(50)]
    fan = starts(
        inner=[task("a", "length", inputs="{text}")],
        context={"text": "{item}"},
        dependencies=["items"],
        expansion_config=array("items", output_format="separate", identifiers={"who": "{index}"}),
    )

    result = s.run(request(task("items", "echo", inputs=items), fan))

    assert result.status == "completed"
    assert result.results["child"] == {str(n): {"a": len(items[n])} for n in range(50)}


def test_a_failed_sub_run_fails_its_member_with_the_reason(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    run = s.submit(request(starts(inner=[task("a", "fails", inputs="no luck")])))

    result = run.result()

    assert result.status == "failed"
    [failure] = result.failures
    assert failure["error_type"] == "SubRunFailed"
    assert child_of(run) in failure["message"]
    assert "inner/a: ValueError: no luck" in failure["message"]


def test_a_failed_sub_run_is_run_again_as_another_one(anabranch_system: Start) -> None:
    tries: list[str] = []

    async def second_time(task: Task) -> Any:
        tries.append(task.run_id)
        if len(tries) == 1:
            raise ValueError("first")
        return "ok"

    s = anabranch_system(agents={"second_time": second_time})
    retry = {"strategy": "fixed", "delay": "10s", "max_attempts": 3}
    run = s.submit(request(starts(inner=[task("a", "second_time")], retry=retry)))

    result = run.result()

    assert result.results["child"] == {"a": "ok"}
    assert tries == [child_of(run), child_of(run, attempt=2)]
    assert s.elapsed >= 10


def test_a_rejected_request_fails_its_member_with_the_errors(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)

    # With a placeholder, so that the name is not known at admission.
    inner = [{**task("a", "echo"), "agent": "{who}"}]
    result = s.run(request(starts(inner=inner, dependencies=["who"]), context={"who": "nobody"}))

    [failure] = result.failures
    assert failure["error_type"] == "SubRunRejected"
    assert "there is no agent 'nobody'" in failure["message"]


def test_a_sub_run_that_is_cancelled_from_outside_cancels_its_task(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    run = s.submit(request(starts(inner=[task("a", "naps", inputs="1000")])))
    s.advance(10)
    cancel(s, child_of(run))

    result = run.result()

    assert result.status == "failed"
    assert [each["error_type"] for each in result.failures] == ["SubRunCancelled"]
    assert "task.cancelled" in {each["type"] for each in run.events()}


def cancel(s: System, run_id: str) -> None:
    record(s, {"type": "cancel", "run_id": run_id})


def record(s: System, document: dict[str, Any]) -> None:
    s.wait(s.embedded.client.log.publish([Outgoing(NAMES.requests, None, json.dumps(document).encode())]))


def test_a_cancel_reaches_sub_runs_and_the_parent_ends_after_them(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    deep = starts("deep", inner=[task("a", "naps", inputs="1000")])
    run = s.submit(request(starts(inner=[deep])))
    s.advance(10)

    run.cancel()
    result = run.result()

    assert result.status == "cancelled"
    child = child_of(run)
    grandchild = run_id_for(child_request_id(child, "inner", "deep", 0))
    ends = [final_of(s, each) for each in (grandchild, child, run.run_id)]
    assert [end["status"] for end in ends] == ["cancelled"] * 3
    assert [end["ended_at"] for end in ends] == sorted(end["ended_at"] for end in ends)


def test_an_abandoned_sub_run_goes_on(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    run = s.submit(request(starts(inner=[task("a", "naps", inputs="1000")], on_parent_end="abandon")))
    s.advance(10)

    run.cancel()

    assert run.result().status == "cancelled"
    assert final_of(s, child_of(run)) is None
    s.advance(1_000)
    assert final_of(s, child_of(run))["status"] == "completed"


def test_a_sub_run_that_is_abandoned_while_paused_goes_on(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    inner = [task("a", "naps", inputs="10"), task("b", "naps", inputs="10", dependencies=["a"])]
    run = s.submit(request(starts(inner=inner, on_parent_end="abandon")))
    s.advance(5)
    run.pause()
    s.advance(30)

    run.cancel()

    assert run.result().status == "cancelled"
    s.advance(60)
    assert final_of(s, child_of(run))["status"] == "completed"


def test_a_timeout_of_the_parent_cancels_its_sub_runs(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    run = s.submit(request(starts(inner=[task("a", "naps", inputs="1000")]), timeout="30s"))

    assert run.result().status == "timed_out"
    assert final_of(s, child_of(run))["status"] == "cancelled"


def test_the_timeout_of_a_task_is_that_of_its_sub_run(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    run = s.submit(request(starts(inner=[task("a", "naps", inputs="1000")], timeout="30s")))

    result = run.result()

    assert [each["error_type"] for each in result.failures] == ["SubRunFailed"]
    assert final_of(s, child_of(run))["status"] == "timed_out"


def test_a_pause_reaches_sub_runs_and_a_resume_too(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    inner = [task("a", "naps", inputs="10"), task("b", "naps", inputs="10", dependencies=["a"])]
    run = s.submit(request(starts(inner=inner)))
    s.advance(5)

    run.pause()
    s.advance(1_000)
    assert final_of(s, child_of(run)) is None
    run.resume()

    assert run.result().results["child"] == {"a": "a", "b": "b"}


def test_a_sub_run_of_the_ninth_level_is_refused(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    inner = task("leaf", "echo", inputs=1)
    for level in range(9):
        inner = starts(f"level{level}", inner=[inner])

    result = s.run(request(inner))

    assert result.status == "failed"
    assert "SubRunTooDeep" in str(result.failures)


def test_eight_levels_of_sub_runs_complete(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    inner = task("leaf", "echo", inputs=1)
    for level in range(8):
        inner = starts(f"level{level}", inner=[inner])

    result = s.run(request(inner))

    assert result.status == "completed"


def test_a_shared_session_has_the_results_of_both(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    run = s.submit(request(starts(inner=[task("a", "echo", inputs=1)], session="shared"), session_id="shop"))

    assert run.result().results["child"] == {"a": 1}
    assert s.value("shop", "a") == 1
    assert final_of(s, child_of(run))["session_id"] == "shop"


def test_a_user_cannot_take_the_place_of_a_sub_run(anabranch_system: Start) -> None:
    s = anabranch_system(agents=AGENTS)
    parent = run_id_for("order-1")
    taken = child_request_id(parent, "g", "child", 0)
    s.run({**request(task("a", "echo", inputs="forged")), "request_id": taken})

    result = s.run({**request(starts(inner=[task("a", "echo", inputs=1)])), "request_id": "order-1"})

    assert result.status == "failed"
    [failure] = result.failures
    assert failure["error_type"] == "SubRunRejected"


def test_a_retry_takes_over_completed_sub_runs_and_runs_failed_ones_again(anabranch_system: Start) -> None:
    ran: list[Any] = []
    broken = {2}

    async def checked(task: Task) -> Any:
        ran.append(task.inputs)
        if task.inputs in broken:
            raise ValueError("broken")
        return task.inputs

    s = anabranch_system(agents={"checked": checked})
    fan = starts(
        inner=[task("a", "checked", inputs="{n}")],
        context={"n": "{item}"},
        dependencies=["numbers"],
        expansion_config=array("numbers"),
    )
    run = s.submit(request(fan, context={"numbers": [1, 2, 3]}))
    assert run.result().status == "failed"
    broken.clear()
    ran.clear()

    again = s.retry(run)

    assert again.result().results["child"] == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert ran == [2]


@pytest.mark.parametrize("killed", [("taskgroup",), ("agency",), ("agency", "taskgroup")])
@pytest.mark.parametrize("at", [0.0, 0.001, 0.01, 4.0, 10.5, 14.0])
def test_one_child_whatever_dies(killed: tuple[str, ...], at: float) -> None:
    with system(agents=AGENTS) as s:
        services = Installation(s, AGENTS)
        inner = [task("a", "naps", inputs="10"), task("b", "length", inputs="four", dependencies=["a"])]
        run = s.submit(request(starts(inner=inner), task("after", "length", inputs="{child.a}")))
        s.advance(at)
        services.end(*killed, killed=True)
        s.advance(1)
        services.start(*killed)

        assert run.result().results["child"] == {"a": "a", "b": 4}
        bodies = [json.loads(each.value) for each in s.records("results")]
        accepted = {body["run_id"] for body in bodies if body.get("parent") and body["status"] == "running"}
        assert accepted == {child_of(run)}
