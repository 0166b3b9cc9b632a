"""The request's models: pleasant to build in Python, one canonical document, schema in step with them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from pydantic import ValidationError

from anabranch.core.request.fields import tolerated
from anabranch.core.request.models import ControlRecord, Expansion, Request, RetryPolicy, TaskGroup, TaskSpec

GOLDEN = Path(__file__).parents[2] / "golden"


def full_request() -> Request:
    """A request that uses every field."""
    return Request(
        request_id="order-17",
        session_id="shop.eu~1",
        name="nightly report",
        labels={"team": "data"},
        context={"rows": [{"id": 1}, {"id": 2}], "none": None},
        timeout="2h",
        task_groups=[
            TaskGroup(
                name="fetch",
                dependencies=["ready?"],
                timeout="5m",
                max_concurrency=4,
                tasks=[
                    TaskSpec(
                        name="page",
                        agent="http",
                        message_template="get {row.id}",
                        shared_instructions="be kind",
                        inputs={"url": "https://example.org/{row.id}", "n": [1, None, 2.5]},
                        tools=["search"],
                        dependencies=["rows", "hint?"],
                        external_dependencies=["go"],
                        result_keys=["pages", "notes"],
                        optional_result_keys=["notes"],
                        expansion_config=Expansion(
                            type="custom",
                            array_mapping={"row": "rows", "n": [1, 2]},
                            identifiers={"id": "row.id"},
                            output_format="separate",
                            transform_rules={
                                "combine": ["row", "n"],
                                "sequence": {"k": {"end": 3}},
                                "filter": {"row.id": ">1"},
                                "chunk": 2,
                                "distinct": True,
                            },
                            on_empty="skip",
                        ),
                        retry=RetryPolicy(strategy="exponential", delay="250ms", max_delay="1m", jitter=True),
                        max_deliveries=2,
                        timeout="30s",
                        tolerated_failures="5%",
                        on_failure="hold",
                        max_concurrency=2,
                    )
                ],
            )
        ],
    )


def test_the_canonical_document_is_pinned() -> None:
    golden = json.loads((GOLDEN / "request.json").read_text("utf-8"))

    assert full_request().to_document() == golden


def test_the_canonical_document_reads_back_as_the_same_request() -> None:
    document = json.loads(json.dumps(full_request().to_document()))

    assert Request.model_validate(document) == full_request()
    assert Request.model_validate(document).to_document() == document


def test_a_small_request_has_a_small_document() -> None:
    request = Request(
        task_groups=[TaskGroup(name="g", tasks=[TaskSpec(name="t", agent="echo", result_keys=["x"])])]
    )

    assert request.to_document() == {
        "task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "echo", "result_keys": ["x"]}]}]
    }
    assert request.timeout == 86_400


def test_two_spellings_of_one_request_have_one_document() -> None:
    short = {"name": "t", "agent": "a", "result_keys": ["x"], "dependencies": ["k?"], "timeout": "1m"}
    long = {
        "name": "t",
        "agent_class": "a",
        "result_keys": ["x"],
        "dependencies": ["k"],
        "optional_dependencies": ["k"],
        "timeout": 60.0,
        "retry": None,
        "tools": None,
    }

    assert TaskSpec.model_validate(short).to_document() == TaskSpec.model_validate(long).to_document()


def test_models_are_frozen_and_closed() -> None:
    task = TaskSpec(name="t", agent="a", result_keys=["x"])

    with pytest.raises(ValidationError, match="frozen"):
        task.name = "u"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        TaskSpec.model_validate({"name": "t", "agent": "a", "result_keys": ["x"], "agnet": "b"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"result_keys": []},
        {"result_keys": ["done?"]},
        {"result_keys": "x"},
        {"name": "a/b"},
        {"timeout": 0},
        {"timeout": "soon"},
        {"max_deliveries": 0},
        {"max_deliveries": True},
        {"max_concurrency": 1.5},
        {"tolerated_failures": -1},
        {"tolerated_failures": "101%"},
        {"tolerated_failures": "many"},
        {"on_failure": "ignore"},
        {"retry": {"strategy": "sometimes"}},
        {"retry": {"max_attempts": 0}},
        {"retry": {"jitter": 2}},
        {"inputs": {"x": math.nan}},
        {"agent": None},
        {"agent_class": "another"},
        {"expansion_config": {"array_mapping": {"i": "rows"}}},
        {"expansion_config": {"type": "array", "array_mapping": {"i": 5}}},
        {"expansion_config": {"type": "custom", "transform_rules": {"sequence": {"i": {"end": 3, "step": 0}}}}},
    ],
)
def test_a_task_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TaskSpec.model_validate({"name": "t", "agent": "a", "result_keys": ["x"]} | wrong)


def test_a_mapped_json_text_of_a_list_is_the_list() -> None:
    expansion = Expansion(type="array", array_mapping={"i": "[1, 2]", "j": "[broken", "k": "rows.items"})

    assert expansion.array_mapping == {"i": [1, 2], "j": "[broken", "k": "rows.items"}


@pytest.mark.parametrize(
    ("tolerance", "members", "expected"), [(3, 10, 3), ("5%", 10, 0), ("5%", 100, 5), ("29%", 100, 29), (0, 5, 0)]
)
def test_tolerated_failures_of_a_number_of_members(tolerance: int | str, members: int, expected: int) -> None:
    assert tolerated(tolerance, members) == expected


@pytest.mark.parametrize(
    ("record", "is_good"),
    [
        ({"type": "cancel", "run_id": "r"}, True),
        ({"type": "pause", "request_id": "r"}, True),
        ({"type": "subscribe", "session_id": "s", "types": ["run.*"], "channel": "c"}, True),
        ({"type": "unsubscribe", "session_id": "s"}, True),
        ({"type": "cancel"}, False),
        ({"type": "cancel", "session_id": "s"}, False),
        ({"type": "subscribe", "run_id": "r"}, False),
        ({"type": "explode", "run_id": "r"}, False),
        ({"type": "cancel", "run_id": "r", "why": "x"}, False),
    ],
)
def test_control_records(record: dict[str, Any], is_good: bool) -> None:
    if is_good:
        assert ControlRecord.model_validate(record).type == record["type"]
    else:
        with pytest.raises(ValidationError):
            ControlRecord.model_validate(record)


def schema_check() -> jsonschema.Draft202012Validator:
    schema = Request.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_json_schema_accepts_what_the_models_accept() -> None:
    document = full_request().to_document()
    schema_check().validate(document)

    task = document["task_groups"][0]["tasks"][0]
    task["agent_class"] = task.pop("agent")
    task["timeout"] = "30s"
    task["message_template"] = None
    document["session_id"] = None

    schema_check().validate(document)
    assert Request.model_validate(document)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nope": 1},
        {"name": "a/b"},
        {"result_keys": []},
        {"timeout": "soon"},
        {"agent": None},
        {"agent_class": "b"},
    ],
)
def test_the_json_schema_refuses_what_the_models_refuse(wrong: dict[str, Any]) -> None:
    task = {"name": "t", "agent": "a", "result_keys": ["x"]} | wrong
    document = {"task_groups": [{"name": "g", "tasks": [task]}]}

    assert not schema_check().is_valid(document)
    with pytest.raises(ValidationError):
        Request.model_validate(document)
