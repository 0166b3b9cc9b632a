"""What a plan says about control flow before the run: outcomes of conditions, exclusions, and its diagrams."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.cli.commands.plan import plan as print_plan
from anabranch.cli.render.tables import Form
from anabranch.core.request.admission import read_request
from anabranch.core.request.drawing import draw
from anabranch.core.request.planning import Plan
from anabranch.runtime.process.settings import Settings

Document = dict[str, Any]


def task(name: str, **fields: Any) -> Document:
    return {"name": name, "agent": "echo", **fields}


def planned(*tasks: Document, **fields: Any) -> Plan:
    read = read_request({"task_groups": [{"name": "g", "tasks": list(tasks)}], **fields})
    assert read.plan is not None, [str(error) for error in read.errors]
    return read.plan


def of_steps(*steps: Any, **fields: Any) -> Plan:
    read = read_request({"steps": list(steps), **fields})
    assert read.plan is not None, [str(error) for error in read.errors]
    return read.plan


def document(plan: Plan) -> Document:
    return plan.to_document(document_bytes=0)


def skips(plan: Plan) -> dict[str, bool | None]:
    return {task["name"]: task["will_skip"] for task in document(plan)["tasks"]}


def test_a_plain_plan_has_no_fields_of_control_flow() -> None:
    found = document(planned(task("a"), task("b", dependencies=["a"])))

    assert set(found["tasks"][1]) == {"group", "name", "agent", "dependencies", "result_keys", "members"}


def test_conditions_over_the_context_are_known_and_spread_to_dependents() -> None:
    found = skips(
        planned(
            task("no", when="n > 1"),
            task("yes", when="n == 1"),
            task("unknown", when="yes.score > 1"),
            task("needs no", dependencies=["no"]),
            task("may need no", dependencies=["no?", "yes"]),
            task("after no", after=["no"]),
            task("after the end of no", after=["no?"]),
            task("needs unknown", dependencies=["unknown"]),
            task("exists", when="exists(no)"),
            task("not exists", when="!exists(no)"),
            context={"n": 1},
        )
    )

    assert found == {
        "no": True,
        "yes": False,
        "unknown": None,
        "needs no": True,
        "may need no": False,
        "after no": True,
        "after the end of no": False,
        "needs unknown": None,
        "exists": True,
        "not exists": False,
    }


def test_a_condition_that_cannot_be_evaluated_is_a_warning_and_no_skip() -> None:
    found = document(planned(task("a", when="n > 'x'"), context={"n": 1}))

    assert found["tasks"][0]["will_skip"] is False
    assert 'g/a will fail: n > "x" cannot be evaluated' in found["warnings"][0]


def test_the_chosen_case_is_known_and_the_losers_are_skipped() -> None:
    cases = [{"when": "n == 0", "steps": [task("a")]}, {"when": "n == 1", "steps": [task("b"), task("c")]}]
    plan = of_steps({"switch": {"cases": cases, "default": [task("d")]}}, task("e"), context={"n": 1})
    [switch, *_] = document(plan)["tasks"]

    assert switch["switch"] == {
        "cases": ["n == 0", "n == 1"],
        "has_default": True,
        "on_no_match": "fail",
        "chosen": 1,
    }
    assert skips(plan) == {"(switch)": False, "a": True, "b": False, "c": False, "d": True, "e": False}


def test_a_loop_shows_its_bound_and_its_body() -> None:
    loop = {"until": "score >= 0.8", "max_iterations": 5, "steps": [task("score")]}
    found = {each["name"]: each for each in document(of_steps({"loop": loop}, task("z")))["tasks"]}

    assert found["(loop)"]["bound"] == "until score >= 0.8, at most 5 times"
    assert found["(loop)"]["loop"]["body"] == ["steps/score"]
    assert found["(loop)"]["members"] == 0
    assert found["score"]["in_loop"] == "steps/(loop)"
    assert found["score"]["will_skip"] is None


def test_a_task_shows_what_it_comes_after_and_its_condition_in_both_forms() -> None:
    [_, found] = document(planned(task("a"), task("b", after=["a?"], when="a == 1", error_key="err")))["tasks"]

    assert found["after"] == ["g/a?"]
    assert found["dependencies"] == ["a"]
    assert found["when"] == {"field": "a", "operator": "equals", "value": 1}
    assert found["when_text"] == "a == 1"
    assert found["error_key"] == "err"


# --- keys of which at most one producer runs ------------------------------------------------------


@pytest.mark.parametrize(
    "producers",
    [
        [task("x", when="a > 1", result_keys=["k"]), task("y", when="a <= 1", result_keys=["k"])],
        [task("x", when="exists(b)", result_keys=["k"]), task("y", when="!exists(b)", result_keys=["k"])],
        # The condition of one that the producer requires counts.
        [
            task("x", when="a > 1"),
            task("z", dependencies=["x"], result_keys=["k"]),
            task("y", when="a < 1", result_keys=["k"]),
        ],
        # A handler, and the task that it handles.
        [task("x", error_key="err", result_keys=["k"]), task("y", dependencies=["err"], result_keys=["k"])],
        [task("x", error_key="err", result_keys=["k"]), task("y", when="exists(err)", result_keys=["k"])],
    ],
)  # fmt: skip
def test_exclusive_producers_need_no_policy(producers: list[Document]) -> None:
    found = planned(task("a"), task("b"), *producers, task("join", dependencies=["k"]))

    assert dict(found.alternatives) == {"k": 2}
    assert [found.tasks[index].spec.result_keys for index in found.sources[-1]] == [("k",), ("k",)]


@pytest.mark.parametrize(
    "producers",
    [
        [task("x", when="a > 1", result_keys=["k"]), task("y", when="a > 0", result_keys=["k"])],
        [task("x", when="a > 1", result_keys=["k"]), task("y", result_keys=["k"])],
        # An optional dependency on the error does not exclude the success.
        [task("x", error_key="err", result_keys=["k"]), task("y", dependencies=["err?"], result_keys=["k"])],
    ],
)
def test_producers_that_may_both_run_need_a_policy(producers: list[Document]) -> None:
    read = read_request({"task_groups": [{"name": "g", "tasks": [task("a"), *producers]}]})

    assert [str(error.code) for error in read.errors] == ["duplicate_result_key"]


def test_both_branches_of_an_if_may_produce_a_key_also_in_a_loop() -> None:
    choice = {"if": "a == 1", "then": [task("b", result_keys=["k"])], "else": [task("c", result_keys=["k"])]}
    loop = {"until": "k == 1", "steps": [task("a"), choice]}

    assert dict(of_steps(task("a"), choice).alternatives) == {"k": 2}
    found = of_steps({"loop": loop}, task("z", dependencies=["k"]))
    assert dict(found.alternatives) == {}
    assert found.tasks[0].spec.result_keys == ("a", "k", "steps.loop")


# --- diagrams -------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20).filter(
    lambda text: text.strip() and "/" not in text and text.isprintable()
)


@given(TEXTS, TEXTS, st.text(max_size=30))
def test_diagrams_are_well_formed_whatever_the_names(first: str, second: str, value: str) -> None:
    names = dict.fromkeys([first, second])
    tasks = [task(name, result_keys=[f"k{at}"]) for at, name in enumerate(names)]
    tasks[-1]["when"] = {"field": "x", "operator": "equals", "value": value}
    loop = {"until": {"field": "k0", "operator": "equals", "value": value}, "steps": tasks}
    read = read_request({"steps": [{"loop": loop}]})
    if read.plan is None:  # a name that is not allowed
        return
    mermaid, dot = draw(read.plan, "mermaid").splitlines(), draw(read.plan, "dot").splitlines()

    node = re.compile(r' *t\d+(\[|\{|>|\(\[|\[\[)"[^"<>{}\[\]()|\\]*(<br/>[^"<>{}\[\]()|\\]*)*"(\]|\}|\]\)|\]\])')
    edge = re.compile(r'  t\d+ (-->|-\.->)(\|"[^"|]*"\|)? t\d+')
    box = re.compile(r' *subgraph loop\d+\["[^"\[\]]*"\]| *end')
    assert mermaid[0] == "flowchart TD"
    assert [line for line in mermaid[1:] if not any(form.fullmatch(line) for form in (node, edge, box))] == []
    text = r'"([^"\\]|\\.)*"'
    forms = [
        rf" *t\d+ \[label={text}, shape=\w+\];",
        rf"  t\d+ -> t\d+( \[(label={text})?(, )?(style=dotted)?\])?;",
        rf" *subgraph cluster_\d+ {{ label={text};",
        r" *}",
    ]
    assert [line for line in dot[3:] if not any(re.fullmatch(form, line) for form in forms)] == []
    assert sum(line.endswith(";") and "{" in line.split('"')[0] for line in dot) == 1


def test_branches_are_labelled_and_loops_are_boxes() -> None:
    choice = {"if": 'a == "x"', "then": [task("b")], "else": [task("c")]}
    found = draw(of_steps(task("a"), choice, {"loop": {"each": [1, 2], "steps": [task("d")]}}), "mermaid")

    assert '  t1 -->|"a == #34;x#34;"| t2' in found
    assert '  t1 -->|"else"| t3' in found
    assert '  subgraph loop4["for each of 2 items"]' in found
    assert "  t4 --> t5" in found


def test_the_command_draws_and_prints_control_flow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "request.json"
    steps = [task("a"), {"if": "n > 1", "then": [task("b", when="a == 1")]}, {"wait": {"for": 5}}]
    file.write_text(json.dumps({"steps": steps, "context": {"n": 1}}))

    assert print_plan(str(file), Settings(), form=Form.TABLE, expand=False, graph="dot") == 0
    assert capsys.readouterr().out.startswith("digraph plan {")
    assert print_plan(str(file), Settings(), form=Form.TABLE, expand=False) == 0
    found = capsys.readouterr().out
    assert "steps/(if) [switch]  after n, steps/a  cases 0: n > 1; 1: else" in found
    assert "steps/b [echo]  after a  in case 0 of steps/(if)  when a == 1  (will be skipped)  → b" in found
    assert "steps/(wait) [wait]  after steps/b  for 5s" in found
    file.write_text("{}")
    assert print_plan(str(file), Settings(), form=Form.TABLE, expand=False, graph="mermaid") == 2


def test_outside_of_a_loop_the_name_of_a_task_in_it_stands_for_the_loop() -> None:
    plan = of_steps(
        {
            "parallel": [
                {
                    "name": "outer",
                    "loop": {"each": [1], "steps": [{"loop": {"each": [1], "steps": [task("deep")]}}]},
                },
                task("next", after=["deep"]),
                task("also", after=["deep?"]),
            ]
        }
    )

    waits = {each.name: each.needs for each in plan.tasks}
    assert [(need.producer, need.optional) for need in waits["next"]] == [(("steps", "outer"), False)]
    assert [(need.producer, need.optional) for need in waits["also"]] == [(("steps", "outer"), True)]
    assert {each.name for each in plan.tasks if each.announces} == {"outer"}


def test_a_loop_cannot_come_after_its_own_task() -> None:
    read = read_request(
        {
            "task_groups": [
                {
                    "name": "g",
                    "tasks": [
                        {"name": "again", "loop": {"each": [1]}, "after": ["a"]},
                        task("a", in_loop="again"),
                    ],
                }
            ]
        }
    )

    assert next((error.path, error.hint) for error in read.errors) == (
        "/task_groups/0/tasks/0/after/0",
        "a loop cannot wait for its own tasks: remove the name",
    )
