"""Filters over run views, and the order of runs in a list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from anabranch.core.run_filter import RunFilter, list_order
from anabranch.core.wire.run_view import RunView

VIEW = RunView(
    "run-1",
    "order-7",
    "session-1",
    name="Nightly import",
    labels={"team": "core", "a:b": "c"},
    status="failed",
    submitted_at=100.0,
    retry_of="run-0",
    project="shop",
)


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({}, True),
        ({"status": "failed", "name": "Nightly import", "retry_of": "run-0"}, True),
        ({"status": "running"}, False),
        ({"labels": ("team", "team:core", "a:b:c")}, True),
        ({"labels": ("team:edge",)}, False),
        ({"labels": ("a",)}, False),
        ({"since": 100.0, "until": 100.5}, True),
        ({"since": 100.5}, False),
        ({"until": 100.0}, False),
        ({"text": "IMPORT"}, True),
        ({"text": "order"}, True),
        ({"text": "rder"}, False),
        ({"project": "shop", "visible_projects": frozenset({"shop"})}, True),
        ({"visible_projects": frozenset({"bank"})}, False),
    ],
)
def test_a_run_has_to_meet_all_conditions(conditions: dict[str, Any], matches: bool) -> None:
    assert RunFilter(**conditions).matches(VIEW) is matches


def test_a_run_of_unknown_project_is_visible_only_without_a_restriction() -> None:
    unknown = replace(VIEW, project=None)

    assert RunFilter().matches(unknown)
    assert not RunFilter(visible_projects=frozenset({"default", "shop"})).matches(unknown)


def test_runs_are_ordered_by_time_and_then_by_id() -> None:
    views = [
        replace(VIEW, run_id="b"),
        replace(VIEW, run_id="a"),
        replace(VIEW, submitted_at=None, last_fact_at=1),
    ]

    assert sorted(views, key=list_order) == [views[2], views[1], views[0]]
