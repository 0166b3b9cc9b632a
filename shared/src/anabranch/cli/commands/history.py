"""`history`: exports the history, and prints what it has measured. Read-only; needs the database only."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from anabranch.cli.commands.list_status_result import parsed_filter
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import count, print_json, say
from anabranch.core.errors import Misconfigured
from anabranch.core.json_documents import dumps
from anabranch.core.run_filter import RunFilter
from anabranch.core.timestamps import parse_timestamp
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.process.extras import needs_extra

if TYPE_CHECKING:
    from anabranch.adapters.sql.database import Database
    from anabranch.runtime.process.settings import Settings

PAGE = 200
Document = dict[str, Any]


async def export_history(settings: Settings, to: Path, *, condition: str | None) -> int:
    """Write runs, the latest first.

    Raises:
        Misconfigured: there is no database, the condition is no filter, or the file cannot be written.
    """
    wanted = RunFilter(condition=None if condition is None else parsed_filter(condition))
    with _database(settings) as database:
        written = 0
        with _opened(to) as file:
            async for views in _pages(database, settings, wanted):
                for document in await _documents(database, views):
                    file.write(dumps(document) + b"\n")
                    written += 1
    say(f"Exported {count(written, 'run')}.")
    return COMPLETED


async def show_measurements(settings: Settings, *, name: str | None, since: str | None) -> int:
    """Print the document of measurements."""
    from anabranch.adapters.sql.history_reading import HistoryReader

    try:
        at = None if since is None else parse_timestamp(since)
    except ValueError as error:
        raise Misconfigured("--since", str(error)) from error
    with _database(settings) as database:
        print_json(await HistoryReader(database).measurements(name, at))
    return COMPLETED


async def _pages(database: Database, settings: Settings, wanted: RunFilter) -> AsyncIterator[Sequence[RunView]]:
    from anabranch.adapters.sql.run_search import SqlRunSearch

    index, cursor = SqlRunSearch(database, settings.names.events), None
    while True:
        page = await index.search(wanted, PAGE, cursor)
        if page.views:
            yield page.views
        cursor = page.next_cursor
        if cursor is None:
            return


async def _documents(database: Database, views: Sequence[RunView]) -> list[Document]:
    """The lines of some runs: the view, with all that the history has of its tasks."""
    from anabranch.adapters.sql.history_reading import HistoryReader

    parts = await HistoryReader(database).parts_of([view.run_id for view in views])
    return [{"run": _without_groups(view), **parts[view.run_id]} for view in views]


def _without_groups(view: RunView) -> Document:
    document = view.to_document()
    del document["groups"]
    return document


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    if settings.database_url is None:
        fix = "set ANABRANCH_DATABASE_URL to that of the event manager"
        raise Misconfigured("database_url", "there is no history without a database", fix)
    with needs_extra("history", "the history"):
        from anabranch.adapters.sql.database import Database
    database = Database.open(settings.database_url)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _opened(to: Path) -> Iterator[IO[bytes]]:
    if to == Path("-"):
        yield sys.stdout.buffer
        return
    try:
        with to.open("wb") as file:
            yield file
    except OSError as error:
        raise Misconfigured("--to", f"cannot write {to}: {error.strerror}") from error
