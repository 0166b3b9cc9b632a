"""Workflows of GitHub Actions become requests; what a request cannot express is an error with its path."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.pipelines.conversion import Conversion
from anabranch.core.pipelines.converter import PipelineConverter
from anabranch.core.request.admission import read_request
from anabranch.core.request.planning import Plan

STEP = {"run": "true"}


def _convert(jobs: dict[str, Any], **fields: Any) -> Conversion:
    return PipelineConverter(actions={"actions/checkout": ":"}).convert({"on": "push", **fields, "jobs": jobs})


def _job(**fields: Any) -> dict[str, Any]:
    return {"runs-on": "ubuntu-latest", "steps": [STEP], **fields}


def _group(found: Conversion, name: str) -> dict[str, Any]:
    return next(each for each in found.required()["task_groups"] if each["name"] == name)


def _task(found: Conversion, name: str) -> dict[str, Any]:
    return dict(_group(found, name)["tasks"][0])


def _plan(found: Conversion) -> Plan:
    plan = read_request(found.required(), strict=True).plan
    assert plan is not None
    return plan


def _paths(found: Conversion) -> list[str]:
    return [each.path for each in found.errors]


def test_a_job_is_a_group_with_one_program() -> None:
    found = _convert({"build": _job(env={"COLOR": 1}, **{"timeout-minutes": 5})}, name="CI")

    assert found.required()["name"] == "CI"
    task = _task(found, "build")
    assert task["agent"] == "process"
    assert task["inputs"]["command"][:2] == ["bash", "-c"]
    assert task["inputs"]["env"] == {"GITHUB_JOB": "build", "COLOR": "1"}
    assert task["timeout"] == "300s"


def test_a_container_names_its_image() -> None:
    found = _convert({"build": _job(container={"image": "python:3.12", "env": {"A": "b"}})})

    task = _task(found, "build")
    assert task["agent"] == "container"
    assert task["inputs"]["image"] == "python:3.12"
    assert task["inputs"]["command"][0] == "sh"
    assert task["inputs"]["env"]["A"] == "b"


def test_needs_wait_for_the_end_of_jobs_and_see_their_outputs() -> None:
    first = _job(outputs={"version": "${{ steps.v.outputs.version }}"}, steps=[{"id": "v", "run": "true"}])
    second = _job(needs=["first"], env={"V": "v${{ needs.first.outputs.version }}"})

    task = _task(_convert({"second": second, "first": first}), "second")

    assert task["after"] == ["first/first"]
    assert task["dependencies"] == ["first"]
    assert task["inputs"]["env"]["V"] == "v{first.version}"


def test_a_matrix_that_stops_at_the_first_failure_is_a_group_of_tasks() -> None:
    matrix = {
        "python": ["3.11", "3.12"],
        "size": [1, 2],
        "exclude": [{"python": "3.12", "size": 2}],
        "include": [{"python": "3.13", "size": 9}],
    }
    found = _convert({"test": _job(strategy={"matrix": matrix, "max-parallel": 2}), "end": _job(needs="test")})

    group = _group(found, "test")
    assert group["fail_fast"] is True
    assert group["max_concurrency"] == 2
    names = ["test (3.11, 1)", "test (3.11, 2)", "test (3.12, 1)", "test (3.13, 9)"]
    assert [each["name"] for each in group["tasks"]] == names
    assert _task(found, "end")["after"] == [f"test/{name}" for name in names]


def test_a_matrix_whose_members_go_on_is_an_expansion() -> None:
    steps = [{"run": "echo ${{ matrix.python }}"}]
    strategy = {"fail-fast": False, "matrix": {"python": ["3.11", "3.12"]}}
    found = _convert({"test": _job(strategy=strategy, steps=steps, **{"continue-on-error": True})})

    task = _task(found, "test")
    assert task["expansion_config"]["array_mapping"] == {"matrix.python": ["3.11", "3.12"]}
    assert task["tolerated_failures"] == "100%"
    assert task["inputs"]["env"]["MATRIX_PYTHON"] == "{matrix.python}"
    assert _plan(found).executions == 2


def test_a_name_that_some_combinations_lack_is_empty_in_them() -> None:
    matrix = {"os": ["a", "b"], "include": [{"os": "a", "extra": "x"}]}
    found = _convert({"test": _job(strategy={"fail-fast": False, "matrix": matrix})})

    included = _task(found, "test")["expansion_config"]["include"]
    assert included == [{"matrix.os": "a", "matrix.extra": "x"}, {"matrix.os": "b", "matrix.extra": ""}]


def test_a_job_may_make_the_values_of_an_axis() -> None:
    first = _job(outputs={"list": "${{ steps.l.outputs.list }}"}, steps=[{"id": "l", "run": "true"}])
    strategy = {"fail-fast": False, "matrix": {"part": "${{ fromJSON(needs.first.outputs.list) }}"}}
    found = _convert({"first": first, "second": _job(needs="first", strategy=strategy)})

    assert _task(found, "second")["expansion_config"]["array_mapping"] == {"matrix.part": "first.list"}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("always()", None),
        ("success()", {"field": "a", "operator": "exists"}),
        ("failure()", {"field": "a", "operator": "not_exists"}),
        ("needs.a.outputs.v == '2'", {"field": "a.v", "operator": "equals", "value": "2"}),
        ("'2' != needs.a.outputs.v", {"field": "a.v", "operator": "not_equals", "value": "2"}),
        ("!(needs.a.result == 'success')", {"not": {"field": "a", "operator": "exists"}}),
        ("startsWith(needs.a.outputs.v, 'x')", {"field": "a.v", "operator": "starts_with", "value": "x"}),
        ("needs.a.outputs.none == ''", None),
        (
            "${{ always() && needs.a.outputs.v == '2' }}",
            {
                "all": [
                    {"field": "a", "operator": "exists"},
                    {"field": "a.v", "operator": "equals", "value": "2"},
                ]
            },
        ),
    ],
)
def test_an_if_of_a_job_is_a_condition(condition: str, expected: Any) -> None:
    first = _job(outputs={"v": "${{ steps.v.outputs.v }}"}, steps=[{"id": "v", "run": "true"}])

    found = _convert({"a": first, "b": _job(needs="a", **{"if": condition})})

    assert _task(found, "b").get("when") == expected
    assert _task(found, "b")["after"] == ["a/a?" if "()" in condition else "a/a"]
    assert _plan(found) is not None


def test_jobs_after_one_that_may_fail_start_when_it_failed_but_not_when_it_was_skipped() -> None:
    found = _convert({"a": _job(**{"continue-on-error": True}), "b": _job(needs="a")})

    assert _task(found, "a")["error_key"] == "a.error"
    assert _task(found, "b")["after"] == ["a/a?"]
    exists = [{"field": "a", "operator": "exists"}, {"field": "a.error", "operator": "exists"}]
    assert _task(found, "b")["when"] == {"any": exists}


def test_a_concurrency_group_keeps_the_newest_that_waits() -> None:
    found = _convert({"a": _job()}, concurrency="deploy")
    cancelling = _convert({"a": _job()}, concurrency={"group": "deploy", "cancel-in-progress": True})

    assert found.required()["concurrency"] == {"key": "deploy", "limit": 1, "on_full": "replace_queued"}
    assert cancelling.required()["concurrency"]["on_full"] == "cancel_running"


def test_a_concurrency_group_may_name_values() -> None:
    group = "${{ github.workflow }}-${{ github.ref }}"
    found = _convert({"a": _job()}, name="CI", concurrency=group)

    assert found.required()["concurrency"]["key"] == "CI-{github.ref}"
    assert found.required()["context"] == {"github.ref": ""}


@pytest.mark.parametrize("fail_fast", [True, False])
def test_runners_of_a_matrix_are_checked(fail_fast: bool) -> None:
    def convert(systems: list[str], label: str = "${{ matrix.os }}") -> Conversion:
        strategy = {"fail-fast": fail_fast, "matrix": {"os": systems}}
        return _convert({"a": _job(strategy=strategy, **{"runs-on": label})})

    assert convert(["ubuntu-24.04", "ubuntu-22.04"]).request is not None
    assert _paths(convert(["ubuntu-24.04", "windows-latest"])) == ["/jobs/a/runs-on"]
    [warning] = convert(["x"], "${{ inputs.runner || 'linux' }}").warnings
    assert warning.path == "/jobs/a/runs-on"


def test_inputs_and_values_of_github_are_in_the_context() -> None:
    on = {"workflow_dispatch": {"inputs": {"level": {"default": "fast"}}}}
    steps = [{"run": "echo ${{ inputs.level }} ${{ github.sha }} ${{ vars.REGION }}"}]
    found = _convert({"a": _job(steps=steps)}, on=on)

    assert found.required()["context"] == {"inputs.level": "fast", "github.sha": "", "vars.REGION": ""}
    assert any("github.sha" in each.message for each in found.warnings)


@pytest.mark.parametrize(
    ("job", "path"),
    [
        ({"services": {"db": {"image": "postgres"}}}, "/jobs/a/services"),
        ({"steps": [{"uses": "some/action@v1"}]}, "/jobs/a/steps/0/uses"),
        ({"steps": []}, "/jobs/a/steps"),
        ({"steps": [{"name": "nothing"}]}, "/jobs/a/steps/0"),
        ({"steps": [{"run": "x", "shell": "pwsh"}]}, "/jobs/a/steps/0/shell"),
        ({"steps": [{"run": "echo ${{ secrets.TOKEN }}"}]}, "/jobs/a/steps/0"),
        ({"steps": [{"run": "echo ${{ hashFiles('a') }}"}]}, "/jobs/a/steps/0"),
        ({"steps": [{"run": "echo ${{ matrix.os "}]}, "/jobs/a/steps/0"),
        ({"steps": [{"run": "echo ${{ steps.later.outputs.x }}"}]}, "/jobs/a/steps/0"),
        ({"steps": [{"run": "x", "continue-on-error": "${{ matrix.os }}"}]}, "/jobs/a/steps/0/continue-on-error"),
        ({"needs": "nobody"}, "/jobs/a/needs"),
        ({"if": "needs.nobody.outputs.x == 1"}, "/jobs/a/if"),
        ({"if": "steps.x.outcome == 'success'"}, "/jobs/a/if"),
        ({"if": "a == 1 ||"}, "/jobs/a/if"),
        ({"if": " || ".join(["inputs.x"] * 2000)}, "/jobs/a/if"),
        ({"if": "contains(github.event.pull_request.labels.*.name, 'x')"}, "/jobs/a/if"),
        ({"env": {"A": "${{ toJSON(matrix) || 1 }}"}}, "/jobs/a/env/A"),
        ({"steps": [{"run": "echo ${{ format('{1}', 'a') }}"}]}, "/jobs/a/steps/0"),
        ({"steps": [{"run": "echo ${{ format('{', 'a') }}"}]}, "/jobs/a/steps/0"),
        ({"runs-on": "windows-latest"}, "/jobs/a/runs-on"),
        ({"strategy": {"matrix": "${{ fromJSON(x) }}"}}, "/jobs/a/strategy/matrix"),
        ({"strategy": {"matrix": {"x": 5}}}, "/jobs/a/strategy/matrix/x"),
        (
            {"strategy": {"matrix": {"x": [1], "exclude": [{"y": 1}]}}},
            "/jobs/a/strategy/matrix/exclude/0/matrix.y",
        ),
        ({"strategy": {"max-parallel": 0}}, "/jobs/a/strategy/max-parallel"),
        ({"timeout-minutes": "${{ inputs.x }}"}, "/jobs/a/timeout-minutes"),
        ({"uses": "./.github/workflows/other.yml"}, "/jobs/a/uses"),
        ({"env": {"A": ["list"]}}, "/jobs/a/env/A"),
        ({"env": {"a b": "c"}}, "/jobs/a/env/a b"),
        ({"env": {"A": "${{ steps.x.outputs.y }}"}}, "/jobs/a/env/A"),
    ],
)
def test_what_a_request_cannot_express_is_an_error_at_its_path(job: dict[str, Any], path: str) -> None:
    found = _convert({"a": _job(**job)})

    assert found.request is None
    assert path in _paths(found)
    assert all(each.message for each in found.errors)


def test_jobs_that_need_each_other_are_refused_as_a_request_is() -> None:
    found = _convert({"a": _job(needs="b"), "b": _job(needs="a")})

    assert found.request is None
    assert [each.code for each in found.errors] == ["cycle"]


def test_a_document_of_no_known_system_is_refused() -> None:
    found = PipelineConverter().convert({"stages": []})

    assert found.request is None
    assert "GitHub Actions" in found.errors[0].message
