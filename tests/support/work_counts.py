"""`python -m work_counts` (with tests/support on the path): records, bytes, calls and round trips of a request.

The real services run on the simulator's servers, in virtual time and without faults, and each message to or from a
server takes the same time. So the counts are the same on each machine, and the time from the request's record to
the final one gives the number of sequential round trips.

Prints the table of docs/benchmarks/README.md; `--budgets` prints the rows of tests/component/test_work_budgets.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from anabranch.adapters.encoding import header_pairs, headers_size, key_bytes
from anabranch.adapters.redis.store import RedisStore
from anabranch.cli.bench.shapes import chain_request, fanout_request, single_request, three_by_three_request
from anabranch.ports import EventLog, Incoming, Notifier, Outgoing, StateStore
from anabranch.runtime.process.lifecycle import Service
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.topics import topic_specs
from anabranch.testing.loop import SeededIds, VirtualClock
from anabranch.testing.simulator.fault_injector import FaultInjector
from anabranch.testing.simulator.loop import SimLoop
from anabranch.testing.simulator.processes import Process, SimClock, Site
from anabranch.testing.simulator.revertible_server import RevertibleServer
from anabranch.testing.simulator.world import ObservedBroker
from anabranch.testing.systems import registry_of

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "one task": single_request(),
    "1,000 members": fanout_request(1_000),
    "10,000 members": fanout_request(10_000),
    "three by three": three_by_three_request(),
    "chain of four": chain_request(4, 10),
}
"""The measured requests: those of the bench, whose agent does nothing."""

TOPICS = ("runs", "groups", "tasks", "events", "results")
PATH = "round trips in a row"
QUANTITIES = (
    *(f"records on `{topic}`" for topic in TOPICS),
    *(f"bytes on `{topic}`" for topic in TOPICS),
    "publish calls",
    "store calls",
    "store commands",
    "bytes to the store",
    "channel messages",
    PATH,
)

WAY = 2.0**-16
"""Seconds to a server, or back. It is so short that no periodic work of a service happens during a run: a wait for
a clock would look like thousands of round trips. A power of two, so that sums are exact."""
QUIET_FROM, QUIET_UNTIL = 0.3, 0.7
"""In this part of a second services do no periodic work."""

WARM_SECONDS = 90
"""Age of the system when the counted request arrives. A session's owner asks the store about each run that was
submitted within its first minute."""

NOT_FINAL = (b"run.accepted", b"result.published")

Counts = Mapping[str, float]
"""Count by quantity; quantities that did not occur are missing."""


def counts_of(
    request: Mapping[str, Any] | None,
    watched: contextlib.AbstractContextManager[Any] | None = None,
    before: Mapping[str, Any] | None = None,
) -> Counts:
    """Return the cost of a request for a system that has run another before. None: of an idle system.

    Args:
        watched: entered while the counted request runs.
        before: the request that has run before; by default one of one task.

    Raises:
        AssertionError: the request did not complete, or a service failed.
        TimeoutError: it did not end.
    """
    system = _CountedSystem()
    try:
        found: Counts = system.loop.run_until_complete(
            system.count(request, watched, single_request() if before is None else before)
        )
        return found
    finally:
        system.close()


class _CountedSystem:
    """One process of each service, with the default settings."""

    def __init__(self) -> None:
        self.loop = SimLoop()  # type: ignore[abstract]  # it has no sockets, signals or child processes
        self._settings = Settings()
        self._names = self._settings.names
        self._clock = VirtualClock(self.loop)
        self._broker = ObservedBroker(self._appended)
        self._ended: asyncio.Future[Incoming] = self.loop.create_future()
        self._work: Counter[str] = Counter()
        self._failures: list[str] = []
        site = Site(
            loop=self.loop,
            injector=_Even(0),
            broker=self._broker,
            server=RevertibleServer(self._clock, lambda writes, fence: None),
            settings=lambda process, incarnation: self._settings,
            built=lambda process, service: None,
            ids=SeededIds(self._clock, 0),
            make_registry=lambda process: registry_of(()),
            report=self._failures.append,
            platform=None,
        )
        self._processes = [
            _CountedProcess(site, kind, self._work) for kind in ("agency", "taskgroup", "eventmanager")
        ]

    async def count(
        self,
        request: Mapping[str, Any] | None,
        watched: contextlib.AbstractContextManager[Any] | None,
        before: Mapping[str, Any],
    ) -> Counts:
        """See `counts_of`."""
        for spec in topic_specs(self._settings):
            self._broker.create(spec)
        for process in self._processes:
            process.start()
        await self._until(5 + QUIET_FROM)
        for name in ("long before", "before"):  # services keep what they found about a shape that comes again
            await self._ask(before, name)
        await self._until(WARM_SECONDS + QUIET_FROM)
        self._work.clear()
        with watched or contextlib.nullcontext():
            path = {PATH: await self._ask(request, "counted") / 2} if request is not None else {}
            await self._until(WARM_SECONDS + QUIET_UNTIL)
        assert self._failures + self.loop.errors == []
        return {**self._work, **path}

    async def _until(self, when: float) -> None:
        assert self.loop.time() < when, "the run waited for a timer, so periodic work of services is counted too"
        await asyncio.sleep(when - self.loop.time())

    async def _ask(self, request: Mapping[str, Any], request_id: str) -> float:
        """Publish a request; returns the number of one-way transfers until its final record is there."""
        self._ended = self.loop.create_future()
        began = self.loop.time()
        value = orjson.dumps({"request_id": request_id, **request})
        self._broker.append([Outgoing(self._names.requests, None, value)], self._clock.now())
        async with asyncio.timeout(4):  # virtual seconds: otherwise a run that hangs would continue for ever
            final = await self._ended
        assert dict(final.headers)["ce_type"] == b"run.completed", final.value
        return (self.loop.time() - began) / WAY

    def _appended(self, record: Incoming) -> None:
        kind = dict(record.headers).get("ce_type")
        is_final = record.topic == self._names.results and kind not in NOT_FINAL
        if is_final and not self._ended.done():
            self._ended.set_result(record)

    def close(self) -> None:
        """Stop all tasks of the system."""
        while tasks := [task for task in asyncio.all_tasks(self.loop) if not task.done()]:
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.loop.close()


class _Even(FaultInjector):
    """Each transfer takes the same time."""

    def latency(self) -> float:
        """See FaultInjector."""
        return WAY


class _TickingClock(SimClock):
    """Each read advances it by a nanosecond. Otherwise members that do nothing would take no time, could not be
    measured, and would be cut into chunks of other sizes than on a real system."""

    reads = 0

    def monotonic(self) -> float:
        """See `ports.Clock`."""
        self.reads += 1
        return super().monotonic() + self.reads * 1e-9


class _CountedProcess(Process):
    """A process whose service has counting ports."""

    def __init__(self, site: Site, kind: str, work: Counter[str]) -> None:
        super().__init__(site, kind, 0)
        self.clock = _TickingClock(site.loop)
        self._work = work

    def _build(self, resources: Resources) -> Service:
        counted = replace(
            resources,
            log=_CountedLog(resources.log, self._work, resources.names.prefix),
            store=_CountedStore(resources.store, self._work),
            notifier=_CountedNotifier(resources.notifier, self._work),
        )
        return super()._build(counted)


# --- the ports -------------------------------------------------------------------------------------


class _CountedLog:
    """See `ports.EventLog`. Bytes are those of keys, values and headers, before compression and framing."""

    def __init__(self, inner: EventLog, work: Counter[str], prefix: str) -> None:
        self._inner = inner
        self._work = work
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See `ports.EventLog`."""
        self._work["publish calls"] += bool(records)
        for record in records:
            topic = record.topic.removeprefix(self._prefix)
            headers = headers_size(header_pairs(record))
            self._work[f"records on `{topic}`"] += 1
            self._work[f"bytes on `{topic}`"] += len(key_bytes(record) or b"") + len(record.value) + headers
        return await self._inner.publish(records)


