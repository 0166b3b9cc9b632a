"""Every refusal has its code and its path into the document as sent, and hides no other one."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.errors import RequestRefused
from anabranch.core.request.admission import DEFAULT_LIMITS, Limits, ValidationResult, parse_request, read_request


def task(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "agent": "echo", "result_keys": [f"{name}.out"]} | fields


def request(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"task_groups": [{"name": "g", "tasks": list(tasks)}]} | fields


def found(reading: ValidationResult) -> set[tuple[str, str]]:
    return {(str(error.code), error.path) for error in reading.errors}


TASK = "/task_groups/0/tasks/0"
CONFIG = f"{TASK}/expansion_config"


def matrix(**entries: Any) -> dict[str, Any]:
    """A request with a matrix of one axis, whose array is known only during the run."""
    config = {"type": "matrix", "array_mapping": {"os": "systems"}} | entries
    return request(task("a", expansion_config=config, external_dependencies=["systems"]))


def custom(**rules: Any) -> dict[str, Any]:
    """A request with a custom expansion of `rows`, as `row`, which are known only during the run."""
    config = {"type": "custom", "array_mapping": {"row": "rows"}, "transform_rules": rules}
    return request(task("a", expansion_config=config, external_dependencies=["rows"]))


@pytest.mark.parametrize(
    ("document", "code", "path"),
    [
        (request(task("a"), context={"x": [2**70]}), "schema", "/context/x/0"),
        (request(task("a"), context={"x": ["\ud800"]}), "schema", "/context/x/0"),
        (request(task("a"), context={"x": {"y": {1, 2}}}), "schema", "/context/x/y"),
        ({}, "schema", ""),
        ({"task_groups": []}, "schema", "/task_groups"),
        ({"task_groups": "x"}, "schema", "/task_groups"),
        ({"task_groups": [5]}, "schema", "/task_groups/0"),
        ({"task_groups": [{"name": "g", "tasks": []}]}, "schema", "/task_groups/0/tasks"),
        (request({"name": "a", "result_keys": ["x"]}), "schema", TASK),
        (request({"name": "a", "agent": None, "result_keys": ["x"]}), "schema", f"{TASK}/agent"),
        (request(task("a", result_keys=[])), "schema", f"{TASK}/result_keys"),
        (request(task("a", timeout="soon")), "schema", f"{TASK}/timeout"),
        (request(task("a", tools=["x", 5])), "schema", f"{TASK}/tools/1"),
        (request(task("a", tolerated_failures="x")), "schema", f"{TASK}/tolerated_failures"),
        (request(task("a", tolerated_failures=1)), "schema", f"{TASK}/tolerated_failures"),
        (request(task("a", tolerated_failures="5%")), "schema", f"{TASK}/tolerated_failures"),
        (
            {"key": "task_group:r", "object": request(task("a", tolerated_failures=1, expansion_config=None))},
            "schema",
            f"/object{TASK}/tolerated_failures",
        ),
        (request(task("a", retry={"strategy": "x"})), "schema", f"{TASK}/retry/strategy"),
        (request(task("a", agent_class="other")), "schema", f"{TASK}/agent_class"),
        (request(task("a"), labels={"a/b": 5}), "schema", "/labels/a~1b"),
        (request(task("a"), nope=1), "unknown_field", "/nope"),
        (request(task("a", **{"x~y/z": 1})), "unknown_field", f"{TASK}/x~0y~1z"),
        (request(task("a", retry={"max_atempts": 3})), "unknown_field", f"{TASK}/retry/max_atempts"),
        (request(task("a"), priority=0), "schema", "/priority"),
        (request(task("a"), priority="highest"), "schema", "/priority"),
        (request(task("a", priority=True)), "schema", f"{TASK}/priority"),
        (request(task("a", pool="a.b")), "bad_name", f"{TASK}/pool"),
        (request(task("a"), pool=""), "bad_name", "/pool"),
        (request(task("a", fairness_key="{k}")), "bad_name", f"{TASK}/fairness_key"),
        (request(task("a", on_failure="wait")), "schema", f"{TASK}/on_failure"),
        (
            {"key": "task_group:r", "object": request(task("a", on_failure="wait"))},
            "schema",
            f"/object{TASK}/on_failure",
        ),
        (request(task("a/b")), "bad_name", f"{TASK}/name"),
        (request(task("a", result_keys=["x", "{x}"])), "bad_name", f"{TASK}/result_keys/1"),
        (request(task("a"), session_id="a b"), "bad_name", "/session_id"),
        (request(task("a"), request_id="a{b"), "bad_name", "/request_id"),
        (request(task("a"), context={"k}": 1}), "bad_name", "/context/k}"),
        (request(task("a"), task("a", result_keys=["y"])), "duplicate_name", "/task_groups/0/tasks/1/name"),
        (
            request(task("a"), task("b", result_keys=["y", "a.out"])),
            "duplicate_result_key",
            "/task_groups/0/tasks/1/result_keys/1",
        ),
        (request(task("a", result_keys=["x", "x"])), "duplicate_result_key", f"{TASK}/result_keys/1"),
        (
            request(task("a", result_keys=["x", "x"]), context_policies={"x": "sum"}),
            "duplicate_result_key",
            f"{TASK}/result_keys/1",
        ),
        (request(task("a"), context_policies={"a.out": "average"}), "schema", "/context_policies/a.out"),
        (request(task("a"), context_policies={"a/~": "sum"}), "unknown_context_key", "/context_policies/a~1~0"),
        (request(task("a"), context={"c": "3"}, context_policies={"c": "sum"}), "schema", "/context/c"),
        (
            request(
                task("a", result_keys=["k"]),
                task("b", result_keys=["k", "o"], dependencies=["k"]),
                context_policies={"k": "append"},
            ),
            "cycle",
            "/task_groups/0/tasks/1/dependencies/0",
        ),
        (
            request(task("a", dependencies=["ok", "b"]), context={"ok": 1}),
            "unknown_dependency",
            f"{TASK}/dependencies/1",
        ),
        (
            request(task("a", expansion_config={"type": "array", "array_mapping": {"i": "rows.x"}})),
            "unknown_dependency",
            f"{TASK}/expansion_config/array_mapping/i",
        ),
        (
            request(task("a", optional_dependencies=["k"])),
            "not_a_subset",
            f"{TASK}/optional_dependencies/0",
        ),
        (
            request(task("a", optional_result_keys=["k"])),
            "not_a_subset",
            f"{TASK}/optional_result_keys/0",
        ),
        (request(task("a", dependencies=["a.out"])), "cycle", f"{TASK}/dependencies/0"),
        (request(task("a", agent="ecko")), "unknown_agent", f"{TASK}/agent"),
        (
            request({"name": "a", "agent_class": "ecko", "result_keys": ["x"]}),
            "unknown_agent",
            f"{TASK}/agent_class",
        ),
        (
            request(task("a", expansion_config={"type": "array"})),
            "expansion_without_array",
            f"{TASK}/expansion_config",
        ),
        (
            request(task("a", expansion_config={"type": "matrix", "array_mapping": {}})),
            "expansion_without_array",
            f"{TASK}/expansion_config",
        ),
        (
            request(task("a", expansion_config={"type": "custom", "transform_rules": {"chunk": 2}})),
            "expansion_without_array",
            f"{TASK}/expansion_config",
        ),
        (matrix(exclude=[{"OS": "l"}, {"os": "l", "x/y": 1}]), "schema", f"{CONFIG}/exclude/1/x~1y"),
        (matrix(exclude=[{"os": "l"}, {}]), "schema", f"{CONFIG}/exclude/1"),
        (matrix(include=[{}]), "schema", f"{CONFIG}/include/0"),
        (custom(filter={"rows.y/z": "about 3"}), "schema", f"{CONFIG}/transform_rules/filter/rows.y~1z"),
        (custom(combine=["row", "row"]), "schema", f"{CONFIG}/transform_rules/combine/1"),
        (custom(zip=["row.name"]), "schema", f"{CONFIG}/transform_rules/zip/0"),
        (custom(combine=["rows.name"]), "schema", f"{CONFIG}/transform_rules/combine/0"),
        (custom(chunk={"row.name": 2}), "schema", f"{CONFIG}/transform_rules/chunk/row.name"),
        (custom(sequence={"row": {"end": 3}}), "schema", f"{CONFIG}/transform_rules/sequence/row"),
        (
            request(
                task(
                    "a", expansion_config={"type": "matrix", "array_mapping": {n: list(range(101)) for n in "abc"}}
                )
            ),
            "too_many_members",
            f"{TASK}/expansion_config",
        ),
    ],
)
def test_a_refusal_has_its_code_and_its_path(document: dict[str, Any], code: str, path: str) -> None:
    reading = read_request(document, agents={"echo", "sleep"})

    assert found(reading) == {(code, path)}
    assert reading.request is None
    assert reading.plan is None
    assert all(error.message for error in reading.errors)


@pytest.mark.parametrize("document", [None, [], "x", 5, True])
def test_what_is_no_object_is_no_request(document: object) -> None:
    assert found(read_request(document)) == {("not_a_request", "")}


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", "{'a': 1}", b'{"a": NaN}', "\ud800"])
def test_what_is_no_json_says_so(data: bytes | str) -> None:
    assert found(parse_request(data)) == {("not_json", "")}


@pytest.mark.parametrize("data", ["a: [", "a: 1\na: 2", "? [x]\n: 1", "a: &a [*a]", "!!python/name:os.system"])
def test_what_is_no_yaml_says_so(data: str) -> None:
    assert found(parse_request(data, "yaml")) == {("not_yaml", "")}


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"a: [", "check indentation, brackets and quotation marks near that line"),
        (b"a:\n\t- b", "check indentation, brackets and quotation marks near that line"),
        (b"a: 1\na: 2", "keep one of the two"),
        (b"a: 1e400", "write it as text, in quotation marks"),
        (b"a: !!int 12x", "leave out the tag"),
        (b"a: !!python/name:os.system", "leave out the tag: a request holds the types of JSON"),
        (b"a: \xe4", "save the file as UTF-8, without control characters"),
        (b"a: *b", "a request is one document, and an alias follows its anchor"),
        (b"a: 1\n---\nb: 2", "a request is one document, and an alias follows its anchor"),
        (b"a: &a [*a]", "write the value out"),
        (b"? [x]\n: 1", "write the key as text"),
        (b"<<: 1", 'quote it: "<<"'),
    ],
)
def test_the_hint_is_about_what_is_wrong_in_the_yaml(data: bytes, hint: str) -> None:
    [problem] = parse_request(data, "yaml").errors
    assert problem.hint == hint


def test_every_error_is_reported_together() -> None:
    # given a schema error in each of the tasks that take part in the other errors
    document = {
        "priority": 6,
        "task_groups": [
            {
                "name": "g",
                "dependencies": ["nobody"],
                "tasks": [
                    task("a", dependencies=["b.out"], timeout="soon"),
                    task("b", dependencies=["a.out"], nope=1),
                    {"name": "b", "result_keys": ["a.out"]},
                    task("d", agent="ecko", expansion_config={"type": "array", "output_format": "x"}),
                ],
            },
            {"name": "g", "tasks": "none"},
            5,
        ],
    }

    # when
    reading = read_request(document, agents={"echo"})

    # then
    tasks = "/task_groups/0/tasks"
    assert found(reading) == {
        ("schema", "/priority"),
        ("schema", f"{tasks}/0/timeout"),
        ("unknown_field", f"{tasks}/1/nope"),
        ("schema", f"{tasks}/2"),
        ("schema", f"{tasks}/3/expansion_config/output_format"),
        ("schema", "/task_groups/1/tasks"),
        ("schema", "/task_groups/2"),
        ("duplicate_name", "/task_groups/1/name"),
        ("duplicate_name", f"{tasks}/2/name"),
        ("duplicate_result_key", f"{tasks}/2/result_keys/0"),
        ("unknown_agent", f"{tasks}/3/agent"),
        ("expansion_without_array", f"{tasks}/3/expansion_config"),
        ("unknown_dependency", "/task_groups/0/dependencies/0"),
        ("cycle", f"{tasks}/0/dependencies/0"),
    }


def test_two_missing_fields_of_one_object_are_two_errors() -> None:
    reading = read_request(request({"result_keys": ["a"]}))

    assert [error.message for error in reading.errors] == ["`name` is missing", "`agent` is missing"]


def test_a_cycle_shows_its_path() -> None:
    reading = read_request(
        request(
            task("c", dependencies=["a.out"]),
            task("a", dependencies=["b.out"]),
            task("b", dependencies=["c.out", "a.out"]),
        )
    )

    assert [error.message for error in reading.errors] == ["these tasks wait for each other: c -> a -> b -> c"]


def test_a_cycle_is_one_of_tasks_and_never_of_groups() -> None:
    groups = [
        {"name": "g", "tasks": [task("a"), task("c", dependencies=["b.out"])]},
        {"name": "h", "tasks": [task("b", dependencies=["a.out"])]},
    ]

    assert read_request({"task_groups": groups}).errors == ()


def test_two_cycles_are_two_errors_and_equal_names_are_distinguished_by_their_group() -> None:
    first = [task("a", result_keys=["1"], dependencies=["2"]), task("b", result_keys=["2"], dependencies=["1"])]
    second = [task("a", result_keys=["3"], dependencies=["3"])]

    reading = read_request({"task_groups": [{"name": "g", "tasks": first}, {"name": "h", "tasks": second}]})

    assert [error.message.partition(": ")[2] for error in reading.errors] == ["g/a -> b -> g/a", "h/a -> h/a"]


@pytest.mark.parametrize(
    ("where", "fields"),
    [
        ("budget", "usd, tokens, seconds, executions"),
        ("estimate", "usd, tokens, seconds, executions"),
        ("cache", "key, ttl, version, scope"),
        ("concurrency", "key, limit, on_full"),
        ("rate_limit", "key, limit, per, burst"),
    ],
)
def test_the_hint_of_an_unknown_field_names_those_of_its_object(where: str, fields: str) -> None:
    [problem] = read_request(request(task("a", **{where: {"key": "k", "limit": 1, "zzz": 1}}))).errors[-1:]
    assert (problem.code, problem.path) == ("unknown_field", f"{TASK}/{where}/zzz")
    assert problem.hint == f"the fields are: {fields}"


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("reprot", "did you mean 'report'?"),
        ("writer", "'writer' is a task's name; depend on its result key 'report' instead"),
        ("zzz", '"zzz?"'),
    ],
)
def test_an_unknown_dependency_comes_with_a_hint(wanted: str, hint: str) -> None:
    reading = read_request(request(task("writer", result_keys=["report"]), task("b", dependencies=[wanted])))

    assert hint in reading.errors[0].hint


def test_a_request_over_the_limit_is_refused_beside_its_other_errors() -> None:
    document = request(task("a", nope=1), context={"big": "x" * 200})

    reading = read_request(document, limits=Limits(request_bytes=100))

    assert found(reading) == {("too_large", ""), ("unknown_field", f"{TASK}/nope")}


def test_the_limit_applies_to_the_received_bytes() -> None:
    padded = b'{"task_groups":[{"name":"g","tasks":[{"name":"a","agent":"e","result_keys":["x"]}]}]}' + b" " * 500

    assert parse_request(padded, limits=Limits(request_bytes=len(padded))).errors == ()
    assert found(parse_request(padded, limits=Limits(request_bytes=len(padded) - 1))) == {("too_large", "")}
    assert parse_request(padded).bytes == len(padded)


def test_bytes_far_over_the_limit_are_not_parsed() -> None:
    assert found(parse_request(b"{" * 3000, limits=Limits(request_bytes=100))) == {("too_large", "")}


def test_members_are_limited_one_by_one_and_together() -> None:
    expansion = {"type": "array", "array_mapping": {"i": list(range(6))}}
    document = request(task("a", expansion_config=expansion), task("b", expansion_config=expansion))

    assert read_request(document, limits=Limits(members=12)).errors == ()
    assert found(read_request(document, limits=Limits(members=11))) == {("too_many_members", "/task_groups")}
    assert len(read_request(document, limits=Limits(members=5)).errors) == 2


def test_a_sequence_too_long_to_be_filtered_is_refused_without_walking_it() -> None:
    rules = {"sequence": {"i": {"end": 10**12}}, "filter": {"i": ">5"}}
    document = request(task("a", expansion_config={"type": "custom", "transform_rules": rules}))

    assert found(read_request(document)) == {("too_many_members", f"{TASK}/expansion_config")}


def test_a_document_nested_too_deeply_is_refused() -> None:
    deep: Any = 1
    for _ in range(1000):
        deep = {"a": deep}

    codes = {error.code for error in read_request(request(task("a", inputs=deep))).errors}

    assert codes == {"too_deep"}


def test_values_that_are_no_json_are_refused() -> None:
    assert read_request(request(task("a"), context={"x": object()})).errors
    assert read_request(request(task("a"), context={"x": 2**70})).errors


def test_the_ids_of_a_refused_request_are_known_where_they_can_be_read() -> None:
    reading = read_request({"request_id": "r 1", "session_id": "s", "nope": 1})

    assert (reading.request_id, reading.session_id) == ("r 1", "s")
    assert read_request({"request_id": 5, "session_id": "a b"}).request_id is None


def test_a_refused_reading_raises_all_its_errors() -> None:
    reading = read_request(request(task("a", nope=1, dependencies=["x"])))

    with pytest.raises(RequestRefused) as refusal:
        reading.required()

    assert refusal.value.errors == reading.errors
    assert "2 errors" in str(refusal.value)
    assert f"{TASK}/nope" in str(refusal.value)


def test_a_problem_is_an_object_of_four_strings() -> None:
    (error,) = read_request(request(task("a", agent="ecko")), agents={"echo"}).errors

    assert error.to_document() == {
        "code": "unknown_agent",
        "path": f"{TASK}/agent",
        "message": "there is no agent 'ecko'",
        "hint": "did you mean 'echo'?",
    }


def test_the_default_limits_are_the_public_ones() -> None:
    assert (DEFAULT_LIMITS.request_bytes, DEFAULT_LIMITS.members, DEFAULT_LIMITS.inline_bytes) == (
        1_000_000,
        1_000_000,
        65_536,
    )
