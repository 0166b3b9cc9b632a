"""How tasks of loops are named for people."""

from __future__ import annotations

import pytest

from anabranch.core.names import path_in_loops
from anabranch.core.wire.run_view import GroupView, RunView, TaskView


@pytest.mark.parametrize(
    ("loops", "iteration", "shown"),
    [
        ((), (), "draft"),
        (("refine",), (3,), "refine[3]/draft"),
        (("(loop)",), (3,), "writing[3]/draft"),
        (("outer", "inner"), (1, 12), "outer[1]/inner[12]/draft"),
        ((), (3,), "writing[3]/draft"),
        (("inner",), (1, 12), "writing[1]/inner[12]/draft"),
    ],
)
def test_a_path_names_each_loop_with_its_iteration(
    loops: tuple[str, ...], iteration: tuple[int, ...], shown: str
) -> None:
    assert path_in_loops("writing", "draft", loops, iteration) == shown


def test_a_loop_in_a_list_of_steps_has_its_own_name() -> None:
    assert path_in_loops("steps", "draft", ("(loop)", "(loop 2)"), (4, 36)) == "loop[4]/loop 2[36]/draft"


def test_a_view_knows_the_path_of_each_task() -> None:
    tasks = {
        "outer": TaskView("running"),
        "inner": TaskView("running", iteration=[1], in_loop="outer"),
        "draft": TaskView("running", iteration=[1, 12], in_loop="inner"),
    }
    view = RunView("r", "q", "s", groups={"writing": GroupView("running", tasks=tasks)})

    assert view.path("writing", "draft") == "outer[1]/inner[12]/draft"
    assert view.path("writing", "outer") == "outer"
    assert view.path("elsewhere", "task") == "task"


def test_a_view_whose_loops_refer_to_themselves_has_a_path() -> None:
    tasks = {"a": TaskView("running", iteration=[2], in_loop="a")}
    view = RunView("r", "q", "s", groups={"g": GroupView("running", tasks=tasks)})

    assert view.path("g", "a") == "a[2]/a"
