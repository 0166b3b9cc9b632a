"""The `RunIndex` on the database: searches runs by any filter, the latest first, with bounded work.

It plans by itself, because planners estimate badly how soon rows in the order of an index meet a filter. What a
search has to meet is looked up in indexes: if at most `SELECTIVE` runs meet one part, these are read, and the
other parts are checked. Otherwise runs are read in the order of the list, those of one part only if an index has
them in that order, in the growing steps of `STEPS`. A page that is not full after these has a cursor.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_tables import OFFSETS, RUNS, TERMS
from anabranch.adapters.sql.run_conditions import Translator
from anabranch.core.conditions.operators import Data
from anabranch.core.run_filter import RunFilter
from anabranch.core.run_search import MAPS, WORDS, conjuncts
from anabranch.core.search_terms import FIELDS, IDS, search_value, term, words
from anabranch.core.wire.run_view import RunView
from anabranch.ports import RunPage

SELECTIVE = 2_000
"""Runs that are read at once, if no more meet a part of a search."""
STEPS = (200, 2_000, 20_000)
"""Runs that are read one after the other where no part is selective."""
_LAST = "\U0010ffff"

Cursor = tuple[float, str]


@dataclass(frozen=True, slots=True)
class _Part:
    """A part that the search has to meet: selects that together have all runs which meet it, and perhaps more.

    `ordered` has the table and the clause of one that an index has in the order of lists.
    """

    selects: tuple[sa.Select[Any], ...]
    ordered: tuple[sa.Table, sa.ColumnElement[bool]] | None = None


class SqlRunSearch:
    """See `ports.RunIndex`."""

    def __init__(self, database: Database, events_topic: str) -> None:
        self._database = database
        self._topic = events_topic
        self._translator = Translator(database.is_postgresql)

    async def search(self, wanted: RunFilter, limit: int, cursor: str | None = None) -> RunPage:
        """See `ports.RunIndex`. The page has the time as of which it is complete."""
        before = _parsed(cursor)
        return await self._database.async_read(lambda connection: self._search(connection, wanted, limit, before))

    def _search(self, connection: sa.Connection, wanted: RunFilter, limit: int, before: Cursor | None) -> RunPage:
        as_of = connection.execute(_as_of(self._topic)).scalar() or 0.0
        clause = sa.and_(self._translator.wanted(wanted), _is_before(RUNS, before))
        parts = list(_parts(wanted))
        for part in parts:
            runs = _selective(connection, part)
            if runs is not None:
                found = _read(connection, clause, limit + 1, self._is_one_of(runs)) if runs else []
                return _page(found, limit, None, as_of)
        ordered = next((part.ordered for part in parts if part.ordered is not None), None)
        return self._scan(connection, clause, ordered, limit, before, wanted, as_of)

    def _is_one_of(self, run_ids: Sequence[str]) -> sa.ColumnElement[bool]:
        """True for one of these runs, with one parameter: thousands of them would have to be compiled."""
        if self._database.is_postgresql:
            return RUNS.c.run_id == sa.any_(sa.literal(list(run_ids), postgresql.ARRAY(sa.Text)))
        ids = sa.func.json_each(orjson.dumps(run_ids).decode()).table_valued("value")
        return RUNS.c.run_id.in_(sa.select(ids.c.value))

    def _scan(
        self,
        connection: sa.Connection,
        clause: sa.ColumnElement[bool],
        ordered: tuple[sa.Table, sa.ColumnElement[bool]] | None,
        limit: int,
        before: Cursor | None,
        wanted: RunFilter,
        as_of: float | None,
    ) -> RunPage:
        table, is_of_part = ordered or (RUNS, sa.true())
        found: list[Any] = []
        for step in STEPS:
            bounds = [is_of_part, _is_before(table, before)]
            if wanted.since is not None:
                bounds.append(table.c.ordered_at >= wanted.since)
            order = (table.c.ordered_at.desc(), table.c.run_id.desc())
            window = sa.select(table.c.run_id, table.c.ordered_at).where(*bounds).order_by(*order)
            last = connection.execute(window.limit(1).offset(step - 1)).one_or_none()
            if last is not None:
                place = sa.tuple_(table.c.ordered_at, table.c.run_id)
                bounds.append(place >= sa.tuple_(last.ordered_at, last.run_id))
            in_window = sa.select(table.c.run_id).where(*bounds)
            inside = sa.true() if table is RUNS else RUNS.c.run_id.in_(in_window)
            more = bounds if table is RUNS else []
            found += _read(connection, clause, limit + 1 - len(found), inside, *more, _is_before(RUNS, before))
            if last is None or len(found) > limit:
                return _page(found, limit, None, as_of)
            before = (last.ordered_at, last.run_id)
        return _page(found, limit, before, as_of)


def _read(connection: sa.Connection, clause: Any, limit: int, *more: Any) -> list[Any]:
    order = (RUNS.c.ordered_at.desc(), RUNS.c.run_id.desc())
    columns = sa.select(RUNS.c.run_id, RUNS.c.ordered_at, RUNS.c.view)
    return list(connection.execute(columns.where(clause, *more).order_by(*order).limit(limit)))


def _page(found: Sequence[Any], limit: int, after: Cursor | None, as_of: float | None) -> RunPage:
    """A page of rows, of which there may be one more than are returned. `after`: where the scan ended."""
    shown = found[:limit]
    if len(found) > limit:
        after = (shown[-1].ordered_at, shown[-1].run_id)
    views = [RunView.from_document(row.view | {"groups": {}}) for row in shown]
    return RunPage(views, None if after is None else _text(after), as_of)


def _selective(connection: sa.Connection, part: _Part) -> list[str] | None:
    """The runs of a part if they are few."""
    runs: dict[str, None] = {}
    for select in part.selects:
        rows = connection.execute(select.limit(SELECTIVE + 1)).scalars().all()
        runs.update(dict.fromkeys(rows))
        if len(rows) > SELECTIVE or len(runs) > SELECTIVE:
            return None
    return list(runs)


def _parts(wanted: RunFilter) -> Iterator[_Part]:
    """The parts of a search that an index has, those first that are likely to be selective."""
    conditions = [] if wanted.condition is None else conjuncts(wanted.condition)
    for condition in conditions:
        if isinstance(condition, dict) and "field" in condition:
            yield from _of_condition(condition)
    for name in ("session_id", "name", "retry_of"):
        if (value := getattr(wanted, name)) is not None:
            yield _terms([_field_term(name, value)])
    for label in wanted.labels:
        places = [number for number, letter in enumerate(label) if letter == ":"]
        pairs = [term("label", label[:place], label[place + 1 :]) for place in places]
        yield _terms([*pairs, term("labelled", "", label)])
    if wanted.text is not None:
        yield _of_text(wanted.text)
    if wanted.status is not None:
        yield _column(RUNS.c.status, [wanted.status])
    if wanted.project is not None:
        yield _column(RUNS.c.project, [wanted.project])
    if wanted.visible_projects is not None:
        yield _column(RUNS.c.project, sorted(wanted.visible_projects))


def _of_condition(condition: Data) -> Iterator[_Part]:
    field, operator, value = condition["field"], condition["operator"], condition.get("value")
    if field == WORDS:
        yield from (_Part((_prefixed(term("word", "", word)),)) for word in words([value]))
        return
    values = value if operator == "in" and isinstance(value, list) else [value] if operator == "equals" else []
    name, _, rest = field.partition(".")
    if name in MAPS:
        yield from _of_map(name, rest, operator, values)
        return
    values = [each for each in values if isinstance(each, str)]
    if values and field in ("status", "project"):
        yield _column(RUNS.c[field], values)
    elif values and field in (*FIELDS, *IDS):
        yield _terms([_field_term(field, each) for each in values])


def _of_map(name: str, key: str, operator: str, values: Sequence[Any]) -> Iterator[_Part]:
    if name == "labels":
        found = [term("label", key, each) for each in values if isinstance(each, str)]
        if operator == "exists":
            found = [term("labelled", "", key)]
    else:
        found = [term("search", key, search_value(each)) for each in values if not isinstance(each, list | dict)]
    if found:
        yield _terms(found)


def _field_term(name: str, value: str) -> str:
    return term("id", "", value.casefold()) if name in IDS else term("field", name, value)


def _terms(found: Sequence[str]) -> _Part:
    selects = tuple(sa.select(TERMS.c.run_id).where(TERMS.c.term == each) for each in found)
    return _Part(selects, (TERMS, TERMS.c.term == found[0]) if len(found) == 1 else None)


def _column(column: Any, values: Sequence[str]) -> _Part:
    selects = tuple(sa.select(RUNS.c.run_id).where(column == each) for each in values)
    return _Part(selects, (RUNS, column == values[0]) if len(values) == 1 else None)


def _of_text(text: str) -> _Part:
    found = [_prefixed(term("id", "", text.casefold()))]
    if searched := words([text]):
        found.append(_prefixed(term("word", "", max(searched, key=len))))
    return _Part(tuple(found))


def _prefixed(start: str) -> sa.Select[Any]:
    return sa.select(TERMS.c.run_id).where(TERMS.c.term >= start, TERMS.c.term < start + _LAST)


def _is_before(table: sa.Table, before: Cursor | None) -> sa.ColumnElement[bool]:
    if before is None:
        return sa.true()
    return sa.tuple_(table.c.ordered_at, table.c.run_id) < sa.tuple_(*map(sa.literal, before))


def _as_of(topic: str) -> sa.Select[Any]:
    """The time up to which the history has all events; null if it has none yet."""
    return sa.select(sa.func.min(OFFSETS.c.caught_up_at)).where(OFFSETS.c.topic == topic)


# --- cursors --------------------------------------------------------------------------------------


def _text(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(cursor)).decode().rstrip("=")


def _parsed(text: str | None) -> Cursor | None:
    if text is None:
        return None
    try:
        at, run_id = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if isinstance(at, float | int) and not isinstance(at, bool) and isinstance(run_id, str):
            return float(at), run_id
    except (ValueError, TypeError):
        pass
    raise ValueError(f"{text[:80]!r} is not a cursor of this index")