class _CountedStore:
    """See `ports.StateStore`. The Redis adapter determines the commands and bytes of a call."""

    def __init__(self, inner: StateStore, work: Counter[str]) -> None:
        self._inner = inner
        self._counted = RedisStore(_CountingLink(work))  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **options: Any) -> Any:
            with contextlib.suppress(_Counted):
                await getattr(self._counted, name)(*arguments, **options)
            return await getattr(self._inner, name)(*arguments, **options)

        return call


class _Counted(Exception):
    """Raised when a call has been counted, so that it is not sent."""


class _CountingLink:
    """A connection to Redis that sends nothing."""

    connections = 0

    def __init__(self, work: Counter[str]) -> None:
        self._work = work

    async def ask(self, operation: str, commands: Sequence[Sequence[Any]]) -> None:
        """See RedisLink."""
        self._work["store calls"] += bool(commands)
        self._work["store commands"] += len(commands)
        self._work["bytes to the store"] += sum(
            len(part) if isinstance(part, bytes) else len(str(part)) for command in commands for part in command
        )
        raise _Counted

    async def run(self, operation: str, calls: Sequence[Sequence[Any]]) -> None:
        """See RedisLink."""
        await self.ask(operation, calls)


class _CountedNotifier:
    """See `ports.Notifier`."""

    def __init__(self, inner: Notifier, work: Counter[str]) -> None:
        self._inner = inner
        self._work = work

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """See `ports.Notifier`."""
        self._work["channel messages"] += len(messages)
        await self._inner.publish(messages)


# --- the command -----------------------------------------------------------------------------------


def rows_of(counts: Mapping[str, Counts]) -> dict[str, tuple[float, ...]]:
    """Counts by shape -> by quantity, one for each shape."""
    return {quantity: tuple(counts[shape].get(quantity, 0) for shape in SHAPES) for quantity in QUANTITIES}


def table(rows: Mapping[str, Sequence[float]]) -> str:
    """The rows as a table of the docs."""
    lines = [f"| {quantity} | {' | '.join(f'{each:,.9g}' for each in row)} |" for quantity, row in rows.items()]
    return "\n".join([f"| | {' | '.join(SHAPES)} |", "|---|" + "---:|" * len(SHAPES), *lines])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m work_counts", description=__doc__)
    parser.add_argument("--budgets", action="store_true", help="print the rows of the test")
    arguments = parser.parse_args()
    rows = rows_of({shape: counts_of(request) for shape, request in SHAPES.items()})
    if arguments.budgets:
        print(
            "\n".join(
                f'    "{quantity}": ({", ".join(f"{n:_.9g}" for n in row)}),' for quantity, row in rows.items()
            )
        )
    else:
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
