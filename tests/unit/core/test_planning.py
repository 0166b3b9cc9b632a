"""The plan: levels, members, executions, what ``plan --json`` shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anabranch.core.errors import RequestRefused
from anabranch.core.request.admission import read_request
from anabranch.core.request.models import Request
from anabranch.core.request.planning import Plan, plan

GOLDEN = Path(__file__).parents[2] / "golden"


def report_request() -> dict[str, Any]:
    """Two groups, expansions known and unknown in advance, templates of every kind."""
    return {
        "session_id": "shop",
        "context": {"rows": [{"id": "a", "n": 1}, {"id": "b", "n": 2}], "lang": "de", "conf": {"x": [1, 2]}},
        "task_groups": [
            {
                "name": "write",
                "dependencies": ["pages"],
                "tasks": [
                    {
                        "name": "join",
                        "agent": "echo",
                        "message_template": "{lang} {pages} {{lang}} {conf.x} {task_name} {index}",
                        "result_keys": ["report"],
                    },
                    {
                        "name": "split",
                        "agent": "echo",
                        "result_keys": ["parts"],
                        "expansion_config": {"type": "array", "array_mapping": {"page": "pages"}},
                    },
                ],
            },
            {
                "name": "fetch",
                "tasks": [
                    {
                        "name": "page",
                        "agent_class": "http",
                        "message_template": "{run_id} {session_id} {task_name} {index} {name}",
                        "inputs": {"row": "{row}", "text": "n={n}", "i": "{index}", "lang": "{lang}"},
                        "expansion_config": {
                            "type": "array",
                            "array_mapping": {"row": "rows"},
                            "identifiers": {"name": "row.id"},
                        },
                        "result_keys": ["pages"],
                    },
                    {
                        "name": "grid",
                        "agent": "echo",
                        "inputs": ["{os}", "{v}"],
                        "expansion_config": {
                            "type": "matrix",
                            "array_mapping": {"os": ["l", "w"], "v": [1, 2]},
                            "exclude": [{"os": "w", "v": 1}],
                            "include": [{"os": "m"}],
                        },
                        "result_keys": ["grid"],
                    },
                ],
            },
        ],
    }


def planned(document: dict[str, Any]) -> Plan:
    return plan(Request.model_validate(document))


def test_plan_json_is_pinned() -> None:
    golden = json.loads((GOLDEN / "plan.json").read_text("utf-8"))

    assert json.loads(json.dumps(read_request(report_request()).to_document(expand=True))) == golden


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"to": "{who}", "n": ["{rows}", 5, None, "{{who}}"]}, {"to": "Ada", "n": ["[1,2]", 5, None, "{who}"]}),
        (["{who}", {"{who}": "{index}"}], ["Ada", {"{who}": "null"}]),
        ("{rows}", "[1,2]"),
        (5, 5),
        (False, False),
    ],
)
def test_a_message_is_any_json_with_text_for_placeholders(template: Any, message: Any) -> None:
    task = {"name": "a", "agent": "echo", "result_keys": ["x"], "message_template": template}
    document = {"context": {"who": "Ada", "rows": [1, 2]}, "task_groups": [{"name": "g", "tasks": [task]}]}
    reading = read_request(document)

    shown = reading.to_document(expand=True)["tasks"][0]["expanded"][0]["message"]

    assert shown == message
    assert type(shown) is type(message)
    assert reading.required().to_document()["task_groups"][0]["tasks"][0]["message_template"] == template


def test_plan_json_without_expand_differs_only_in_that() -> None:
    expanded = read_request(report_request()).to_document(expand=True)

    for task in expanded["tasks"]:
        del task["expanded"]
    assert read_request(report_request()).to_document() == expanded


def test_plan_json_of_a_refused_request_has_the_same_fields() -> None:
    document = report_request()
    document["task_groups"][0]["tasks"][0]["nope"] = 1
    refused = read_request(document).to_document()

    assert refused.keys() == read_request(report_request()).to_document().keys()
    assert refused["valid"] is False
    assert [error["code"] for error in refused["errors"]] == ["unknown_field"]
    assert refused["counts"] == {"task_groups": 2, "tasks": 4, "executions": 0}


def test_levels_go_by_tasks_and_tasks_stay_in_declared_order() -> None:
    found = planned(report_request())

    assert found.levels == (("fetch/page", "fetch/grid"), ("write/join", "write/split"))
    assert [task.label for task in found.tasks] == ["write/join", "write/split", "fetch/page", "fetch/grid"]
    assert found.edges == 2


def test_members_are_counted_where_they_are_known() -> None:
    found = planned(report_request())

    assert [task.members for task in found.tasks] == [1, None, 2, 4]
    assert found.executions == 1 + 1 + 2 + 4


def test_an_array_of_the_context_that_the_request_produces_is_not_counted() -> None:
    document = report_request()
    document["context"]["pages"] = [1, 2, 3]

    found = planned(document)

    assert found.tasks[1].members is None
    assert "pages" not in found.visible_context()
    shown = found.to_document(document_bytes=0, expand=True)["tasks"][0]["expanded"]
    assert shown[0]["message"].startswith("de {pages} {lang} [1,2] join ")


def test_an_empty_array_has_no_members() -> None:
    document = report_request()
    document["context"]["rows"] = []

    assert planned(document).tasks[2].members == 0
    assert planned(document).executions == 6


def test_context_keys_are_what_templates_mention_undeclared() -> None:
    found = planned(report_request())

    assert [set(task.context_keys) for task in found.tasks] == [{"lang", "conf"}, set(), {"lang"}, set()]


def test_a_loop_variable_named_like_a_context_key_is_no_mention_of_it() -> None:
    document = report_request()
    document["context"]["row"] = "other"

    assert "row" not in planned(document).tasks[2].context_keys


def test_a_member_that_will_fail_says_why() -> None:
    document = report_request()
    document["context"]["rows"][1] = {"n": 2}

    first, second = planned(document).to_document(document_bytes=0, expand=True)["tasks"][2]["expanded"]

    assert "error" not in first
    assert "row.id" in second["error"]


def test_the_session_can_provide_what_the_request_does_not() -> None:
    document = report_request()
    del document["task_groups"][1]
    request = Request.model_validate(document)

    assert plan(request, session_keys={"pages"}).levels == (("write/join", "write/split"),)
    with pytest.raises(RequestRefused) as refusal:
        plan(request)
    assert [error.path for error in refusal.value.errors] == ["/task_groups/0/dependencies/0"]


def test_a_cycle_has_no_plan() -> None:
    task = {"name": "a", "agent": "e", "result_keys": ["x"], "dependencies": ["x"]}

    with pytest.raises(RequestRefused, match="a -> a"):
        planned({"task_groups": [{"name": "g", "tasks": [task]}]})
