"""Templates are compiled once for tasks that have the same ones."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.wire.messages import TaskOrder
from anabranch_taskgroup.worker.task_templates import MAX_CACHED_BYTES, TaskTemplates, TemplateCache


def order(**fields: Any) -> TaskOrder:
    return TaskOrder(name="t", agent="a", result_keys=("k",), **fields)


def test_equal_templates_are_compiled_once() -> None:
    cache = TemplateCache()

    first = cache.of(order(message_template="Hello {name}", inputs={"a": 1}))
    assert cache.of(order(message_template="Hello {name}", inputs={"a": 1})) is first
    assert cache.of(order(message_template="Hello {name}", inputs={"a": 1.0})) is not first
    assert cache.of(order(shared_instructions="Hello {name}", inputs={"a": 1})) is not first


def test_templates_with_another_order_of_keys_render_in_that_order() -> None:
    cache = TemplateCache()
    rendered = [
        list(cache.of(order(inputs=each)).inputs.render({})) for each in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    ]

    assert rendered == [["a", "b"], ["b", "a"]]


@pytest.mark.parametrize("inputs", ["x" * MAX_CACHED_BYTES, 2**70, "\ud800"])
def test_templates_that_are_large_or_no_plain_json_are_compiled_each_time(inputs: Any) -> None:
    cache = TemplateCache()

    first = cache.of(order(inputs=inputs))
    assert cache.of(order(inputs=inputs)) is not first
    assert first.constants == (None, None, inputs)


def test_templates_without_a_placeholder_are_constants() -> None:
    assert TaskTemplates.of(order(message_template="a", inputs={"b": "{{c}}"})).constants == (
        "a",
        None,
        {"b": "{c}"},
    )
    assert TaskTemplates.of(order(inputs="{c}")).constants is None


def test_only_text_placeholders_make_the_size_of_a_member_depend_on_values() -> None:
    assert not TaskTemplates.of(order(inputs={"b": "{c}"})).inserts_text
    assert TaskTemplates.of(order(inputs={"b": "{c}!"})).inserts_text
