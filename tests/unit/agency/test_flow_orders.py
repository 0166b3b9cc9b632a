"""What a request with control flow becomes in the orders of its tasks."""

from __future__ import annotations

from typing import Any

import orjson

from anabranch.core.request.admission import read_request
from anabranch.core.request.models import Request
from anabranch.core.request.planning import plan
from anabranch.core.wire.messages import StartGroup, TaskOrder
from anabranch_agency.run.planning import CompiledPlan, compiled


def task(name: str, **fields: Any) -> dict[str, Any]:
    kinds = {"wait", "run", "switch", "loop"}
    return {"name": name} | ({} if kinds & set(fields) else {"agent": "echo"}) | fields


def group(*tasks: dict[str, Any], name: str = "g", **fields: Any) -> dict[str, Any]:
    return {"name": name, "tasks": list(tasks), **fields}


def compile_request(*groups: dict[str, Any], **fields: Any) -> CompiledPlan:
    read = read_request({"task_groups": list(groups), **fields})
    assert read.errors == ()
    document = read.required().to_document()
    assert Request.model_validate(document).to_document() == document
    return compiled(plan(read.required()), with_gaps=False)


def orders(found: CompiledPlan) -> dict[str, TaskOrder]:
    return {
        f"{group.name}/{order['name']}": TaskOrder.model_validate(order)
        for group in found.groups
        for order in orjson.loads(group.tasks.fill(()))
    }


def needs(order: TaskOrder) -> set[tuple[str, str, bool, bool]]:
    return {(need.key, need.kind, need.optional, need.unless_failed) for need in order.needs}


def test_a_condition_waits_for_its_fields_by_the_longest_key() -> None:
    when = {"all": [{"field": "a.score", "operator": "exists"}, {"field": "user.name", "operator": "exists"}]}
    found = orders(compile_request(group(task("a"), task("b", when=when)), context={"user": {"name": "x"}}))

    assert needs(found["g/b"]) == {("a", "produced", True, False), ("user", "context", True, False)}
    assert found["g/b"].when == when


def test_after_and_follows_wait_for_ends_and_the_named_tasks_announce_them() -> None:
    found = orders(
        compile_request(
            group(task("a"), task("b"), task("c")),
            group(task("d", after=["g/a", "g/b?"], follows=["g/c"]), name="h"),
        )
    )

    assert needs(found["h/d"]) == {
        ("{g/a}", "task", False, False),
        ("{g/b}", "task", True, False),
        ("{g/c}", "task", True, True),
    }
    assert {name for name, order in found.items() if order.announces} == {"g/a", "g/b", "g/c"}


def test_a_group_has_its_race_and_a_request_its_last_group() -> None:
    found = compile_request(
        group(task("a"), task("b"), race=True),
        group(task("c"), task("d"), name="h", need=2, fail_fast=True),
        **{"finally": [task("e", inputs="{run.status}"), task("f", timeout=5)]},
    )
    starts = {each.name: StartGroup.model_validate({**each.start, "tasks": []}) for each in found.groups}

    assert list(starts) == ["g", "h", "finally"]
    assert [(each.need, each.fail_fast, each.is_finally) for each in starts.values()] == [
        (1, False, False),
        (2, True, False),
        (None, False, True),
    ]
    assert [(order.timeout, order.loop_names) for name, order in orders(found).items() if "finally" in name] == [
        (300.0, ("run",)),
        (5.0, ()),
    ]


def test_tasks_after_a_loop_see_the_keys_of_the_loop_and_its_body_sees_its_own() -> None:
    loop = {"each": "rows", "until": {"field": "n", "operator": "greater_than", "value": 2}, "state": {"n": 0}}
    found = orders(
        compile_request(
            group(
                task("(loop)", loop=loop, result_keys=["n", "g.loop"]),
                task("s", in_loop="(loop)", inputs="{item.id} {iteration} {last.n}"),
                task("n", in_loop="(loop)", dependencies=["s"], inputs="{state.n}"),
                task("u", dependencies=["n"]),
            ),
            context={"rows": [1]},
        )
    )

    assert needs(found["g/(loop)"]) == {("rows", "context", False, False)}
    assert found["g/(loop)"].kind == "loop"
    assert [order.loop_names for order in found.values()] == [(), ("iteration", "item", "last"), ("state",), ()]
    assert needs(found["g/u"]) == {("n", "produced", False, False)}


def test_a_wait_and_several_policies() -> None:
    policies = [{"errors": ["KeyError"], "strategy": "fixed"}, {"strategy": "none"}]
    found = orders(
        compile_request(
            group(
                task("w", wait={"for": "5m"}),
                task("a", retry=policies, error_key="err", compensate={"agent": "undo", "inputs": "{a}"}),
            )
        )
    )

    assert found["g/w"].kind == "wait"
    assert found["g/w"].wait is not None
    assert found["g/w"].wait.for_ == 300
    assert found["g/a"].retry is None
    assert [policy.errors for policy in found["g/a"].retriers] == [("KeyError",), ("*",)]
    assert found["g/a"].error_key == "err"
    assert found["g/a"].compensate is not None


def test_a_handler_and_the_task_whose_failure_it_handles_may_produce_one_key() -> None:
    found = compile_request(
        group(
            task("load", error_key="err", result_keys=["rows"]),
            task("recover", dependencies=["err"]),
            task("use old", after=["recover"], result_keys=["rows"]),
            task("count", dependencies=["rows"]),
        )
    )

    assert found.alternatives == {"rows": 2}
