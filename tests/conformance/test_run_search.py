"""The search of the history on SQLite and PostgreSQL finds what the definition of a filter says, page by page."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from history_runs import put, view_of

from anabranch.adapters.sql import run_search
from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.run_search import SqlRunSearch
from anabranch.core.conditions.checks import InvalidCondition
from anabranch.core.conditions.operators import Data
from anabranch.core.run_filter import RunFilter
from anabranch.core.run_search import FIELDS, matches, parse_filter

RUNS = 200
FILTERS = 120
TOPIC = "t.events"
LAST = {"field": "run_id", "operator": "starts_with", "value": "run-0000003"}
_OPERATORS = (
    "equals",
    "not_equals",
    "greater_than",
    "greater_or_equal",
    "less_than",
    "less_or_equal",
    "contains",
    "not_contains",
    "in",
    "not_in",
    "exists",
    "not_exists",
    "starts_with",
    "is_true",
)
_MAPS = (
    "labels.team",
    "labels.a:b",
    "labels.empty",
    "search.size",
    "search.urgent",
    "search.region",
    "search.note",
)


async def _all(index: SqlRunSearch, wanted: RunFilter, limit: int = 50) -> list[str]:
    """The run ids of all pages."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await index.search(wanted, limit, cursor)
        assert len(page.views) <= limit
        found += [view.run_id for view in page.views]
        cursor = page.next_cursor
        if cursor is None:
            return found


def _expected(rows: Sequence[dict[str, Any]], condition: Data) -> list[str]:
    ordered = sorted(rows, key=lambda row: (row["ordered_at"], row["run_id"]), reverse=True)
    return [row["run_id"] for row in ordered if matches(condition, row)]


def _valid_condition(seed: random.Random, rows: Sequence[dict[str, Any]]) -> Data:
    while True:
        try:
            return parse_filter(_condition(seed, rows))
        except InvalidCondition:  # such as a number that a text should start with
            continue


def _condition(seed: random.Random, rows: Sequence[dict[str, Any]], depth: int = 2) -> Any:
    if depth and seed.random() < 0.5:
        kind = seed.choice(("all", "all", "any", "not"))
        if kind == "not":
            return {"not": _condition(seed, rows, depth - 1)}
        return {kind: [_condition(seed, rows, depth - 1) for _ in range(seed.randint(1, 3))]}
    if seed.random() < 0.15:
        return {"field": "text", "operator": "contains", "value": seed.choice(("job", "order such", "ho", "db-7"))}
    field, operator = seed.choice((*FIELDS, *_MAPS)), seed.choice(_OPERATORS)
    if operator in ("exists", "not_exists", "is_true"):
        return {"field": field, "operator": operator}
    value = _value(seed, rows, field)
    if operator in ("in", "not_in") and seed.random() < 0.8:
        value = [_value(seed, rows, field) for _ in range(seed.randint(0, 3))]
    elif operator in ("in", "not_in"):
        value = str(value)
    if operator in ("contains", "not_contains", "starts_with") and isinstance(value, str):
        value = value[: seed.randint(0, 4)]
    return {"field": field, "operator": operator, "value": value}


def _value(seed: random.Random, rows: Sequence[dict[str, Any]], field: str) -> Any:
    if seed.random() < 0.1:
        return seed.choice((True, 1, 1.5, "1", "x", "")) if field[-3:] != "_at" else seed.choice((True, 1, 1.5))
    row, (name, _, rest) = seed.choice(rows), field.partition(".")
    found = row[name].get(rest) if rest else row[field]
    return found if found is not None else 1


async def test_random_filters_find_what_the_definition_says(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, index, seed = (
        put(database, [view_of(number) for number in range(RUNS)]),
        SqlRunSearch(database, TOPIC),
        random.Random(7),
    )
    found_any = 0
    for number in range(FILTERS):
        # Small numbers, so that each way to search has to go on.
        monkeypatch.setattr(run_search, "SELECTIVE", seed.choice((0, 3, 40)))
        monkeypatch.setattr(run_search, "STEPS", seed.choice(((1, 7), (50, 100), (1000,))))
        condition = _valid_condition(seed, rows)
        expected = _expected(rows, condition)
        found_any += bool(expected)
        found = await _all(
            index,
            RunFilter(condition=condition),
            seed.choice((1, 7, 500)) if number % 10 == 0 else 60,
        )
        assert found == expected, condition
    assert FILTERS * 0.3 < found_any < FILTERS, "the filters find everything, or nothing"


@pytest.mark.parametrize(
    "wanted",
    [
        RunFilter(),
        RunFilter(status="failed"),
        RunFilter(name="job 3", status="completed"),
        RunFilter(labels=("team:a",)),
        RunFilter(labels=("team", "team:é:ü")),
        RunFilter(labels=("a:b",)),
        RunFilter(labels=("a:b:c",)),
        RunFilter(session_id="s-7"),
        RunFilter(project="other"),
        RunFilter(retry_of="run-0000001"),
        RunFilter(since=1_020.0, until=1_060.0),
        RunFilter(text="ORDER 12"),
        RunFilter(text="host tim"),
        RunFilter(text="run-00001"),
        RunFilter(text="--"),
        RunFilter(visible_projects=frozenset({"other"})),
        RunFilter(visible_projects=frozenset()),
    ],
)
@pytest.mark.parametrize("selective", [0, 10_000])
async def test_each_field_of_a_list_is_a_condition(
    database: Database, monkeypatch: pytest.MonkeyPatch, wanted: RunFilter, selective: int
) -> None:
    """The same as on views, but that a text is searched as words, and also in errors."""
    monkeypatch.setattr(run_search, "SELECTIVE", selective)
    views = [view_of(number) for number in range(RUNS)]
    put(database, views)
    ordered = sorted(views, key=lambda view: (view.submitted_at, view.run_id), reverse=True)
    if wanted.text == "host tim":
        expected = [view.run_id for view in ordered if view.failures and "host" in view.failures[0]["message"]]
    else:
        expected = [view.run_id for view in ordered if wanted.matches(view)]

    found = await _all(SqlRunSearch(database, TOPIC), wanted)

    assert found == expected
    assert bool(found) == (wanted not in (RunFilter(text="--"), RunFilter(visible_projects=frozenset())))


async def test_a_page_that_scans_too_much_goes_on_with_its_cursor(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_search, "SELECTIVE", 0)
    monkeypatch.setattr(run_search, "STEPS", (10, 20))
    put(database, [view_of(number) for number in range(RUNS)])
    index, wanted = SqlRunSearch(database, TOPIC), RunFilter(condition=parse_filter(LAST))

    first = await index.search(wanted, 5)

    assert not first.views
    assert first.next_cursor is not None
    assert await _all(index, wanted) == ["run-0000003"]


async def test_runs_that_are_submitted_between_pages_are_left_out(database: Database) -> None:
    put(database, [view_of(number) for number in range(100)])
    index = SqlRunSearch(database, TOPIC)
    first = await index.search(RunFilter(), 40)
    put(database, [view_of(number) for number in range(100, 200)])

    second = await index.search(RunFilter(), 40, first.next_cursor)

    assert [view.run_id for view in second.views] == [f"run-{number:07}" for number in range(59, 19, -1)]


@pytest.mark.parametrize("cursor", ["", "nonsense", "WzEsMl0", "W10"])
async def test_what_is_no_cursor_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(ValueError, match="is not a cursor"):
        await SqlRunSearch(database, TOPIC).search(RunFilter(), 5, cursor)
