"""Valid requests: what they may contain, and their warnings."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.request.admission import ValidationResult, parse_request, read_request, session_candidates
from anabranch.core.request.graph import Dependency
from anabranch.core.request.models import Request, TaskGroup, TaskSpec


def read(*tasks: dict[str, Any], session_keys: Any = (), **fields: Any) -> ValidationResult:
    full = [{"agent": "echo", "result_keys": [f"{task['name']}.out"]} | task for task in tasks]
    reading = read_request({"task_groups": [{"name": "g", "tasks": full}]} | fields, session_keys=session_keys)
    assert reading.errors == ()
    return reading


def needs(reading: ValidationResult, index: int = 0) -> dict[str, Dependency]:
    assert reading.plan
    return {need.key: need for need in reading.plan.tasks[index].needs}


def test_where_each_key_comes_from() -> None:
    reading = read(
        {
            "name": "a",
            "dependencies": ["b.out", "ctx", "old", "maybe?", "later?"],
            "external_dependencies": ["ext"],
        },
        {"name": "b"},
        context={"ctx": 1},
        session_keys={"old"},
    )

    assert needs(reading) == {
        "b.out": Dependency("b.out", "produced", False, ("g", "b")),
        "ctx": Dependency("ctx", "context", False),
        "old": Dependency("old", "session", False),
        "maybe": Dependency("maybe", "absent", True),
        "later": Dependency("later", "absent", True),
        "ext": Dependency("ext", "external", False),
    }


def test_a_key_that_the_request_produces_has_no_other_source() -> None:
    reading = read(
        {"name": "a", "dependencies": ["b.out"], "external_dependencies": ["b.out"]},
        {"name": "b"},
        context={"b.out": 1},
        session_keys={"b.out"},
    )

    assert needs(reading)["b.out"].kind == "produced"
    assert reading.warnings == ("g/a declares 'b.out' external, but g/b produces it: the result of g/b is used",)


def test_the_requests_context_comes_before_the_sessions() -> None:
    assert (
        needs(read({"name": "a", "dependencies": ["k"]}, context={"k": 1}, session_keys={"k"}))["k"].kind
        == "context"
    )


def test_an_optional_dependency_can_be_written_in_two_ways() -> None:
    short = read({"name": "a", "dependencies": ["b.out?"]}, {"name": "b"})
    long = read({"name": "a", "dependencies": ["b.out"], "optional_dependencies": ["b.out"]}, {"name": "b"})

    assert needs(short) == needs(long) == {"b.out": Dependency("b.out", "produced", True, ("g", "b"))}


@pytest.mark.parametrize(
    ("group", "own", "optional"), [("k", "k?", False), ("k?", "k", False), ("k?", "k?", True), ("k?", "j", True)]
)
def test_dependencies_of_the_group_are_those_of_each_task(group: str, own: str, optional: bool) -> None:
    tasks = [{"name": "a", "agent": "e", "result_keys": ["x"], "dependencies": [own]}]
    reading = read_request(
        {"context": {"k": 1, "j": 1}, "task_groups": [{"name": "g", "dependencies": [group], "tasks": tasks}]}
    )

    assert needs(reading)["k"].optional == optional


def test_a_mapped_array_is_a_dependency_by_its_longest_known_key() -> None:
    mapping = {"i": "a.b.items", "j": "b.out.rows", "k": "plain.x", "l": [1]}
    reading = read(
        {"name": "t", "expansion_config": {"type": "matrix", "array_mapping": mapping}},
        {"name": "b"},
        context={"a": 1, "a.b": {"items": [1]}, "plain": {"x": [1]}},
    )

    assert [(need.key, need.kind) for need in needs(reading).values()] == [
        ("a.b", "context"),
        ("b.out", "produced"),
        ("plain", "context"),
    ]


def test_arrays_that_only_a_rule_names_are_dependencies_too() -> None:
    rules = {"combine": ["rows", "b.out"]}
    reading = read(
        {"name": "t", "expansion_config": {"type": "custom", "transform_rules": rules}},
        {"name": "b"},
        context={"rows": [1]},
    )

    assert set(needs(reading)) == {"rows", "b.out"}


@pytest.mark.parametrize(
    "expansion",
    [
        {"type": "matrix", "include": [{"os": "linux"}]},
        {"type": "array", "array_mapping": {"i": []}},
        {"type": "custom", "transform_rules": {"sequence": {"i": {"end": 3}}}},
    ],
)
def test_these_expansions_name_an_array(expansion: dict[str, Any]) -> None:
    read({"name": "t", "expansion_config": expansion})


def test_the_order_of_tasks_does_not_matter() -> None:
    forwards = read({"name": "a"}, {"name": "b", "dependencies": ["a.out"]})
    backwards = read({"name": "b", "dependencies": ["a.out"]}, {"name": "a"})

    assert forwards.plan
    assert backwards.plan
    assert forwards.plan.levels == backwards.plan.levels == (("g/a",), ("g/b",))


def test_agents_are_only_checked_if_the_registry_is_known() -> None:
    document = {"task_groups": [{"name": "g", "tasks": [{"name": "a", "agent": "x", "result_keys": ["k"]}]}]}

    assert read_request(document, agents=None).errors == ()
    assert read_request(document, agents=()).errors != ()


def test_null_stands_for_absent_in_optional_fields() -> None:
    read(
        {"name": "a", "dependencies": None, "expansion_config": None, "retry": None}, session_id=None, labels=None
    )


def test_a_request_built_in_python_is_read_like_its_document() -> None:
    request = Request(
        task_groups=[TaskGroup(name="g", tasks=[TaskSpec(name="t", agent="echo", result_keys=["x"])])]
    )

    assert read_request(request).request == request
    assert read_request(request) == read_request(request.to_document())


def test_yaml_is_read_as_json_would_be() -> None:
    text = """
    name: nightly
    context: {2021: 1, day: 2021-01-01, on: yes, zip: 00501}
    task_groups:
      - name: g
        tasks:
          - &first {name: a, agent: echo, result_keys: [x], dependencies: }
          - {<<: *first, name: b, result_keys: [y], timeout: 5m}
    """
    reading = parse_request(text, "yaml")

    assert reading.errors == ()
    assert reading.required().context == {"2021": 1, "day": "2021-01-01", "on": "yes", "zip": "00501"}
    assert reading.required().task_groups[0].tasks[1].timeout == 300
    assert reading.bytes == read_request(reading.required()).bytes + len(',"dependencies":null') * 2 + 1


@pytest.mark.parametrize(
    ("task", "warning"),
    [
        ({"retry": {"max_attempts": 3}}, "the retry strategy is none"),
        ({"expansion_config": {"type": "array", "array_mapping": {"i": [1], "j": [1, 2]}}}, "will fail"),
        ({"expansion_config": {"type": "array", "array_mapping": {"i": "n"}}}, "will fail"),
        (
            {
                "expansion_config": {
                    "type": "custom",
                    "array_mapping": {"i": [1], "j": [1, 2]},
                    "transform_rules": {"zip": ["i", "j"]},
                }
            },
            "will fail",
        ),
        ({"expansion_config": {"type": "array", "array_mapping": {"i": "n.rows"}}}, "the context has no 'n.rows'"),
        (
            {"expansion_config": {"type": "array", "array_mapping": {"i": [1]}, "exclude": [{"i": 1}]}},
            "the expansion is not a matrix",
        ),
        ({"message_template": "see {b.out}"}, 'add "b.out" to the dependencies'),
    ],
)
def test_a_probable_mistake_is_a_warning(task: dict[str, Any], warning: str) -> None:
    reading = read({"name": "a"} | task, {"name": "b"}, context={"n": 5})

    assert len(reading.warnings) == 1
    assert warning in reading.warnings[0]


def test_keys_to_query_from_the_session() -> None:
    document = {
        "context": {"ctx": 1},
        "task_groups": [
            {
                "name": "g",
                "tasks": [
                    {
                        "name": "a",
                        "agent": "echo",
                        "result_keys": ["x"],
                        "dependencies": ["x", "ctx", "old", "opt?"],
                        "external_dependencies": ["ext"],
                        "expansion_config": {"type": "array", "array_mapping": {"i": "rows.items"}},
                    }
                ],
            }
        ],
    }

    assert session_candidates(document) == {"old", "opt", "rows", "rows.items"}
    assert session_candidates({"object": document}) == session_candidates(document)
    assert session_candidates([]) == frozenset()


def test_several_tasks_may_produce_a_key_with_a_policy() -> None:
    """Its dependents come after all of them. The context's value is ignored, with a warning."""
    tasks = [{"name": name, "agent": "echo", "result_keys": ["k"]} for name in "abc"]
    tasks[2]["dependencies"] = ["other"]
    tasks += [
        {"name": "d", "agent": "echo", "result_keys": ["other"]},
        {"name": "e", "agent": "echo", "result_keys": ["end"], "dependencies": ["k"]},
    ]
    document = {
        "task_groups": [{"name": "g", "tasks": tasks}],
        "context": {"k": 1, "c": 2},
        "context_policies": {"k": "sum", "c": "max"},
    }

    reading = read_request(document)

    assert reading.errors == ()
    assert reading.plan is not None
    assert reading.plan.levels == (("g/a", "g/b", "g/d"), ("g/c",), ("g/e",))
    assert (reading.plan.edges, reading.plan.visible_context()) == (4, {"c": 2})
    assert reading.warnings == (
        "the context's value of 'k' is ignored, because tasks of the request produce that key",
    )
