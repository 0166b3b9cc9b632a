"""Errors of a `WorkflowBuilder` name the file and line of the call that is wrong, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from anabranch import WorkflowBuilder, WorkflowError


def unknown_option(flow: WorkflowBuilder) -> None:
    flow.add_task("a", agent="echo", input={"n": 1})  # type: ignore[call-arg]  # HERE


def text_for_a_list(flow: WorkflowBuilder) -> None:
    flow.add_task("a", agent="echo", after="b")  # HERE


def no_agent(flow: WorkflowBuilder) -> None:
    flow.add_task("a", agent=len)  # HERE


def unknown_task(flow: WorkflowBuilder) -> None:
    flow.add_task("build", agent="echo")
    flow.add_task("a", agent="echo", after=["biuld"])  # HERE
    flow.build()


def unknown_key(flow: WorkflowBuilder) -> None:
    with flow.group("g"):
        flow.add_task("a", agent="echo", dependencies=["nobody"])  # HERE
    flow.build()


def two_waits(flow: WorkflowBuilder) -> None:
    flow.add_wait("a", for_="5m", signal="go")  # HERE
    flow.build()


def wrong_condition(flow: WorkflowBuilder) -> None:
    with flow.when("a = 1"):  # HERE
        flow.add_task("a", agent="echo")
    flow.build()


def endless_loop(flow: WorkflowBuilder) -> None:
    with flow.loop("l"):  # HERE
        flow.add_task("a", agent="echo")
    flow.build()


def empty_block(flow: WorkflowBuilder) -> None:
    with flow.loop("l", until="a == 1"):  # HERE
        pass
    flow.build()


def otherwise_alone(flow: WorkflowBuilder) -> None:
    with flow.otherwise():  # HERE
        flow.add_task("a", agent="echo")


def case_alone(flow: WorkflowBuilder) -> None:
    with flow.case("a == 1"):  # HERE
        flow.add_task("a", agent="echo")


def step_in_a_switch(flow: WorkflowBuilder) -> None:
    with flow.switch():
        flow.add_task("a", agent="echo")  # HERE


def switch_without_case(flow: WorkflowBuilder) -> None:
    with flow.switch(), flow.default():  # HERE
        flow.add_task("a", agent="echo")


def two_defaults(flow: WorkflowBuilder) -> None:
    with flow.switch():
        with flow.default():
            flow.add_task("a", agent="echo")
        with flow.default():  # HERE
            flow.add_task("b", agent="echo")


def step_beside_groups(flow: WorkflowBuilder) -> None:
    with flow.group("g"):
        flow.add_task("a", agent="echo")
    flow.add_task("b", agent="echo")  # HERE
    flow.build()


def group_in_a_block(flow: WorkflowBuilder) -> None:
    with flow.parallel(), flow.group("g"):  # HERE
        flow.add_task("a", agent="echo")
    flow.build()


def block_in_a_group(flow: WorkflowBuilder) -> None:
    with flow.group("g"), flow.parallel():  # HERE
        flow.add_task("a", agent="echo")
    flow.build()


def unnamed_step(flow: WorkflowBuilder) -> None:
    first = flow.add_task(agent="echo")
    flow.add_task("a", agent="echo", after=[first])  # HERE
    flow.build()


def any_arguments(flow: WorkflowBuilder) -> None:
    @flow.task  # HERE
    def total(*numbers: int) -> int:
        return sum(numbers)


def generator(flow: WorkflowBuilder) -> None:
    @flow.task  # HERE
    def numbers() -> Any:
        yield 1


def input_without_parameter(flow: WorkflowBuilder) -> None:
    @flow.task(each={"word": "words"})  # HERE
    def upper(text: str) -> str:
        return text


def function_without_its_key(flow: WorkflowBuilder) -> None:
    @flow.task  # HERE
    def upper(text: str) -> str:
        return text

    flow.build()


def nothing(flow: WorkflowBuilder) -> None:
    flow.build()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (unknown_option, "there is no option `input` here.*inputs"),
        (text_for_a_list, r"`after` is the text 'b' \(write a list: after=\['b'\]\)"),
        (no_agent, "is no agent .mark it with @agent"),
        (unknown_task, "names the task steps/biuld, which does not exist.*build"),
        (unknown_key, "nobody"),
        (two_waits, "has both `for` and `signal`"),
        (wrong_condition, "=="),
        (endless_loop, "has no end .give it one of `each`, `while`, `until`"),
        (empty_block, "steps"),
        (otherwise_alone, "`otherwise` is not directly after a block `when`"),
        (case_alone, "`case` is not directly in a `switch`"),
        (step_in_a_switch, "a step in a switch and in no case"),
        (switch_without_case, "a switch without a case"),
        (two_defaults, "a second `default` in a switch"),
        (step_beside_groups, "a step outside of the groups"),
        (group_in_a_block, "a group inside of other steps"),
        (block_in_a_group, "a block `parallel` in a group"),
        (unnamed_step, "a step without a name cannot be named by others"),
        (any_arguments, r"the parameter `numbers` of total takes any number of values"),
        (generator, "numbers is a generator"),
        (input_without_parameter, "upper has no parameter `word`"),
        (function_without_its_key, "text"),
    ],
)
def test_an_error_names_the_line_of_the_call(wrong: Callable[[WorkflowBuilder], None], said: str) -> None:
    with pytest.raises(WorkflowError, match=said) as raised:
        wrong(WorkflowBuilder("w"))

    [line] = [line for line in _lines(wrong) if "HERE" in line[1]]
    assert f"{__file__}:{line[0]}: " in str(raised.value).replace("\n", " ")


def _lines(function: Callable[..., Any]) -> list[tuple[int, str]]:
    with open(__file__, encoding="utf-8") as file:
        lines = list(enumerate(file.read().splitlines(), 1))
    first = function.__code__.co_firstlineno  # type: ignore[attr-defined]
    rest = lines[first - 1 :]
    end = next((at for at, line in enumerate(rest) if at and re.match(r"(def|@)", line[1])), len(rest))
    return rest[:end]


def test_a_workflow_without_steps_names_where_it_was_made() -> None:
    flow = WorkflowBuilder("empty")

    with pytest.raises(WorkflowError, match=re.escape(__file__)) as raised:
        nothing(flow)

    assert [problem.path for problem in raised.value.problems] == ["/steps"]
    assert raised.value.places[0].startswith(f"{__file__}:")
