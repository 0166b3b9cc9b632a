"""Placeholders without a value are reported before the run, and only if that is certain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from gateways import gateway
from small_requests import array, request, task

from anabranch.cli.commands.plan import plan_document
from anabranch.cli.commands.run import RunOptions, run
from anabranch.core.request.admission import ValidationResult, read_request
from anabranch.runtime.process.settings import Settings

MATRIX = {"type": "matrix", "array_mapping": {"row": [1, 2]}, "include": [{"row": 3, "colour": "red"}]}
RULES = {"sequence": {"n": {"start": 0, "end": 3}}}
IDENTIFIED = array([{"a": {"b": 1}}], identifiers={"name": "item.a.b"})


def reading_of(template: Any, *, strict: bool = False, **fields: Any) -> ValidationResult:
    more = {name: fields.pop(name) for name in ("context", "session_id") if name in fields}
    made = request(task("first"), task("out", message_template=template, **fields), **more)
    return read_request(made, session_keys=lambda _key: True, strict=strict)


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        ("{run_id} {session_id} {task_name} {index}", {}),
        ("{known} {known.deep}", {"context": {"known": {"deep": 1}}}),
        ("{first} {first.any.path}", {"dependencies": ["first"]}),
        ("{late} {late.x}", {"external_dependencies": ["late"]}),
        ("{maybe}", {"optional_dependencies": ["maybe"], "dependencies": ["maybe"]}),
        ("{item} {item.a.b} {a} {name}", {"expansion_config": IDENTIFIED}),
        ("{row} {colour}", {"expansion_config": MATRIX}),
        ("{n}", {"expansion_config": {"type": "custom", "transform_rules": RULES}}),
        ("{item.any} {field_of_an_item}", {"expansion_config": array("first")}),
        ("{last}", {"expansion_config": array([*({"a": 1} for _ in range(500)), {"last": 1}])}),
        ("{{literal}} {{ x }} ${{ github.ref }} ${HOME}", {}),
        ('{"json": {"a": [1, {}]}} {\'a\': 1} {a: 1} {0} {1,2} { } {}', {}),
        ("\\frac{a}{b} x^{n} y_{i} if (x) { return y; }", {}),
    ],
)
def test_a_placeholder_that_may_get_a_value_is_not_reported(template: str, fields: dict[str, Any]) -> None:
    reading = reading_of(template, **fields)
    assert (reading.errors, reading.warnings) == ((), ())
    assert reading_of(template, strict=True, **fields).errors == ()


@pytest.mark.parametrize(
    ("template", "fields", "names"),
    [
        ("hello {nmae} and {nmae}", {}, ["nmae"]),
        ("{item.a} {itm}", {"expansion_config": array([1, 2])}, ["item.a", "itm"]),
        ("{item.b} {b}", {"expansion_config": array([{"a": 1}])}, ["item.b", "b"]),
        ("{known.deeper}", {"context": {"known": {"deep": 1}}}, ["known.deeper"]),
        ("{of_the_session}", {"session_id": "s"}, ["of_the_session"]),
        ("{index.x} {x}{y}", {}, ["index.x", "x"]),
    ],
)
def test_an_unprovided_placeholder_is_a_warning_and_an_error_with_strict(
    template: str, fields: dict[str, Any], names: list[str]
) -> None:
    reading = reading_of(template, **fields)
    assert reading.errors == ()
    printed = [
        f"the placeholder {{{name}}} in the message_template of g/out has no value, so its text stays as it is"
        for name in names
    ]
    assert len(reading.warnings) == len(names)
    assert all(words in warning for words, warning in zip(printed, reading.warnings, strict=True))

    refused = reading_of(template, strict=True, **fields)
    assert refused.request is None
    assert [(each.code, each.path, each.message) for each in refused.errors] == [
        ("unknown_placeholder", "/task_groups/0/tasks/1/message_template", words) for words in printed
    ]


def test_inputs_and_instructions_are_checked_too() -> None:
    made = request(task("out", inputs={"a": ["{x}"]}, shared_instructions="{y}"))
    first, second = read_request(made).warnings
    assert "{y} in the shared_instructions of g/out" in first
    assert "{x} in the inputs of g/out" in second


def test_a_state_that_no_loop_declares_is_reported() -> None:
    body = task("out", message_template="{state.total} {state.totl} {iteration} {last.x} {state}")
    made = {"task_groups": [{"name": "g", "loop": {"each": [1, 2], "state": {"total": 0}}, "tasks": [body]}]}

    [warning] = read_request(made).warnings
    assert "{state.totl} in the message_template of g/out has no value" in warning


def test_a_placeholder_without_its_dependency_is_refused_with_strict() -> None:
    [error] = reading_of("{first}", strict=True).errors
    assert "does not depend on it" in error.message


def test_many_warnings_are_summarized() -> None:
    warnings = reading_of(" ".join(f"{{no{n}}}" for n in range(60))).warnings
    assert len(warnings) == 51
    assert warnings[-1] == "10 more placeholders have no value"


def test_the_commands_warn_and_with_strict_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "request.json"
    file.write_bytes(orjson.dumps(request(task("out", message_template="hello {nmae}"))))

    assert "{nmae}" in plan_document(str(file), Settings(), expand=False)["warnings"][0]
    refused = plan_document(str(file), Settings(), expand=False, strict=True)
    assert (refused["valid"], refused["errors"][0]["code"]) == (False, "unknown_placeholder")

    assert run(RunOptions(str(file), embedded=True, json=True), Settings()) == 0
    printed = capsys.readouterr()
    shown = orjson.loads(printed.out)
    assert shown["results"] == {"out": "hello {nmae}"}
    assert "{nmae}" in shown["warnings"][0]
    assert "Warning: " in printed.err
    assert run(RunOptions(str(file), embedded=True, json=True, strict=True), Settings()) == 2
    assert orjson.loads(capsys.readouterr().out)["status"] == "rejected"


async def test_the_gateway_warns_in_its_preview_and_refuses_with_strict() -> None:
    misspelt = request(task("out", message_template="{nmae}"), request_id="order 1")
    async with gateway() as running:
        preview = (await running.http.post("/v1/plan", json=misspelt)).json()
        strict = (await running.http.post("/v1/plan?strict=true", json=misspelt)).json()
        refused = await running.http.post("/v1/runs?strict=true", json=misspelt)
        accepted = await running.http.post("/v1/runs", json=misspelt, headers={"prefer": "wait=30"})
        again = await running.http.post("/v1/runs", json=misspelt)

    assert preview["valid"]
    assert "{nmae}" in preview["warnings"][0]
    assert (strict["valid"], strict["errors"][0]["code"]) == (False, "unknown_placeholder")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "unknown_placeholder")
    assert "{nmae}" in accepted.json()["warnings"][0]
    assert again.json()["status"] == "completed"
    assert "had already ended" in again.json()["warnings"][1]
