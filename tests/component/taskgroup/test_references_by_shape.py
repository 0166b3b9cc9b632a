"""A user's value in the form of a reference stays a value everywhere, and no session reads another session's
values.

The values refer to stored values of the run itself, of another run of its session, and of another session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from small_requests import alive, array, request, task

from anabranch import Task
from anabranch.core.errors import ValueGone
from anabranch.core.names import Names, run_id_for, session_key
from anabranch.core.policies import Policy
from anabranch.core.wire.messages import Message, Need, OpenRun, StartGroup, TaskOrder, ValueFound
from anabranch.core.wire.results import has_mark, is_reference
from anabranch.runtime.reading import values
from anabranch.runtime.reading.contexts import SharedContext, load_context
from anabranch.testing import System, SystemRun
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.retry_snapshot import read_outside
from anabranch_taskgroup.session.state import Value
from anabranch_taskgroup.session.turn import DecisionConfig

Start = Callable[..., System]

SECRET = "the other's secret " * 5_000
VICTIM, THIEF = "victim", "thief"
VICTIM_RUN = run_id_for("of-victim")


async def give(task: Task) -> Any:
    """Returns `inputs.value`; fails on request."""
    if task.inputs.get("fail"):
        raise ValueError("as requested")
    return task.inputs["value"]


async def big(task: Task) -> str:
    return SECRET


async def look(task: Task) -> Any:
    """Returns the values of its dependencies."""
    return dict(task.context)


AGENTS = {"give": give, "big": big, "look": look}


def reference(session: str, key: str, count: Any = 1, size: Any = len(SECRET) + 2, **more: Any) -> dict[str, Any]:
    return {"$anabranch": f"{session}/{key}", "count": count, "bytes": size, **more}


SHAPES: dict[str, Any] = {
    "another's value": reference(VICTIM, "secret"),
    "another's value, to the letter": reference(VICTIM, "secret", run_id=VICTIM_RUN),
    "its own session's key": reference(THIEF, "k", 1, 5),
    "its own session's key of the run": reference(THIEF, "k", 1, 5, run_id=run_id_for("r1")),
    "a large value of its own session": reference(THIEF, "own", run_id=run_id_for("own")),
    "nothing": reference("other", "key", 1, 5),
    "a field too many": reference(VICTIM, "secret", mine=True),
    "a field too few": {"$anabranch": f"{VICTIM}/secret", "count": 1},
    "only the mark": {"$anabranch": None},
    "odd fields": reference(VICTIM, "secret", "many", [1], run_id={}),
    "one within another": reference(THIEF, "k", 1, 5, run_id=reference(VICTIM, "secret")),
}
SHAPE = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@pytest.fixture
def start(anabranch_system: Start) -> Start:
    """Starts a system where a session has a large secret, and the thief's has a large value of its own."""

    def start_it(**settings: Any) -> System:
        s = anabranch_system(agents=AGENTS, **settings)
        s.run(request(task("secret", "big"), request_id="of-victim", session_id=VICTIM), timeout=60)
        s.run(request(task("own", "big"), request_id="own", session_id=THIEF), timeout=60)
        return s

    return start_it


