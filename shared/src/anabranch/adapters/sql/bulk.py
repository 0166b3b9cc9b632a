"""Writes many rows of a table at once: one statement for all of them on PostgreSQL, one prepared one on SQLite.

A row that has the primary key of another one replaces it. Null characters are removed: PostgreSQL stores none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from anabranch.adapters.sql.null_characters import json_without_null
from anabranch.core.json_documents import dumps

Rows = Sequence[Mapping[str, Any]]
_ARRAYS: Sequence[tuple[type[sa.types.TypeEngine[Any]], str]] = (
    (sa.JSON, "text"),
    (sa.Boolean, "boolean"),
    (sa.Integer, "bigint"),
    (sa.Float, "double precision"),
    (sa.LargeBinary, "bytea"),
)
"""The element types of PostgreSQL's arrays; a BigInteger is an Integer, and a Double a Float. Others are text."""


def put(connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
    """Insert rows, in place of those with the same primary key."""
    keys = [column.name for column in table.primary_key]
    others = [column.name for column in table.columns if column.name not in keys]
    changes = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in others)
    action = f"DO UPDATE SET {changes}" if others else "DO NOTHING"
    names = [column.name for column in table.columns]
    into = f"INSERT INTO {table.name} ({_listed(names)})"
    conflict = f"ON CONFLICT ({_listed(keys)}) {action}"
    if connection.dialect.name == "postgresql":
        _run(
            connection,
            f"{into} SELECT {_casts(table)} FROM unnest({_arrays(table)}) AS r({_listed(names)}) {conflict}",
            table,
            rows,
        )
    else:
        _run(connection, f"{into} VALUES ({', '.join('?' * len(names))}) {conflict}", table, rows)


def delete(connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
    """Delete the rows of a table without other columns than those of its primary key."""
    names = [column.name for column in table.columns]
    if connection.dialect.name == "postgresql":
        same = " AND ".join(f"t.{_quoted(name)} = r.{_quoted(name)}" for name in names)
        statement = (
            f"DELETE FROM {table.name} t USING unnest({_arrays(table)}) AS r({_listed(names)}) WHERE {same}"
        )
    else:
        statement = f"DELETE FROM {table.name} WHERE {' AND '.join(f'{_quoted(name)} = ?' for name in names)}"
    _run(connection, statement, table, rows)


def _run(connection: sa.Connection, statement: str, table: sa.Table, rows: Rows) -> None:
    if not rows:
        return
    readers = [(column.name, isinstance(column.type, sa.JSON)) for column in table.columns]
    if connection.dialect.name == "postgresql":
        arrays = [[_value(row[name], is_document) for row in rows] for name, is_document in readers]
        connection.exec_driver_sql(statement, tuple(arrays))
        return
    values = [tuple(_value(row[name], is_document) for name, is_document in readers) for row in rows]
    connection.exec_driver_sql(statement, values)


def _value(value: Any, is_document: bool) -> Any:
    if is_document:
        if value is None:
            return None
        return json_without_null(dumps(value)).decode()
    if isinstance(value, str) and "\x00" in value:
        return value.replace("\x00", "")
    return value


def _arrays(table: sa.Table) -> str:
    return ", ".join(f"%s::{_element(column)}[]" for column in table.columns)


def _casts(table: sa.Table) -> str:
    columns = [(_quoted(column.name), isinstance(column.type, sa.JSON)) for column in table.columns]
    return ", ".join(f"r.{name}::jsonb" if is_document else f"r.{name}" for name, is_document in columns)


def _element(column: sa.Column[Any]) -> str:
    return next((name for kind, name in _ARRAYS if isinstance(column.type, kind)), "text")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_quoted, names))


def _quoted(name: str) -> str:
    return f'"{name}"'
