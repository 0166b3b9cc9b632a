"""A retry imports every existing result, and does not run those members again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import orjson
import pytest

from anabranch import GiveUp, RequestRefused, Task
from anabranch.ports import Outgoing
from anabranch.testing import System, SystemRun, system


class Calls:
    """An agent that counts its calls by member, and fails for given members."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.failing: set[str] = set()

    def __call__(self, task: Task) -> Any:
        self.count[task.name] += 1
        if task.name in self.failing:
            raise GiveUp(f"{task.name} fails on request")
        return task.inputs

    def made(self) -> dict[str, int]:
        """The calls since the previous query."""
        made, self.count = dict(self.count), Counter()
        return made


@pytest.fixture
def calls() -> Calls:
    return Calls()


def task(name: str, inputs: Any, key: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "agent": "calls", "inputs": inputs, "result_keys": [key], **more}


def wide(name: str, key: str, count: int, inputs: Any = "{n}", **expansion: Any) -> dict[str, Any]:
    rules = {"sequence": {"n": {"start": 0, "end": count - 1}}}
    return task(name, inputs, key, expansion_config={"type": "custom", "transform_rules": rules, **expansion})


def request(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"task_groups": [{"name": "g", "tasks": list(tasks)}], **more}


def failed(s: System, calls: Calls, *names: str, of: dict[str, Any]) -> SystemRun:
    """A failed run, in which these members fail; afterwards they no longer do."""
    calls.failing = set(names)
    run = s.submit(of)
    assert run.result().status == "failed"
    calls.failing = set()
    calls.made()
    return run


def test_of_five_hundred_members_only_the_failed_one_runs_again(calls: Calls) -> None:
    with system(agents={"calls": calls}) as s:
        run = failed(s, calls, "t_124", of=request(wide("t", "out", 500)))
        again = s.retry(run)
        result = again.result()

        assert (result.status, result.results["out"]) == ("completed", list(range(500)))
        assert calls.made() == {"t_124": 1}
        assert (result.retry_of, result.taken_over) == (run.run_id, 499)
        assert result.executions == {"total": 500, "completed": 500, "failed": 0, "skipped": 0}
        assert again.session_id == run.session_id
        assert s.value(run.session_id, "out") == list(range(500))


def test_large_values_are_taken_over_too(calls: Calls) -> None:
    def big(member: Task) -> Any:
        return [f"{calls(member)}:{'x' * 600_000}"] + ["y" * 1_000] * 500

    with system(agents={"calls": calls, "big": big}) as s:
        first = wide("t", "out", 4) | {"agent": "big"}
        run = failed(s, calls, "t_2", of=request(first, wide("u", "small", 300)))
        result = s.retry(run).result()

    assert calls.made() == {"t_2": 1}
    assert [member[:3] for member in result.results["out"][::501]] == ["0:x", "1:x", "2:x", "3:x"]
    assert len(result.results["out"]) == 4 * 501
    assert result.results["small"] == list(range(300))


@pytest.mark.parametrize("output_format", ["merge", "separate", "index", "single"])
@pytest.mark.parametrize("inline_limit", [65_536, 200])
def test_every_output_format_is_joined_from_old_and_new_members(
    calls: Calls, output_format: str, inline_limit: int
) -> None:
    document = request(wide("t", "out", 120, inputs="value {n}", output_format=output_format))
    with system(agents={"calls": calls}, inline_limit=inline_limit) as s:
        whole = s.run(document | {"request_id": "whole"}).results
        calls.made()
        run = failed(s, calls, "t_7", "t_120", of=document)
        result = s.retry(run).result()

    assert result.results == whole
    assert calls.made() == {"t_7": 1, "t_120": 1}


def test_keys_that_were_published_are_published_again_and_not_computed(calls: Calls) -> None:
    document = request(
        task("a", "made", "a"),
        task("b", "{a}!", "b", dependencies=["a"]),
        task("c", "{b}?", "c", dependencies=["b"]),
        task("d", "{c}", "d", dependencies=["c"]),
    )
    with system(agents={"calls": calls}) as s:
        run = failed(s, calls, "c", of=document)
        result = s.retry(run).result()
        published = [orjson.loads(r.value) for r in s.records("results")]

    assert calls.made() == {"c": 1, "d": 1}
    assert dict(result.results) == {"a": "made", "b": "made!", "c": "made!?", "d": "made!?"}
    published_keys = [
        body["result_key"] for body in published if body["run_id"] == result.run_id and "result_key" in body
    ]
    assert sorted(published_keys) == ["a", "b", "c", "d"]


def test_a_retry_of_a_retry_has_all_that_both_made(calls: Calls) -> None:
    with system(agents={"calls": calls}) as s:
        run = failed(s, calls, "t_3", "t_5", of=request(wide("t", "out", 9)))
        calls.failing = {"t_5"}
        second = s.retry(run)
        assert second.result().status == "failed"
        assert calls.made() == {"t_3": 1, "t_5": 1}
        calls.failing = set()
        third = s.retry(second).result()

    assert calls.made() == {"t_5": 1}
    assert (third.results["out"], third.retry_of, third.taken_over) == (list(range(9)), second.run_id, 8)


def test_an_array_that_changed_in_the_session_does_not_mix(calls: Calls) -> None:
    expansion = {"type": "array", "array_mapping": {"x": "items"}}
    document = request(
        task("t", "{x}", "out", external_dependencies=["items"], expansion_config=expansion), session_id="s"
    )
    with system(agents={"calls": calls}) as s:
        s.publish("s", "items", ["a", "b", "c"])
        run = failed(s, calls, "t_2", of=document)
        s.publish("s", "items", ["x", "y", "z", "w"])
        result = s.retry(run).result()

    assert result.results["out"] == ["a", "b", "c"]
    assert calls.made() == {"t_2": 1}