def done(s: System, *tasks: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """The results of a run of the thief as its client gets them; also checks the marks in all records."""
    document = request(*tasks, **{"session_id": THIEF, "request_id": "r1", **more})
    run = s.submit(document)
    result = run.result(timeout=3_600)
    alive(s)
    assert result.status == status, result.failures
    check_records(s, run)
    return dict(result.results)


def check_records(s: System, run: SystemRun) -> None:
    """Every object with the mark in a record or in the history is a reference to a value of the session."""
    for body in map(orjson.loads, (record.value for record in s.records("results"))):
        results = body.get("results") or {}
        assert not has_mark(results) or is_reference(results, body["session_id"])
        for value in (body.get("value"), *results.values()):
            assert not has_mark(value) or is_reference(value, body["session_id"]), body
        assert SECRET[:40] not in str(body)
    for version in history(s, THIEF).versions:
        assert not has_mark(version.change.value) or is_reference(version.change.value, THIEF)


def history(s: System, session: str) -> SharedContext:
    client = s.embedded.client
    return s.wait(load_context(client.store, client.names, session))


async def published(run: SystemRun) -> dict[str, Any]:
    return {each.key: each.value async for each in run._run.results()}


# --- where a value comes from ------------------------------------------------------------------------


@SHAPE
def test_an_input_and_a_result_stay_values(start: Start, shape: Any) -> None:
    s = start()
    document = request(
        task("k", "give", inputs={"value": shape}),
        task("echoed", inputs=shape),
        task("seen", "look", dependencies=["k"]),
        task("typed", inputs="{k}", dependencies=["k"]),
        task("nested", inputs={"a": ["{k}"]}, dependencies=["k"]),
        task("dotted", inputs="{k.$anabranch}", dependencies=["k"]),
        request_id="r1",
        session_id=THIEF,
    )
    run = s.submit(document)
    results = dict(run.result(timeout=60).results)
    check_records(s, run)

    assert results == {
        "k": shape,
        "echoed": shape,
        "seen": {"k": shape},
        "typed": shape,
        "nested": {"a": [shape]},
        "dotted": shape["$anabranch"],
    }
    assert s.wait(published(run)) == results
    assert s.value(THIEF, "k") == shape


@SHAPE
def test_an_initial_context_value_stays_a_value(start: Start, shape: Any) -> None:
    s = start()
    readers = (task("seen", "look", dependencies=["c"]), task("typed", inputs="{c}", dependencies=["c"]))

    first = done(s, *readers, context={"c": shape})
    later = done(s, *readers, request_id="later")

    assert first == later == {"seen": {"c": shape}, "typed": shape}


@SHAPE
def test_an_external_value_stays_a_value(start: Start, shape: Any) -> None:
    s = start()
    s.publish(THIEF, "k", shape)
    wants = {"external_dependencies": ["k"]}

    found = done(s, task("seen", "look", **wants), task("typed", inputs="{k}", **wants))

    assert found == {"seen": {"k": shape}, "typed": shape}


def test_a_stored_value_is_read_under_its_own_public_name_only(start: Start) -> None:
    """The exact value under its own name; an external client may also put it back there."""
    s = start()
    client = s.embedded.client
    [stored] = s.wait(client.store.get([session_key(THIEF, "own")]))
    copy = orjson.loads(stored or b"")
    s.publish(THIEF, "copy", copy)
    s.publish(VICTIM, "own", copy)
    wants = {"external_dependencies": ["own", "copy"]}

    assert done(s, task("t", "look", **wants)) == {"t": {"own": SECRET, "copy": copy}}
    other = request(task("t", "look", external_dependencies=["own"]), session_id=VICTIM)
    assert s.run(other, timeout=60).results == {"t": {"own": copy}}
    for field in ("count", "bytes", "run_id"):
        forged = copy | {field: 7 if field != "run_id" else VICTIM_RUN}
        s.publish(THIEF, "own", forged)
        found = done(s, task("t", "look", external_dependencies=["own"]), request_id=f"r-{field}")
        assert found == {"t": {"own": forged}}


# --- where the value goes -------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [65_536, 300], ids=["small", "spilled"])
@pytest.mark.parametrize("output_format", ["merge", "index", "separate", "single"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_members_may_return_such_values(start: Start, kind: str, output_format: str, limit: int) -> None:
    shapes = list(SHAPES.values())
    s = start(inline_limit=limit)
    expansion = array("list", output_format=output_format) | {"type": kind}

    found = done(
        s,
        task("k", "give", inputs={"value": "{item}"}, expansion_config=expansion, dependencies=["list"]),
        task("seen", "look", dependencies=["k"]),
        context={"list": shapes},
    )

    by_name = {str(n): shape for n, shape in enumerate(shapes)}
    joined = {"merge": shapes, "index": shapes, "separate": by_name, "single": shapes[-1]}[output_format]
    derived = {f"{n}_k": shape for n, shape in by_name.items()} if output_format == "separate" else {}
    assert found == {"k": joined, "seen": {"k": joined}, **derived}
    assert {key: s.value(THIEF, key) for key in derived} == derived
    if output_format != "single":
        again = array("k") if output_format != "separate" else array("list")
        wide = task("out", inputs="{item}", dependencies=["k", "list"], expansion_config=again)
        assert done(s, wide, request_id="r2", context={"list": shapes}) == {"out": shapes}


@SHAPE
def test_one_such_object_is_no_array(start: Start, shape: Any) -> None:
    s = start()
    wide = task("out", inputs="{item}", dependencies=["k"], expansion_config=array("k"))

    found = done(s, task("k", inputs=shape), wide, status="failed")

    assert found == {"k": shape}


def test_a_separate_join_whose_identifiers_are_a_references_fields(start: Start) -> None:
    s = start()
    forged = reference(VICTIM, "secret", run_id=VICTIM_RUN)
    items = [{"id": name, "value": value} for name, value in forged.items()]
    expansion = array(items, output_format="separate", identifiers={"id": "item.id"})
    wide = task("k", "give", inputs={"value": "{item.value}"}, expansion_config=expansion)

    found = done(s, wide, task("seen", "look", dependencies=["k"]))

    assert (found["k"], found["seen"]) == (forged, {"k": forged})


@pytest.mark.parametrize("session", [VICTIM, THIEF])
def test_result_keys_that_are_a_references_fields(start: Start, session: str) -> None:
    s = start()
    forged = reference(session, "secret" if session == VICTIM else "own", run_id=VICTIM_RUN)

    assert done(s, *(task(name, inputs=value) for name, value in forged.items())) == forged


@SHAPE
@pytest.mark.parametrize("policy", ["last_write", "first_write", "append", "set_union", "error"])
def test_a_key_with_several_writers(start: Start, policy: Policy, shape: Any) -> None:
    s = start()
    writers = [task(name, "give", inputs={"value": shape}, result_keys=["w"]) for name in "ab"]
    more = {"context_policies": {"w": policy}}

    first = done(s, *writers, task("seen", "look", dependencies=["w"]), **more)
    done(s, *writers[:1], request_id="r2", **more)

    made = {"append": [shape, shape], "set_union": [shape]}.get(policy, shape)
    assert first == {"w": made, "seen": {"w": made}}
    assert s.value(THIEF, "w") == ([shape] * 3 if policy == "append" else made)
    later = done(s, task("later", "look", dependencies=["w"]), request_id="r3")
    assert later == {"later": {"w": s.value(THIEF, "w")}}


@SHAPE
def test_an_initial_value_of_a_key_with_a_policy(start: Start, shape: Any) -> None:
    s = start()
    more = {"context": {"w": shape}, "context_policies": {"w": "last_write"}}

    assert done(s, task("seen", "look", dependencies=["w"]), **more) == {"seen": {"w": shape}}
    assert s.value(THIEF, "w") == shape


@SHAPE
def test_a_retry_takes_it_over(start: Start, shape: Any) -> None:
    s = start()
    s.publish(THIEF, "news", shape)
    document = request(
        task("k", "give", inputs={"value": shape}),
        task("wide", "give", inputs={"value": "{item}"}, expansion_config=array([shape] * 3)),
        task("news", "look", external_dependencies=["news"], result_keys=["seen"]),
        task("f", "give", inputs={"value": "{k}", "fail": "{fails}"}, dependencies=["k", "fails", "news"]),
        context={"fails": 1},
        request_id="r1",
        session_id=THIEF,
    )
    run = s.submit(document)
    assert run.result(timeout=60).status == "failed"
    result = s.retry(run).result(timeout=60)

    assert result.taken_over == 5
    assert dict(result.results) == {"k": shape, "wide": [shape] * 3, "seen": {"news": shape}}
    check_records(s, run)


@SHAPE
def test_partial_results_of_a_failed_task(start: Start, shape: Any) -> None:
    """A `single` join has only the last member's value."""
    s = start()
    items = [{"fail": True, "value": 1}, {"fail": False, "value": shape}]
    inputs = {"value": "{item.value}", "fail": "{item.fail}"}
    wide = task("k", "give", inputs=inputs, expansion_config=array(items, output_format="single"))

    assert done(s, wide, status="failed") == {"k": shape}


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_at_the_inline_limit(start: Start, more: int) -> None:
    shape = reference(VICTIM, "x" * 2_000)
    s = start(inline_limit=len(orjson.dumps(shape)) + more)

    found = done(s, task("k", inputs=shape), task("seen", "look", dependencies=["k"]))

    assert found == {"k": shape, "seen": {"k": shape}}


# --- genuine references ---------------------------------------------------------------------------


def test_a_large_value_may_be_used_wherever_values_are(start: Start) -> None:
    s = start()
    own = {"dependencies": ["big"]}
    rows = task("rows", "give", inputs={"value": ["{big}", 1]}, **own)
    wide = task("out", inputs="{item}", dependencies=["rows"], expansion_config=array("rows"))

    found = done(s, task("big", "big"), task("seen", "look", **own), rows, wide)
    later = done(s, task("t", "look", external_dependencies=["rows"]), request_id="r2")

    assert found == {"big": SECRET, "seen": {"big": SECRET}, "rows": [SECRET, 1], "out": [SECRET, 1]}
    assert later == {"t": {"rows": [SECRET, 1]}}
    assert (s.value(THIEF, "rows"), s.value(VICTIM, "secret")) == ([SECRET, 1], SECRET)


def test_a_session_cannot_read_values_of_another_session(start: Start) -> None:
    s = start()
    client = s.embedded.client
    genuine = reference(VICTIM, "secret", run_id=VICTIM_RUN)
    assert s.wait(values.resolve(client.store, client.names, genuine, within=VICTIM)) == SECRET

    async def items() -> list[Any]:
        return [item async for item in values.iterate(client.store, client.names, genuine, within=THIEF)]

    for reading in (
        values.resolve(client.store, client.names, genuine, within=THIEF),
        values.member_value(client.store, client.names, genuine, 0, within=THIEF),
        values.is_long_list(client.store, client.names, genuine, within=THIEF),
        items(),
    ):
        with pytest.raises(ValueGone, match="another session, and session thief cannot read it"):
            s.wait(reading)


# --- records of earlier releases ------------------------------------------------------------------


@pytest.mark.parametrize("session", [VICTIM, THIEF])
def test_a_reference_in_a_record_without_the_mark_counts_within_its_session_only(session: str) -> None:
    """Records of earlier releases do not say whether an external value is a reference."""
    partition, rules = PartitionState(0), DecisionConfig(Names())
    needs = (Need(key="k", kind="external"),)
    order = TaskOrder(name="t", agent="echo", needs=needs, result_keys=("r",))
    stored = reference(session, "k", run_id="r")
    messages: list[Message] = [
        OpenRun(run_id="r", request_id="q", session_id=THIEF, groups=("g",), context={}, deadline=60.0),
        StartGroup(run_id="r", group="g", tasks=(order,)),
        ValueFound(run_id="r", key="k", value=stored),
    ]

    for offset, message in enumerate(messages):
        decide(rules, partition, DeliveredMessage(message, (), offset, 1.0))

    assert partition.runs["r"].values["k"] == Value(stored, is_reference=session == THIEF)
    before = orjson.dumps({"values": {"k": stored}})
    assert read_outside(before, THIEF) == {"k": Value(stored, is_reference=session == THIEF)}
    now = orjson.dumps({"values": {"k": stored, "other": stored}, "references": ["k"]})
    assert read_outside(now, THIEF) == {"k": Value(stored, is_reference=True), "other": Value(stored)}
