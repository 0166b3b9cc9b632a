"""What is kept of earlier requests of a shape changes no record: only the work that a request takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.core.names import Names
from anabranch.core.request.admission import Limits
from anabranch.core.request.envelope import unwrap
from anabranch.core.request.models import Request
from anabranch.core.request.shape import FreeFields, shape_of
from anabranch.core.wire.codec import RUNS
from anabranch.core.wire.messages import SubmitRun
from anabranch.ports import Incoming, Outgoing
from anabranch_agency.intake import requests
from anabranch_agency.intake.records import Decision, RequestContext, Submit, document_of, shape_in
from anabranch_agency.run import known_plans, opening
from anabranch_agency.run.actor import decide
from anabranch_agency.run.known_plans import KnownPlans
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DecisionConfig, RunLimits

NAMES = Names("t.")
LIMITS = Limits(request_bytes=4_000, members=8)
AGENTS = frozenset({"echo", "sleep"})
SESSION_KEYS = ("kept", "user")

KEYS = st.sampled_from(["a", "b", "user", "items", "user.name", "kept", "n"])
TEXTS = st.sampled_from(
    ["", "plain", "{a}", "{user.name}", "{user.first}", "{n}", "{item.x} of {b}", "{{a}}", "${a}", "{", "x{", "{}",
     '{"q": "{a}"}', "$gap:0", "$gap:1", '["$gap:0"]', "ü", "\u0022", "{nothing}"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.just(1.5) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXTS, inner, max_size=3),
    max_leaves=5,
)
CONTEXT_VALUES = VALUES | st.lists(st.fixed_dictionaries({"x": st.integers(0, 3)}), max_size=12)
CONTEXTS = st.dictionaries(KEYS, CONTEXT_VALUES, max_size=4)

IDENTITIES = st.fixed_dictionaries(
    {},
    optional={
        "request_id": st.sampled_from(["one", "two", "three", None]),
        "session_id": st.sampled_from(["s-1", "s-2", None]),
        "name": st.sampled_from(["first", "second", None]),
        "labels": st.sampled_from([{}, {"a": "b"}, {"c": "d"}, None]),
    },
)
INVALID = st.sampled_from(
    [{"request_id": "{x}"}, {"request_id": 5}, {"session_id": "not one"}, {"name": "a/b"}, {"labels": {"c": 1}},
     {"labels": []}, {"context": []}, {"context": {"{": 1}}, {"more": 1}]
)  # fmt: skip


def now_and_then(draw: st.DrawFn) -> bool:
    # Not the first or last number, which hypothesis draws more often.
    return draw(st.integers(0, 15)) == 7


@st.composite
def expansions(draw: st.DrawFn, keys: Sequence[str]) -> dict[str, Any]:
    if draw(st.integers(0, 3)) == 2:
        return {"type": "custom", "transform_rules": {"sequence": {"n": {"start": 1, "end": 3}}}}
    arrays = st.sampled_from([*keys, "[1,2]", "user.items"])
    return {
        "type": draw(st.sampled_from(["array", "matrix"])),
        "array_mapping": draw(st.dictionaries(st.sampled_from(["item", "n"]), arrays, min_size=1, max_size=2)),
        "output_format": draw(st.sampled_from(["merge", "separate", "index"])),
        **({"identifiers": {"id": "item.x"}} if draw(st.booleans()) else {}),
    }


@st.composite
def requests_for_tests(draw: st.DrawFn) -> dict[str, Any]:
    """Requests that are valid more often than not."""
    context = draw(CONTEXTS)
    tasks: list[dict[str, Any]] = []
    known = [*context]
    for number in range(draw(st.integers(1, 4))):
        result = draw(st.sampled_from(["a", "b", "a_b"])) if now_and_then(draw) else f"r{number}"
        some = st.lists(st.sampled_from([*known, "kept?", "user?"]), max_size=2, unique=True)
        task = {
            "name": "t0" if now_and_then(draw) else f"t{number}",
            "agent": "nobody" if now_and_then(draw) else draw(st.sampled_from(["echo", "sleep"])),
            "result_keys": [result],
            "dependencies": ["kept"] if now_and_then(draw) else draw(some),
            "inputs": draw(VALUES),
            **draw(st.fixed_dictionaries({}, optional={"message_template": VALUES, "shared_instructions": TEXTS})),
            **draw(st.fixed_dictionaries({}, optional={"timeout": st.sampled_from(["5s", 5, 7.5])})),
        }
        if known and draw(st.integers(0, 2)) == 0:
            task["expansion_config"] = draw(expansions(known))
        tasks.append(task)
        known.append(result)
    cut = draw(st.integers(0, len(tasks) - 1))
    groups = [{"name": "g", "tasks": tasks[:cut]}, {"name": "h", "tasks": tasks[cut:], "timeout": "1m"}]
    document = {"context": context, "task_groups": [group for group in groups if group["tasks"]]}
    if now_and_then(draw):
        policies = st.sampled_from(["sum", "append"])
        document["context_policies"] = draw(st.dictionaries(st.sampled_from(known), policies, max_size=1))
    more = {"project": st.sampled_from(["default", "p"]), "timeout": st.sampled_from(["1h", 60])}
    return document | draw(st.fixed_dictionaries({}, optional=more))


def varied(draw: st.DrawFn, template: Any) -> Any:
    """Another value for a template; mostly one that leaves the shape of the request as it is."""
    if now_and_then(draw):
        return draw(VALUES)
    is_gap = template is not None and b"{" not in orjson.dumps(template)
    return draw(st.sampled_from(["plain", "", 7, ["x", "$gap:0"], {}])) if is_gap else template


@st.composite
def sequences_of_requests(draw: st.DrawFn) -> list[bytes]:
    """A request, and others that differ from it in what its shape leaves open, and sometimes in more."""
    first = draw(requests_for_tests())
    found = []
    for _ in range(draw(st.integers(2, 4))):
        document = copy.deepcopy(first)
        if document.get("context"):
            document["context"] = {
                key: draw(CONTEXT_VALUES) if draw(st.booleans()) else value
                for key, value in document["context"].items()
            }
        for group in document["task_groups"]:
            for task in group["tasks"]:
                for field in ("inputs", "message_template"):
                    if field in task and draw(st.booleans()):
                        task[field] = varied(draw, task[field])
        if now_and_then(draw):
            document["context"] = draw(CONTEXTS)
        document |= draw(INVALID if now_and_then(draw) else IDENTITIES)
        if now_and_then(draw):
            document = {"key": "task_group:k", "object": document}
        found.append(orjson.dumps(document))
    return found


def incoming(value: bytes, offset: int = 0) -> Incoming:
    return Incoming(NAMES.requests, 3, offset, None, value, (), 1.0)


def examine(
    context: RequestContext, value: bytes, offset: int = 0, *, whole: bool = False, keys: Sequence[str] = ()
) -> Decision:
    document = document_of(value, context.limits)
    shape = shape_in(unwrap(document)) if isinstance(document, dict) and not whole else None
    return requests.decide(context, incoming(value, offset), document, keys, shape)


def content(records: Sequence[Outgoing]) -> list[Any]:
    """The records without the order of the fields of a message. That of the fields of tasks counts."""
    found: list[Any] = []
    for record in records:
        value = orjson.loads(record.value) if record.value.startswith(b"{") else record.value
        if record.topic == NAMES.runs:
            value["request"]["task_groups"] = orjson.dumps(value["request"]["task_groups"])
        found.append((record.topic, record.key, record.headers, value))
    return found


@settings(max_examples=150, deadline=None)
@given(sequences_of_requests(), st.booleans())
def test_the_intake_decides_as_if_it_had_seen_no_request_before(values: list[bytes], in_session: bool) -> None:
    known = RequestContext(NAMES, LIMITS, AGENTS, 1)
    keys = SESSION_KEYS if in_session else ()
    for offset, value in enumerate(values):
        fresh = RequestContext(NAMES, LIMITS, AGENTS, 1)

        found = examine(known, value, offset, keys=keys)

        expected = examine(fresh, value, offset, whole=True, keys=keys)
        assert type(found) is type(expected)
        assert content(found.records) == content(expected.records)


@settings(max_examples=150, deadline=None)
@given(sequences_of_requests(), st.booleans())
def test_the_owner_of_runs_decides_as_if_it_had_seen_no_request_before(
    values: list[bytes], in_session: bool
) -> None:
    limits = replace(LIMITS, members=1_000)
    intake = RequestContext(NAMES, limits, AGENTS | {"nobody"}, 1)
    known, offset = DecisionConfig(NAMES, limits=RunLimits(100, 9)), 0
    for number, value in enumerate(values):
        decision = examine(intake, value, number, keys=SESSION_KEYS if in_session else ())
        if not isinstance(decision, Submit):
            continue
        submit = RUNS.decode(decision.records[0].value).message
        offset += 1

        found = decide(known, PartitionState(0), submit, offset, 2.0)

        plain = decide(planning_each(), PartitionState(0), submit, offset, 2.0)
        assert found.effects == plain.effects
        assert found.events == plain.events


def planning_each() -> DecisionConfig:
    """A configuration whose requests are planned one by one, without shapes."""

    class PlanningEach(KnownPlans):
        def of(self, submit: SubmitRun) -> known_plans.PlannedRequest:
            return known_plans._planned(submit.request, submit.session_keys)

    config = DecisionConfig(NAMES, limits=RunLimits(100, 9))
    object.__setattr__(config, "plans", PlanningEach())
    return config


def request(number: int, **more: Any) -> dict[str, Any]:
    """A request of one shape; the number is in all that the shape leaves open."""
    tasks = [
        {"name": "t", "agent": "echo", "inputs": {"n": number}, "result_keys": ["r"]},
        {"name": "u", "agent": "echo", "message_template": "{user} of {user}", "inputs": [number],
         "dependencies": ["r", "user"], "result_keys": ["s"]},
    ]  # fmt: skip
    return {
        "request_id": f"q-{number}",
        "name": f"run {number}",
        "labels": {"n": str(number)},
        "context": {"user": {"n": number}},
        "task_groups": [{"name": "g", "tasks": tasks}],
        **more,
    }


def test_the_next_request_of_a_shape_is_neither_validated_nor_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    intake, owner, partition = RequestContext(NAMES, LIMITS, AGENTS, 1), DecisionConfig(NAMES), PartitionState(0)
    for number in (0, 1):  # a shape is kept when it comes again
        earlier = examine(intake, orjson.dumps(request(number)))
        decide(owner, partition, RUNS.decode(earlier.records[0].value).message, number, 1.0)
    monkeypatch.setattr(requests, "read_request", refuse_to_work)
    monkeypatch.setattr(known_plans, "plan", refuse_to_work)

    second = examine(intake, orjson.dumps(request(2)))
    decide(owner, partition, RUNS.decode(second.records[0].value).message, 2, 1.0)

    [run] = [run for run in partition.runs.values() if run.request_id == "q-2"]
    assert (run.name, run.labels) == ("run 2", {"n": "2"})


def steps(number: int) -> bytes:
    """A request of one shape that is written as steps."""
    choice = {"if": "user.n > 1", "then": [{"name": "t", "agent": "echo", "inputs": {"n": number}}]}
    last = [{"name": "z", "agent": "echo", "inputs": "{run.status}"}]
    document = {"context": {"user": {"n": number}}, "steps": [choice, {"wait": {"for": 1}}], "finally": last}
    return orjson.dumps({"request_id": f"q-{number}", **document})


def test_requests_that_are_lowered_are_known_by_their_shape_too(monkeypatch: pytest.MonkeyPatch) -> None:
    known, fresh = (RequestContext(NAMES, LIMITS, AGENTS, 1) for _ in range(2))
    owner, partition = DecisionConfig(NAMES), PartitionState(0)
    expected = examine(fresh, steps(2), 1, whole=True)
    for offset in (0, 1):  # a shape that comes once is not kept
        first = examine(known, steps(1), offset)
    decide(owner, partition, RUNS.decode(first.records[0].value).message, 1, 1.0)
    monkeypatch.setattr(requests, "read_request", refuse_to_work)

    found = examine(known, steps(2), 1)

    assert content(found.records) == content(expected.records)
    decide(owner, partition, RUNS.decode(found.records[0].value).message, 2, 1.0)
    assert len(partition.runs) == 2


def refuse_to_work(*_: Any, **__: Any) -> Any:
    raise AssertionError("the shape is known")


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a task": lambda it: it["task_groups"][0]["tasks"][0].update(name="other"),
    "a template with a placeholder": lambda it: it["task_groups"][0]["tasks"][1].update(inputs="{user}"),
    "a key of the context": lambda it: it["context"].update(more=1),
    "the project": lambda it: it.update(project="p"),
    "the time": lambda it: it.update(timeout=7),
    "the order of fields": lambda it: it["task_groups"].reverse() or it["task_groups"][0].update(tasks=[
        dict(reversed(task.items())) for task in it["task_groups"][0]["tasks"]]),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_request_of_another_shape_is_examined(change: str) -> None:
    document = request(1)
    CHANGES[change](document)

    first, other = shape_of(request(1)), shape_of(document)

    assert first is not None
    assert other is not None
    assert first.digest != other.digest


@pytest.mark.parametrize(
    "reading",
    [
        {"context_policies": {"user": "sum"}},
        {"context": {"user": [1, 2]}, "task_groups": [{"name": "g", "tasks": [
            {"name": "t", "agent": "echo", "inputs": "{x}", "result_keys": ["r"],
             "expansion_config": {"type": "array", "array_mapping": {"x": "user"}}}]}]},
        {"task_groups": [{"name": "g", "tasks": [
            {"name": "t", "agent": "echo", "inputs": "{user.name}", "result_keys": ["r"]}]}]},
    ],
    ids=["policy", "array", "placeholder"],
)  # fmt: skip
def test_nothing_is_kept_of_a_request_whose_context_was_read(reading: dict[str, Any]) -> None:
    context = RequestContext(NAMES, LIMITS, AGENTS, 1)
    document = request(1, **reading)

    for _ in range(2):
        examine(context, orjson.dumps(document))

    shape = shape_of(document)
    assert shape is not None
    assert context.known.accepted(shape, ()) is None


def test_each_context_of_an_intake_keeps_its_own_shapes() -> None:
    """What is kept holds for the limits and agents under which it was examined."""
    context = RequestContext(NAMES, LIMITS, AGENTS, 1)
    value = orjson.dumps(request(1))
    for _ in range(2):
        assert isinstance(examine(context, value), Submit)

    stricter = replace(context, agents=frozenset({"sleep"}))

    assert not isinstance(examine(stricter, value), Submit)


@pytest.mark.parametrize(("kept_bytes", "planned"), [(100_000, 2), (2_000, 4)])
def test_a_plan_that_takes_much_of_the_memory_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, kept_bytes: int, planned: int
) -> None:
    plans, made = KnownPlans(kept_bytes), []
    plan = known_plans.plan
    monkeypatch.setattr(known_plans, "plan", lambda *given: made.append(given) or plan(*given))
    for number in range(4):
        [record] = examine(RequestContext(NAMES, LIMITS, AGENTS, 1), orjson.dumps(request(number))).records
        plans.of(RUNS.decode(record.value).message)

    assert len(made) == planned


def test_a_request_is_examined_again_if_its_session_has_other_keys() -> None:
    document = request(1)
    document["task_groups"][0]["tasks"][0]["dependencies"] = ["kept"]
    context = RequestContext(NAMES, LIMITS, AGENTS, 1)
    value = orjson.dumps(document)

    for _ in range(2):
        assert isinstance(examine(context, value, keys=["kept"]), Submit)
    assert not isinstance(examine(context, value), Submit)
    assert isinstance(examine(context, value, keys=["kept"]), Submit)


def test_a_group_over_the_limit_of_a_record_is_started_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PART_BYTES", 300)
    owner, starts = DecisionConfig(NAMES), []
    for number in (1, 100, 1):
        document = request(number)
        document["task_groups"][0]["tasks"][0]["inputs"] = "x" * number
        [record] = examine(RequestContext(NAMES, LIMITS, AGENTS, 1), orjson.dumps(document)).records
        planned = owner.plans.of(RUNS.decode(record.value).message)
        partition = PartitionState(0)
        decide(owner, partition, RUNS.decode(record.value).message, number, 1.0)
        [run] = partition.runs.values()
        starts.append([orjson.loads(each) for each in opening.start_groups(run, planned)])

    assert [len(each) for each in starts] == [1, 2, 1]
    assert [(each["part"], each["parts"]) for each in starts[1]] == [(0, 2), (1, 2)]
    assert [task["name"] for each in starts[1] for task in each["tasks"]] == ["t", "u"]


def test_the_free_fields_are_checked_as_those_of_a_request() -> None:
    for name, field in FreeFields.model_fields.items():
        if name != "context":
            assert repr(field) == repr(Request.model_fields[name])
