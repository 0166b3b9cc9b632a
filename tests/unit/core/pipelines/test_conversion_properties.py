"""What holds for every pipeline: the request is valid, and texts mean what they meant."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.core.pipelines.converter import PipelineConverter
from anabranch.core.request.admission import read_request
from anabranch.core.templates import literal, render
from anabranch.core.yaml_documents import dump_yaml, load_yaml

TEXTS = st.text("{}$ab. \"'\n\\", max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXTS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
SIGNATURES = st.builds(
    lambda name, args, immutable: {"task": name, "args": args, "immutable": immutable},
    st.sampled_from(["add", "app.add", "total", "a-2", "a"]),
    st.lists(VALUES, max_size=2),
    st.booleans(),
)


def _canvas(kind: str, tasks: list[Any]) -> dict[str, Any]:
    return {"task": f"celery.{kind}", "kwargs": {"tasks": tasks}, "subtask_type": kind}


def _chord(tasks: list[Any]) -> dict[str, Any]:
    return {
        "task": "celery.chord",
        "kwargs": {"header": tasks[1:] or tasks, "body": tasks[0]},
        "subtask_type": "chord",
    }


CANVASES = st.recursive(
    SIGNATURES,
    lambda inner: (
        st.builds(_canvas, st.sampled_from(["chain", "group"]), st.lists(inner, min_size=1, max_size=3))
        | st.builds(_chord, st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=10,
)


def _signatures(canvas: dict[str, Any]) -> int:
    kwargs = canvas.get("kwargs", {})
    inner = [*kwargs.get("tasks", ()), *kwargs.get("header", ()), *([kwargs["body"]] if "body" in kwargs else [])]
    return sum(map(_signatures, inner)) if inner else 1


@given(TEXTS | st.text())
def test_a_literal_text_renders_to_itself(text: str) -> None:
    assert render(literal(text), {"a": "X", "b": "Y", "ab": "Z"}) == text


@settings(deadline=None)
@given(CANVASES)
def test_every_canvas_is_a_valid_request_with_a_task_for_each_signature(canvas: dict[str, Any]) -> None:
    request = PipelineConverter().convert(canvas).required()

    plan = read_request(request, strict=True).plan
    assert plan is not None
    assert plan.executions == _signatures(canvas)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.sets(st.sampled_from("abcdef")), st.text("${}a '\"\n\\", min_size=1), st.integers(1, 3)),
        min_size=1,
    )
)
def test_every_acyclic_workflow_is_a_valid_request(drawn: dict[str, tuple[set[str], str, int]]) -> None:
    jobs = {
        name: {
            "needs": sorted(each for each in needs if each in drawn and each < name),
            "strategy": {"matrix": {"n": list(range(size))}},
            "steps": [{"run": "echo " + text.replace("${{", "")}],
        }
        for name, (needs, text, size) in drawn.items()
    }
    request = PipelineConverter().convert({"on": "push", "jobs": jobs}).required()

    plan = read_request(request, strict=True).plan
    assert plan is not None
    assert plan.executions == sum(size for _, _, size in drawn.values())


@settings(deadline=None)
@given(VALUES)
def test_written_yaml_is_read_as_the_same_value(value: Any) -> None:
    assert load_yaml(dump_yaml({"value": value}).encode()) == {"value": value}
