"""Documents made to harm their reader: each gets an answer with a stable code, in bounded time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from counted_work import calls_of

from anabranch.core.request.admission import (
    DEFAULT_LIMITS,
    MAX_ERRORS,
    ValidationResult,
    parse_request,
    read_request,
    session_candidates,
)
from anabranch_agency.intake.records import document_of

CALLS_A_CHARACTER = 20
"""Calls of functions for each character of a request: twice what the worst one takes, which may have an error at
every tenth character."""
CALLS = 20_000
"""Calls for a request however short it is, such as one of aliases."""


def task(**fields: Any) -> dict[str, Any]:
    return {"name": "t", "agent": "echo", "result_keys": ["r"], **fields}


def request(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"task_groups": [{"name": "g", "tasks": list(tasks) or [task()]}], **fields}


def with_inputs(text: str) -> str:
    return json.dumps(request(task(inputs="INPUTS"))).replace('"INPUTS"', text)


def custom(**rules: Any) -> dict[str, Any]:
    return request(task(expansion_config={"type": "custom", "transform_rules": rules}))


def codes(reading: ValidationResult) -> set[str]:
    return {str(problem.code) for problem in reading.errors}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("format", ["json", "yaml"])
@pytest.mark.parametrize("depth", [210, 300, 1_000, 5_000, 100_000])
def test_nesting_beyond_the_limit_has_one_code(depth: int, format: Any) -> None:
    for text in (with_inputs(nested(depth)), with_inputs('{"a":' * depth + "1" + "}" * depth)):
        assert codes(parse_request(text, format)) == {"too_deep"}


def test_nesting_up_to_the_limit_is_accepted_and_can_be_written() -> None:
    reading = parse_request(with_inputs(nested(190)))

    assert not reading.errors
    assert orjson.dumps({"request": reading.required().to_document()})


def test_objects_of_python_are_held_to_the_same_depth() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]

    assert "too_deep" in codes(read_request(request(task(inputs=deep))))


def test_an_object_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless += [endless, endless]

    assert "too_deep" in codes(read_request(request(context={"a": endless})))


def test_an_array_as_json_text_is_held_to_the_same_depth() -> None:
    def mapped(depth: int) -> ValidationResult:
        config = {"type": "array", "array_mapping": {"x": nested(depth)}}
        return parse_request(json.dumps(request(task(expansion_config=config))))

    assert not mapped(100).errors
    assert "too_deep" in codes(mapped(500))
    assert mapped(100_000).errors
    assert codes(read_request(request(task(expansion_config={"type": "array", "array_mapping": {"x": "[NaN]"}}))))


@pytest.mark.parametrize(
    ("text", "format", "code"),
    [
        (with_inputs("1" * 10_000), "json", "not_json"),
        (with_inputs("1" * 10_000), "yaml", "not_yaml"),
        (with_inputs("1e999"), "json", "not_json"),
        (with_inputs("NaN"), "json", "not_json"),
        (with_inputs("-Infinity"), "json", "not_json"),
        (with_inputs('{"a": 1, "a": 1}'), "json", "not_json"),
        (with_inputs('{"b": [{"a": 1, "\\u0061": 2}]}'), "json", "not_json"),
        (with_inputs('{"a": 1, "a": 1}'), "yaml", "not_yaml"),
        (with_inputs('"\\ud800"'), "json", "not_json"),
        (with_inputs('"\\ud800"'), "yaml", "not_yaml"),
        (with_inputs('"\x00"'), "json", "not_json"),
        (json.dumps(request(task(name="a\0"))), "json", "bad_name"),
        (json.dumps(request(task(result_keys=["a\0"]))), "json", "bad_name"),
        (json.dumps(request(request_id="a\0")), "json", "bad_name"),
        (json.dumps(request(session_id="a\n")), "json", "bad_name"),
        ("a: !!python/object/apply:os.system [id]", "yaml", "not_yaml"),
        ("a: !!timestamp 2001-01-01", "yaml", "not_yaml"),
        ("a: !!int '0x" + "f" * 100_000 + "'", "yaml", "not_yaml"),
        ("a: !!int '" + "1:" * 100_000 + "1'", "yaml", "not_yaml"),
        ("a: !!bool maybe", "yaml", "not_yaml"),
    ],
)
def test_values_that_readers_do_not_agree_on_are_refused(text: str, format: Any, code: str) -> None:
    assert code in codes(parse_request(text, format))


def test_nul_in_a_value_is_text_like_any_other() -> None:
    assert parse_request(with_inputs('"a\\u0000"')).required().task_groups[0].tasks[0].inputs == "a\0"


def test_a_record_with_a_key_twice_is_read_as_the_command_reads_it() -> None:
    assert document_of(b'{"a": 1, "a": 2}', DEFAULT_LIMITS) is None
    assert document_of(b'{"a": {"b": 1}, "b": 2}', DEFAULT_LIMITS) == {"a": {"b": 1}, "b": 2}


def yaml_bomb(levels: int, joined: str) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {joined.format(','.join([f'*a{n - 1}'] * 10))}" for n in range(1, levels)]
    return "\n".join(lines)


def filtered(condition: str) -> dict[str, Any]:
    return custom(sequence={"x": {"end": 3}}, filter={"x": condition})


def linked(many: int, tasks: int) -> dict[str, Any]:
    keys = [f"k{n}" for n in range(many)]
    first = {"name": "first", "tasks": [task(result_keys=keys)]}
    names = [task(name=f"t{n}", result_keys=[f"r{n}"]) for n in range(tasks)]
    return {"task_groups": [first, {"name": "g", "dependencies": keys, "tasks": names}]}


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "aliases": (lambda: yaml_bomb(9, "[{}]"), "not_yaml"),
    "merge keys": (lambda: yaml_bomb(9, "{{<<: [{}]}}"), "not_yaml"),
    "itself": (lambda: "a: &a [*a, *a]", "not_yaml"),
    "result keys twice": (
        lambda: request(task(result_keys=[f"k{n}" for n in range(40_000)] * 2)),
        "too_many_errors",
    ),
    "unknown keys": (
        lambda: request(
            *(task(name=f"t{n}", result_keys=[f"r{n}"], dependencies=[f"no{n}"]) for n in range(9_000))
        ),
        "too_many_errors",
    ),
    "unknown arrays": (lambda: custom(combine=[f"a{n}" for n in range(80_000)]), "too_many_errors"),
    "arrays twice": (lambda: custom(combine=["a"] * 100_000), "too_many_errors"),
    "dots": (lambda: custom(combine=["a." * 450_000]), "unknown_dependency"),
    "groups that are none": (lambda: {"task_groups": [1] * 300_000}, "too_many_errors"),
    "tasks that are none": (
        lambda: {"task_groups": [{"name": "g", "tasks": [1] * 300_000}]},
        "too_many_errors",
    ),
    "many groups of one task that is none": (
        lambda: {"task_groups": [{"name": "g", "tasks": [1]}] * 30_000},
        "too_many_errors",
    ),
    "endless sequence": (lambda: custom(sequence={"x": {"end": 1e300, "step": 1e-300}}), ""),
    "filtered sequence": (
        lambda: custom(sequence={"x": {"start": -1e308, "end": 1e308}}, filter={"x": ">1"}),
        "too_many_members",
    ),
    "each depends on each": (lambda: linked(15_000, 9_000), "too_many_dependencies"),
    "long duration": (lambda: request(timeout="1.1s" * 200_000 + "x"), "schema"),
    "long tolerance": (lambda: request(task(tolerated_failures="9" * 900_000 + "x")), "schema"),
    "long space": (lambda: filtered("=1" + " " * 400_000 + "x"), ""),
    "long number": (lambda: filtered("=" + "1" * 900_000 + "x"), ""),
    "long path": (
        lambda: request(task(expansion_config={"type": "array", "array_mapping": {"x": "[" * 900_000}})),
        "unknown_dependency",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_answer_takes_few_calls_and_fits_a_record(name: str) -> None:
    make, code = HOSTILE[name]
    made = make()
    text, form = (made, "yaml") if isinstance(made, str) else (json.dumps(made), "json")
    readings = []

    calls_of(lambda: readings.append(parse_request(text, form)), CALLS + CALLS_A_CHARACTER * len(text))

    (reading,) = readings
    assert (code in codes(reading)) if code else not reading.errors
    assert len(reading.errors) <= MAX_ERRORS + 1
    assert len(orjson.dumps([problem.to_document() for problem in reading.errors])) < 900_000


def test_a_string_without_an_end_is_not_searched_again_from_each_of_its_quotes() -> None:
    """The search is one call; with the square of its length in steps it takes longer than a test may."""
    for end in ("", "\\"):
        text = '["' + "," * 500_001 + '", "' + '\\"' * 190_000 + end
        assert codes(parse_request(text)) == {"not_json"}


def test_dependencies_are_not_unfolded_before_they_are_counted() -> None:
    assert session_candidates(linked(15_000, 9_000)) == frozenset()