def test_a_value_absent_for_some_members_is_absent_for_the_others(calls: Calls) -> None:
    expanded = wide("t", "out", 3, inputs="{n} {hint}") | {"dependencies": ["hint?"]}
    with system(agents={"calls": calls}) as s:
        run = failed(s, calls, "hint", "t_2", of=request(task("hint", "a hint", "hint"), expanded))
        result = s.retry(run).result()

    assert result.results["out"] == ["0 {hint}", "1 {hint}", "2 {hint}"]
    assert calls.made() == {"hint": 1, "t_2": 1}
    assert result.results["hint"] == "a hint"


def test_failures_that_were_tolerated_stay(calls: Calls) -> None:
    tolerant = wide("t", "out", 10) | {"tolerated_failures": 1}
    with system(agents={"calls": calls}) as s:
        run = failed(s, calls, "t_4", "u", of=request(tolerant, task("u", 1, "u")))
        result = s.retry(run).result()

    assert calls.made() == {"u": 1}
    assert result.results["out"] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert result.executions == {"total": 11, "completed": 10, "failed": 1, "skipped": 0}
    assert [failure["member"] for failure in result.failures] == ["t_4"]


def test_a_retry_of_a_cancelled_run_continues_where_it_was(calls: Calls) -> None:
    slow = task("t", "{n}", "out", max_concurrency=2) | {"agent": "slow"}
    slow |= {"expansion_config": wide("t", "out", 20)["expansion_config"]}

    async def one(member: Task) -> Any:
        calls.count[member.name] += 1
        await asyncio.sleep(1)
        return member.inputs

    with system(agents={"slow": one}) as s:
        run = s.submit(request(slow))
        s.advance(4.5)
        run.cancel()
        before = run.result()
        done = before.executions["completed"]
        calls.made()
        result = s.retry(run).result()

    assert before.status == "cancelled"
    assert done >= 6
    assert result.results["out"] == list(range(20))
    assert sum(calls.made().values()) == 20 - done


def test_members_with_expired_results_run_again_and_the_result_says_so(calls: Calls) -> None:
    with system(agents={"calls": calls}, result_ttl=600.0) as s:
        run = failed(s, calls, "t_2", of=request(wide("t", "out", 3), timeout="2h"))
        s.advance(3_000)
        result = s.retry(run).result()

    assert calls.made() == {"t_1": 1, "t_2": 1, "t_3": 1}
    assert result.results["out"] == [0, 1, 2]
    assert result.taken_over == 0
    assert "have expired" in result.warnings[0]


def test_the_same_new_request_id_twice_is_one_run(calls: Calls) -> None:
    with system(agents={"calls": calls}) as s:
        run = failed(s, calls, "t", of=request(task("t", 1, "out")))
        runs = [s.retry(run, request_id="again") for _ in range(2)]
        results = [each.result() for each in runs]

        other = failed(s, calls, "t", of=request(task("t", 1, "out"), request_id="other"))
        with pytest.raises(RequestRefused, match="used before"):
            s.retry(other, request_id="again")

    assert runs[0].run_id == runs[1].run_id
    assert results[0] == results[1]


def test_a_completed_or_open_run_is_not_retried(calls: Calls) -> None:
    with system(agents={"calls": calls}) as s:
        done = s.submit(request(task("t", 1, "out")))
        done.result()
        with pytest.raises(RequestRefused, match="nothing failed"):
            s.retry(done)
        waiting = s.submit(request(task("t", 1, "out", external_dependencies=["never"]), session_id="s"))
        s.advance(1)
        with pytest.raises(RequestRefused, match="still open"):
            s.retry(waiting)


def test_a_control_record_retries_and_is_refused_by_the_owner(calls: Calls) -> None:
    def control(s: System, **fields: Any) -> None:
        value = orjson.dumps({"type": "retry", "failed": True, **fields})
        topic, before = s.embedded.names.requests, len(finals(s))
        s.wait(s.embedded.log.publish([Outgoing(topic, None, value)]))
        # The agent runs in a thread, for which virtual time does not wait.
        while len(finals(s)) == before:
            s.advance(0.1)

    def finals(s: System) -> dict[str, Any]:
        bodies = [orjson.loads(record.value) for record in s.records("results")]
        return {body["request_id"]: body for body in bodies if body["status"] != "running"}

    with system(agents={"calls": calls}) as s:
        failed(s, calls, "t", of=request(task("t", 1, "out"), request_id="first"))
        control(s, request_id="first")
        control(s, request_id="first", new_request_id="mine")
        control(s, request_id="mine", new_request_id="refused 1")
        control(s, request_id="nobody", new_request_id="refused 2")
        final, dead_letters = finals(s), s.records("dead-letters")

    assert final["mine"]["status"] == "completed"
    assert final["mine"]["retry_of"] == final["first"]["run_id"]
    assert [body["retry_of"] for body in final.values() if body.get("retry_of")] == [final["first"]["run_id"]] * 2
    refusals = [final["refused 1"], final["refused 2"]]
    assert [body["errors"][0]["code"] for body in refusals] == ["not_retryable"] * 2
    kept = [
        orjson.loads(each.value)
        for each in dead_letters
        if dict(each.headers)["anabranch_code"] == b"not_retryable"
    ]
    assert sorted(body["new_request_id"] for body in kept) == ["refused 1", "refused 2"]
