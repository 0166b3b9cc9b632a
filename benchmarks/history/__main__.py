"""`python -m history` (tests and benchmarks on the path): the history on SQLite and PostgreSQL.

- catch-up: a log with runs of nine tasks is projected from its beginning, as after an hour without a projector.
- search: the history is filled with a million runs, and each of some filters is searched again and again.

    python -m history --runs 1000000 --catch-up 4000 --searches 30
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy as sa
from history_databases import projector, until_read
from history_records import NAMES
from history_runs import put, view_of
from servers.postgres import postgres_node

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_store import SqlHistoryStore
from anabranch.adapters.sql.run_search import SqlRunSearch
from anabranch.core.run_filter import RunFilter
from anabranch.core.run_search import parse_filter
from anabranch.ports import Outgoing, TopicSpec
from anabranch.runtime.process.clock import SystemClock
from history.records import events_of, run_of_nine

CHUNK = 5_000
FILTERS = (
    "true",
    "status == 'failed'",
    "status == 'failed' && labels.team == 'b'",
    "name == 'job 3' && duration > 3",
    "request_id == 'Order 4711'",
    "text contains 'timed out'",
    "text contains 'such order' && labels.team == 'a'",
    "search.region == 'eu-2' && search.size >= 3",
    "labels.team == 'a' && session_id == 's-7'",
    "usd > 1.5 && tokens < 100",
    "schedule == 'nobody'",
    "labels.team == 'a' && name == 'job 1' && search.urgent == true && status == 'cancelled'",
)


@contextmanager
def databases(kinds: Sequence[str]) -> Iterator[dict[str, str]]:
    """URLs of empty databases, on servers of their own, with their data on disk."""
    with ExitStack() as stack:
        found = {}
        if "sqlite" in kinds:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="anabranch-history-"))
            found["sqlite"] = f"sqlite:///{Path(folder) / 'history.db'}"
        if "postgresql" in kinds:
            server = postgres_node({"fsync": "on", "full_page_writes": "on", "shared_buffers": "512MB"})
            server.start()
            stack.callback(server.stop)
            found["postgresql"] = server.address
        yield found


async def catch_up(url: str, runs: int) -> tuple[int, float, float]:
    """Single events that were projected, seconds, and those of this process's processor time."""
    clock = SystemClock()
    log = MemoryLog(MemoryBroker(), clock)
    await log.create_topics([TopicSpec(f"t.{name}", 4) for name in ("events", "dead-letters", "audit")])
    events = 0
    for start in range(0, runs, 200):
        batches = [each for number in range(start, start + 200) for each in run_of_nine(number)]
        await log.publish([Outgoing(NAMES.events, run_id, value) for run_id, value in batches])
        events += sum(events_of(value) for _, value in batches)
    database = Database.open(url)
    store = SqlHistoryStore(database, is_shared=True)
    await store.prepare()
    begun, used = time.perf_counter(), time.process_time()
    async with projector(log, clock, store):
        await until_read(log, database, 3_600)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    database.close()
    return events, seconds, used


def fill(url: str, runs: int) -> float:
    """Seconds that it took to fill the history."""
    database = Database.open(url)
    database.upgrade()
    begun = time.perf_counter()
    for start in range(0, runs, CHUNK):
        put(database, [view_of(number) for number in range(start, min(start + CHUNK, runs))])
        if start % 100_000 == 0:
            _say(f"{start:,} runs")
    if database.is_postgresql:
        database.write(lambda connection: connection.execute(sa.text("ANALYZE")))
    seconds = time.perf_counter() - begun
    database.close()
    return seconds


async def search(url: str, searches: int) -> Iterator[tuple[str, int, list[float]]]:
    """For each filter: runs on its first page, and seconds of each search, of the first page and the second."""
    database = Database.open(url)
    index, found = SqlRunSearch(database, NAMES.events), []
    for text in FILTERS:
        wanted, times, count = RunFilter(condition=parse_filter(text)), [], 0
        for number in range(searches):
            begun = time.perf_counter()
            page = await index.search(wanted, 50)
            times.append(time.perf_counter() - begun)
            count = len(page.views)
            if page.next_cursor and number % 2:
                begun = time.perf_counter()
                await index.search(wanted, 50, page.next_cursor)
                times.append(time.perf_counter() - begun)
        found.append((text, count, times))
        _say(f"{text}: {statistics.median(times) * 1000:.0f} ms")
    database.close()
    return iter(found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m history", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000_000, help="runs to search; 0: do not measure searches")
    parser.add_argument("--catch-up", type=int, default=4_000, help="runs to project; 0: do not measure it")
    parser.add_argument("--searches", type=int, default=30, help="searches of each filter")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    chosen = parser.parse_args(arguments)
    for kind in chosen.databases:
        with databases([kind]) as urls:
            if chosen.catch_up:
                _say_rate(kind, *asyncio.run(catch_up(urls[kind], chosen.catch_up)))
        if chosen.runs:
            with databases([kind]) as urls:
                _measure_searches(kind, urls[kind], chosen.runs, chosen.searches)
    return 0


def _say_rate(kind: str, events: int, seconds: float, used: float) -> None:
    own = f"{used:.1f} s of processor time of the projector ({events / used:,.0f} a second of it)"
    print(f"{kind}: catch-up of {events:,} events in {seconds:.1f} s ({events / seconds:,.0f} a second), {own}")


def _measure_searches(kind: str, url: str, runs: int, searches: int) -> None:
    seconds = fill(url, runs)
    print(f"{kind}: filled with {runs:,} runs in {seconds:.0f} s")
    every: list[float] = []
    for text, count, times in asyncio.run(search(url, searches)):
        every += times
        print(f"| {kind} | `{text}` | {count} | {_percentile(times, 50)} | {_percentile(times, 99)} |")
    print(f"| {kind} | all | | {_percentile(every, 50)} | {_percentile(every, 99)} |", flush=True)


def _percentile(times: Sequence[float], percent: int) -> str:
    ordered = sorted(times)
    return f"{ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000:.1f}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
