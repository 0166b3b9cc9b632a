"""What a `WorkflowBuilder` builds: the request of an equivalent file, with every construct."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from source_tree import ROOT

from anabranch import Expansion, Registry, RetryPolicy, Task, WorkflowBuilder, agent
from anabranch.core.request.admission import read_request

EXAMPLES = ROOT / "examples"


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])


@pytest.mark.usefixtures("examples")
def test_a_workflow_of_calls_is_the_request_of_the_equivalent_file() -> None:
    from from_python_steps import delivery

    assert delivery().build() == yaml.safe_load((EXAMPLES / "delivery.yaml").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("examples")
def test_a_module_with_functions_as_tasks_has_their_agents() -> None:
    import from_python_functions as module

    names = {f"letters.{name}" for name in ("letter", "length", "longest", "grow", "report")}
    agents = Registry().load("from_python_functions")

    assert agents.names == names
    assert module.flow.registry().names == names | Registry.builtin().names
    assert "from_python_functions.letter (" in agents.get("letters.letter").place  # type: ignore[union-attr]
    assert agents.get("letters.longest").is_async  # type: ignore[union-attr]
    assert module.length(["ab", "c"]) == 3


def test_every_kind_of_step_is_written_as_in_a_file() -> None:
    flow = WorkflowBuilder("all", timeout=timedelta(hours=2), labels={"a": "b"}, context={"n": 3, "xs": [1, 2]})
    first = flow.add_task("first", agent="echo", inputs={"n": "{n}"}, timeout=timedelta(seconds=5))
    with flow.parallel():
        flow.add_wait("rest", for_=timedelta(minutes=5))
        flow.add_wait("date", until=datetime(2030, 1, 31, tzinfo=UTC), after=[first])
        with flow.sequential():
            flow.add_wait(condition="n > 1", timeout="1h", on_timeout="skip")
            flow.add_wait("news", signal="news", schema={"type": "object"}, collect=2)
    with flow.when("n > 2", name="large"):
        flow.add_task(agent="echo", message_template="large", result_keys=["size"])
    with flow.otherwise():
        flow.add_task("small", agent="echo", message_template="small", result_keys=["size"])
    with flow.switch(on_no_match="skip"):
        with flow.case({"field": "n", "operator": "equals", "value": 3}):
            flow.add_task("three", agent="echo")
        with flow.default(), flow.loop(each="xs", collect="append"):
            flow.add_task("each", agent="echo", inputs="{item}", error_key="trouble")
    flow.add_run("child", definition="greeting@1", context={"name": first.value("n")}, outputs=["text"])
    flow.add_task(
        "wide",
        agent="echo",
        expansion_config=Expansion(type="array", array_mapping={"x": "xs"}),
        retry=[RetryPolicy(errors=("TimeoutError",), strategy="fixed"), {"strategy": "none"}],
        dependencies=[first, "size?"],
    )
    with flow.finally_():
        flow.add_task("end", agent="echo")

    assert flow.build() == {
        "name": "all",
        "timeout": 7200.0,
        "labels": {"a": "b"},
        "context": {"n": 3, "xs": [1, 2]},
        "steps": [
            {"name": "first", "agent": "echo", "inputs": {"n": "{n}"}, "timeout": 5.0},
            {
                "parallel": [
                    {"name": "rest", "wait": {"for": 300.0}},
                    {"name": "date", "wait": {"until": "2030-01-31T00:00:00+00:00"}, "after": ["first"]},
                    {
                        "sequential": [
                            {"wait": {"condition": "n > 1", "timeout": "1h", "on_timeout": "skip"}},
                            {
                                "name": "news",
                                "wait": {"signal": "news", "schema": {"type": "object"}, "collect": 2},
                            },
                        ]
                    },
                ]
            },
            {
                "name": "large",
                "if": "n > 2",
                "then": [{"agent": "echo", "message_template": "large", "result_keys": ["size"]}],
                "else": [{"name": "small", "agent": "echo", "message_template": "small", "result_keys": ["size"]}],
            },
            {
                "switch": {
                    "cases": [
                        {
                            "when": {"field": "n", "operator": "equals", "value": 3},
                            "steps": [{"name": "three", "agent": "echo"}],
                        }
                    ],
                    "default": [
                        {
                            "loop": {
                                "each": "xs",
                                "collect": "append",
                                "steps": [
                                    {"name": "each", "agent": "echo", "inputs": "{item}", "error_key": "trouble"}
                                ],
                            }
                        }
                    ],
                    "on_no_match": "skip",
                }
            },
            {
                "name": "child",
                "run": {"definition": "greeting@1", "context": {"name": "{first.n}"}, "outputs": ["text"]},
            },
            {
                "name": "wide",
                "agent": "echo",
                "expansion_config": {"type": "array", "array_mapping": {"x": "xs"}},
                "retry": [{"strategy": "fixed", "errors": ["TimeoutError"]}, {"strategy": "none"}],
                "dependencies": ["first", "size?"],
            },
        ],
        "finally": [{"name": "end", "agent": "echo"}],
    }
    assert flow.to_request() == read_request(flow.build()).required()


def test_a_workflow_with_groups_has_task_groups() -> None:
    inner = WorkflowBuilder()
    inner.add_task("text", agent="echo", message_template="hello")
    flow = WorkflowBuilder(context={"n": 1})
    with flow.group("one", sequential=True, when="n > 0", fail_fast=True):
        flow.add_task("a", agent="echo", compensate={"agent": "echo"})
        flow.add_run("b", request=inner)
    with flow.switch(name="choice"):
        with flow.case("n == 1"), flow.group("two", race=True):
            flow.add_task("c", agent="echo", result_keys=["out"])
        with flow.default(), flow.group("three", loop={"while": "iteration < 3"}):
            flow.add_task("d", agent="echo", result_keys=["out"])
    with flow.switch(), flow.case("n == 1"):
        flow.add_task("e", agent="echo")

    document = flow.build()

    assert [list(item) for item in document["task_groups"]] == [
        ["name", "sequential", "when", "fail_fast", "tasks"],
        ["name", "switch"],
        ["switch"],
    ]
    assert document["task_groups"][0]["tasks"][1]["run"]["request"]["steps"][0]["name"] == "text"
    assert document["task_groups"][1]["switch"]["default"]["groups"][0]["name"] == "three"
    assert document["task_groups"][2]["switch"]["cases"][0]["tasks"][0]["name"] == "e"


def test_functions_are_tasks_and_their_parameters_dependencies() -> None:
    flow = WorkflowBuilder("f", context={"words": ["a", "b"]})

    @flow.task(each={"word": "words"}, timeout="5s", name="upper")
    def make_upper(word: str, task: Task) -> str:
        return word.upper()

    @flow.task
    async def joined(upper: list[str], title: str = "none") -> str:
        return title + "".join(upper)

    @flow.task(inputs={"suffix": "!"}, when="exists(joined)")
    def loud(joined: str, suffix: str) -> str:
        return joined + suffix

    assert flow.build()["steps"] == [
        {
            "parallel": [
                {
                    "name": "upper",
                    "agent": "f.upper",
                    "expansion_config": {"type": "array", "array_mapping": {"word": "words"}},
                    "inputs": {"word": "{word}"},
                    "timeout": "5s",
                },
                {"name": "joined", "agent": "f.joined", "dependencies": ["upper", "title?"]},
                {
                    "name": "loud",
                    "agent": "f.loud",
                    "dependencies": ["joined"],
                    "inputs": {"suffix": "!"},
                    "when": "exists(joined)",
                },
            ]
        }
    ]
    assert make_upper("a", Task(name="t")) == "A"
    given = Task(name="t", context={"joined": "ab"}, inputs={"suffix": "?"})
    assert flow.registry().get("f.loud").handler(given) == "ab?"  # type: ignore[union-attr]


def test_functions_run_in_a_system(anabranch_system: Any) -> None:
    flow = WorkflowBuilder(context={"numbers": [1, 2, 3]})

    @flow.task(each={"number": "numbers"})
    def square(number: int) -> int:
        return number * number

    with flow.loop("adding", each="square", state={"sum": 0}):

        @flow.task(inputs={"before": "{state.sum}"}, result_keys=["sum"])
        def add(item: int, before: int) -> int:
            return before + item

    @flow.task
    async def told(sum: int, nobody: str = "nobody") -> str:
        return f"{sum} for {nobody}"

    result = anabranch_system(agents=flow.agents).run(flow.build())

    assert result.results["told"] == "14 for nobody"


@agent("marked")
def marked(task: Task) -> None:
    return None


def test_an_agent_is_given_by_its_function_and_names_a_step_without_a_name() -> None:
    flow = WorkflowBuilder()
    step = flow.add_task(agent=marked)

    assert flow.build() == {"steps": [{"agent": "marked"}]}
    assert step.key == "marked"
