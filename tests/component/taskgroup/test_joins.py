"""Results of joins through the whole system: expansions and output formats, also empty and invalid ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from small_requests import alive, array, request, task

from anabranch import RunResult, Task
from anabranch.testing import System


@pytest.fixture
def run(anabranch_system: Callable[..., System]) -> Callable[..., RunResult]:
    """Runs a request in a system with some agents, and checks that every service survived."""

    def run_it(document: dict[str, Any], agents: Any = ()) -> RunResult:
        system = anabranch_system(agents={"pick": pick} if agents == () else agents)
        result = system.run(document, timeout=90_000)
        alive(system)
        return result

    return run_it


async def pick(task: Task) -> Any:
    """Returns `inputs.value`, or fails where `inputs.fail` equals it."""
    if "fail" in task.inputs and task.inputs["value"] == task.inputs["fail"]:
        raise ValueError(f"no {task.inputs['fail']}")
    return task.inputs["value"]


FORMATS = {
    "merge": ["a", "b", "c"],
    "separate": {"0": "a", "1": "b", "2": "c"},
    "single": "c",
    "index": ["a", "b", "c"],
}
EXPANSIONS = {
    "array": array(["a", "b", "c"]),
    "matrix": {"type": "matrix", "array_mapping": {"item": ["a", "b", "c"]}},
    "custom": {
        "type": "custom",
        "array_mapping": {"item": ["a", "b", "c"]},
        "transform_rules": {"combine": ["item"]},
    },
}


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("kind", EXPANSIONS)
def test_each_format_joins_each_expansion(run: Callable[..., RunResult], kind: str, output_format: str) -> None:
    expansion = EXPANSIONS[kind] | {"output_format": output_format}

    result = run(request(task("out", inputs="{item}", expansion_config=expansion)))

    expected = {"out": FORMATS[output_format]}
    if output_format == "separate":
        expected |= {"0_out": "a", "1_out": "b", "2_out": "c"}
    assert (result.status, dict(result.results)) == ("completed", expected)
    assert result.executions == {"total": 3, "completed": 3, "failed": 0, "skipped": 0}


FAILED_MIDDLE = {"merge": ["a", "c"], "separate": {"0": "a", "2": "c"}, "single": "c", "index": ["a", None, "c"]}


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_tolerated_failure_is_left_out_or_null(run: Callable[..., RunResult], output_format: str) -> None:
    expansion = array(["a", "b", "c"], output_format=output_format)
    inputs = {"value": "{item}", "fail": "b"}

    result = run(request(task("out", "pick", inputs, expansion_config=expansion, tolerated_failures=1)))

    assert (result.status, result.results["out"]) == ("completed", FAILED_MIDDLE[output_format])
    assert [(each["member"], each["index"], each["error_type"]) for each in result.failures] == [
        ("out_2", 1, "ValueError")
    ]
    assert result.executions == {"total": 3, "completed": 2, "failed": 1, "skipped": 0}


def test_lists_of_members_are_concatenated_in_member_order(run: Callable[..., RunResult]) -> None:
    expansion = array([[1, 2], [], [3], 4])

    result = run(request(task("out", inputs="{item}", expansion_config=expansion)))

    assert result.results["out"] == [1, 2, 3, 4]


def test_separate_is_keyed_by_the_first_identifier(run: Callable[..., RunResult]) -> None:
    expansion = array(
        [{"id": "x", "n": 1}, {"id": "y", "n": 2}], output_format="separate", identifiers={"who": "item.id"}
    )

    result = run(request(task("out", inputs="{who}:{n}", expansion_config=expansion)))

    assert dict(result.results) == {"out": {"x": "x:1", "y": "y:2"}, "x_out": "x:1", "y_out": "y:2"}


def test_a_repeated_identifier_fails_its_task(run: Callable[..., RunResult]) -> None:
    expansion = array([{"id": "x"}, {"id": "x"}], output_format="separate", identifiers={"who": "item.id"})

    result = run(request(task("out", inputs="{who}", expansion_config=expansion)))

    assert (result.status, [each["error_type"] for each in result.failures]) == ("failed", ["ExpansionError"])


def test_several_result_keys_are_joined_each_by_itself(run: Callable[..., RunResult]) -> None:
    inputs = {"a": "{item}", "b": "{index}"}
    spec = task("t", inputs=inputs, result_keys=["a", "b"], expansion_config=array(["x", "y"]))

    result = run(request(spec))

    assert dict(result.results) == {"a": ["x", "y"], "b": [0, 1]}


@pytest.mark.parametrize(
    ("output_format", "empty"), [("merge", []), ("separate", {}), ("single", None), ("index", [])]
)
def test_no_members_complete_with_the_empty_value(
    run: Callable[..., RunResult], output_format: str, empty: Any
) -> None:
    spec = task("out", inputs="{item}", expansion_config=array([], output_format=output_format))

    result = run(request(spec, task("after", inputs="saw {out}", dependencies=["out"])))

    assert (result.status, result.results["out"]) == ("completed", empty)
    assert "after" in result.results


def test_no_members_may_fail(run: Callable[..., RunResult]) -> None:
    spec = task("out", inputs="{item}", expansion_config=array([], on_empty="fail"))

    result = run(request(spec, task("after", inputs="x", dependencies=["out"]), task("other", inputs="x")))

    assert (result.status, dict(result.results)) == ("failed", {"other": "x"})
    assert result.executions == {"total": 3, "completed": 1, "failed": 1, "skipped": 1}


def test_no_members_may_skip(run: Callable[..., RunResult]) -> None:
    spec = task("out", inputs="{item}", expansion_config=array([], on_empty="skip"))

    result = run(request(spec, task("after", inputs="x", dependencies=["out"]), task("other", inputs="x")))

    assert (result.status, dict(result.results)) == ("completed", {"other": "x"})
    assert result.executions["skipped"] == 2


@pytest.mark.parametrize("found", ["text", 7, None, {"a": 1}])
def test_an_array_that_is_no_list_fails_its_task_and_other_branches_complete(
    run: Callable[..., RunResult], found: Any
) -> None:
    document = request(
        task("source", "pick", {"value": "{found}"}, dependencies=["found"]),
        task("wide", inputs="{item}", dependencies=["source"], expansion_config=array("source")),
        task("after", inputs="x", dependencies=["wide"]),
        task("other", inputs="fine", dependencies=["source"]),
        context={"found": found},
    )

    result = run(document)

    assert (result.status, result.results["other"]) == ("failed", "fine")
    assert [(each["task"], each["error_type"]) for each in result.failures] == [("wide", "ExpansionError")]
    assert result.executions["skipped"] == 1


def test_a_missing_path_fails_its_task(run: Callable[..., RunResult]) -> None:
    document = request(
        task("source", inputs={"there": [1]}),
        task("wide", inputs="{item}", dependencies=["source"], expansion_config=array("source.gone")),
    )

    result = run(document)

    assert [(each["task"], each["error_type"]) for each in result.failures] == [("wide", "ExpansionError")]


def test_a_json_text_of_a_list_is_a_list(run: Callable[..., RunResult]) -> None:
    document = request(
        task("source", inputs="[1, 2]"),
        task("wide", inputs="{item}", dependencies=["source"], expansion_config=array("source")),
    )

    assert run(document).results["wide"] == [1, 2]


def test_an_item_without_its_field_fails_as_a_member_and_the_others_run(run: Callable[..., RunResult]) -> None:
    expansion = array([{"id": "x"}, {}], identifiers={"who": "item.id"}, output_format="index")

    result = run(request(task("out", inputs="{who}", expansion_config=expansion, tolerated_failures=1)))

    assert (result.status, result.results["out"]) == ("completed", ["x", None])


TOLERANCES = [("50%", "completed"), ("49%", "failed"), (2, "completed"), (1, "failed")]


@pytest.mark.parametrize(("tolerated", "status"), TOLERANCES)
def test_tolerance_is_a_count_or_a_share(run: Callable[..., RunResult], tolerated: Any, status: str) -> None:
    inputs = {"value": "{item}", "fail": "b"}
    spec = task("out", "pick", inputs, expansion_config=array(["a", "b", "b", "c"]), tolerated_failures=tolerated)

    result = run(request(spec))

    assert (result.status, result.results["out"]) == (status, ["a", "c"])


def test_a_large_value_is_returned_completely(run: Callable[..., RunResult]) -> None:
    text = "ä" * 1_500_000

    async def large(task: Task) -> Any:
        return {"text": text, "small": 1}

    result = run(request(task("t", "large", result_keys=["text", "small"])), {"large": large})

    assert result.results["text"] == text
    assert result.results["small"] == 1


@pytest.mark.parametrize("output_format", ["merge", "separate", "index", "single"])
def test_members_with_large_values_are_joined_completely(
    run: Callable[..., RunResult], output_format: str
) -> None:
    def value(index: int) -> Any:
        return [[index] * 10, "x" * 1_200_000, ["y" * 1_000] * 500][index % 3]

    async def large(task: Task) -> Any:
        return value(task.index or 0)

    spec = task("out", "large", expansion_config=array([0, 1, 2, 3], output_format=output_format))
    result = run(request(spec), {"large": large})

    values = [value(index) for index in range(4)]
    merged = [item for each in values for item in (each if isinstance(each, list) else [each])]
    expected = {
        "merge": merged,
        "separate": {str(index): each for index, each in enumerate(values)},
        "index": values,
        "single": values[-1],
    }
    assert result.results["out"] == expected[output_format]
    if output_format == "separate":
        assert [result.results[f"{index}_out"] for index in range(4)] == values


def test_a_large_list_is_the_source_of_an_expansion(run: Callable[..., RunResult]) -> None:
    async def produce(task: Task) -> Any:
        return [{"n": n, "pad": "x" * 300} for n in range(10_001)]

    document = request(
        task("source", "produce"),
        task("wide", inputs="{n}", dependencies=["source"], expansion_config=array("source")),
    )

    result = run(document, {"produce": produce})

    assert result.results["wide"] == list(range(10_001))
    assert result.executions == {"total": 10_002, "completed": 10_002, "failed": 0, "skipped": 0}


def test_a_large_value_that_is_no_list_fails_the_expansion_over_it(run: Callable[..., RunResult]) -> None:
    async def produce(task: Task) -> Any:
        return {"rows": "x" * 3_000_000}

    document = request(
        task("source", "produce"),
        task("wide", inputs="{item}", dependencies=["source"], expansion_config=array("source.rows")),
        task("reader", "length", dependencies=["source"]),
    )

    async def length(task: Task) -> int:
        return len(task.context["source"]["rows"])

    result = run(document, {"produce": produce, "length": length})

    assert (result.status, result.results["reader"]) == ("failed", 3_000_000)
    assert [each["task"] for each in result.failures] == ["wide"]


def test_many_long_failures_end_the_run_and_are_counted(run: Callable[..., RunResult]) -> None:
    """A thousand messages of 2,000 characters fit into no record; it has some of them and their number."""

    async def broken(task: Task) -> None:
        raise RuntimeError("ä" * 5_000)

    spec = task("out", "broken", expansion_config=array(list(range(1_500))), tolerated_failures="100%")
    result = run(request(spec), {"broken": broken})

    assert (result.status, result.results["out"]) == ("completed", [])
    assert result.executions["failed"] == 1_500
    assert 0 < len(result.failures) <= 1_000


def test_a_result_that_looks_like_a_reference_is_a_value(run: Callable[..., RunResult]) -> None:
    odd = {"$anabranch": "nowhere/nothing"}
    document = request(task("odd", inputs=odd), task("after", "pick", {"value": "{odd}"}, dependencies=["odd"]))

    result = run(document)

    assert dict(result.results) == {"odd": odd, "after": odd}
