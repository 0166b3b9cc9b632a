"""The steward: starts queued executions, publishes the outbox, and ends executions whose runs have ended.

Several stewards may work at once, in gateways and in processes with a `TaskAPI`. Each transaction leaves a state
from which any of them goes on, and each effect may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from uuid import UUID

import orjson

from anabranch.core.errors import ValueGone
from anabranch.core.executions.starting import outcome_in
from anabranch.core.names import run_id_for
from anabranch.core.tasks.availability import Availability, availability
from anabranch.core.tasks.models import AgentRecord, TaskExecution
from anabranch.core.tasks.outbox import OutboxRow
from anabranch.core.tasks.outcomes import Outcome, is_of_task, outcome_of
from anabranch.ports import Incoming
from anabranch.registry.publishing import publish_rows
from anabranch.registry.running import PUBLISH_SECONDS, Caps, end, start_queued
from anabranch.registry.transaction import Transaction, Transactions
from anabranch.runtime.ownership.consumer import Consumer
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.runtime.reading.workers import live_workers
from anabranch.runtime.until_available import until_available
from anabranch.sdk.client_ports import ClientPorts
from anabranch.sdk.references import resolve_all
from anabranch.sdk.watch import FINAL_TYPES

IDLE_SECONDS = 1.0
"""How often the queue is looked at if nothing happens: agents come, and scheduled times pass."""
CHECK_SECONDS = 5.0
"""How often runs of started executions are looked up in the store, in case that a record was missed."""
LOST_SECONDS = 30.0
"""How long a published request may be unknown to the store before it is published again."""
AGENTS_SECONDS = 1.0
"""How long the list of live agents is taken from memory."""
BATCH = 200
MAX_QUEUED = 2_000

_log = logging.getLogger("anabranch.tasks")

BeforeStart = Callable[[Sequence[TaskExecution]], Awaitable[Mapping[str, Outcome]]]
"""Called with executions of `anabranch.execution` that have a slot. Returns the outcomes, by request id, of those
that do not start."""


async def _start_all(_: Sequence[TaskExecution]) -> Mapping[str, Outcome]:
    return {}


class Steward:
    """Runs the executions of a registry.

    Args:
        max_running: executions of tasks that run at once, of all stewards together.
        max_executions: the same of executions of `anabranch.execution`.
        local_agents: the agents of this process with their capabilities, which its card may not have yet.
    """

    def __init__(
        self,
        transactions: Transactions,
        links: ClientPorts,
        supervisor: Supervisor,
        max_running: int,
        max_executions: int,
        local_agents: Callable[[], Mapping[str, Iterable[str]]] = dict,
    ) -> None:
        self._transactions = transactions
        self._links = links
        self._supervisor = supervisor
        self.max_running = max_running
        self.max_executions = max_executions
        self.before_start: BeforeStart = _start_all
        self.after_end: Callable[[Collection[UUID]], None] = lambda _: None
        self._local_agents = local_agents
        self._loop = asyncio.get_running_loop()
        self._due = asyncio.Event()
        self._starting = asyncio.Lock()
        self._tasks = supervisor.tasks()
        self._consumer: Consumer | None = None
        self._live: Mapping[str, Iterable[str]] = {}
        self._has_offers = False
        self._live_until = float("-inf")

    async def start(self) -> None:
        """Start the background tasks. Raises ServerUnavailable if the log cannot be reached."""
        names = self._links.names
        self._consumer = Consumer(
            self._links.log, names.task_steward, names.results, self._supervisor, max_queued=MAX_QUEUED
        )
        await self._consumer.start()
        for work, name in (
            (self._start_loop(), "steward: starts"),
            (self._end_loop(self._consumer), "steward: ends"),
            (self._check_loop(), "steward: checks"),
        ):
            self._tasks.spawn(work, name)

    async def stop(self) -> None:
        """Stop; another steward, or the next one, goes on."""
        await self._tasks.cancel()
        if self._consumer is not None:
            await self._consumer.stop()

    @property
    def unhealthy_reason(self) -> str | None:
        """Why no execution ends at the moment; None if they do."""
        return None if self._consumer is None else self._consumer.unhealthy_reason

    def wake(self) -> None:
        """Look at the queue now. Thread-safe."""
        self._loop.call_soon_threadsafe(self._due.set)

    # --- starts -------------------------------------------------------------------------------------

    async def start_now(self) -> None:
        """Start what may start, and publish it.

        Raises:
            ServerUnavailable: the database, the store or the log does not respond; nothing is lost.
        """
        async with self._starting:
            agents = await self.available()
            caps = Caps(self.max_running, self.max_executions)
            started = await self._transactions.async_write(lambda tx: start_queued(tx, agents, caps))
            refused = await self.before_start(started.executions) if started.executions else {}
            await self._publish([row for row in started.rows if row.document["request_id"] not in refused])
            # Those that start no run. What depends on them may start at once.
            if outcomes := {**started.outcomes, **refused}:
                await self._end_all(outcomes)

    async def available(self) -> Availability:
        """The agents that can take executions now."""
        registered = await self._transactions.async_read(_agents)
        await self._read_workers()
        live = {name: set(capabilities) for name, capabilities in self._live.items()}
        for name, capabilities in self._local_agents().items():
            live.setdefault(name, set()).update(capabilities)
        return availability(live, registered, has_offers=self._has_offers)

    async def _read_workers(self) -> None:
        now = self._links.clock.monotonic()
        if now < self._live_until:
            return
        workers = await live_workers(self._links.store, self._links.names)
        live: dict[str, set[str]] = {}
        for worker in workers:
            for agent in worker.agents:
                live.setdefault(agent.name, set()).update(agent.capabilities)
        self._live, self._live_until = live, now + AGENTS_SECONDS
        self._has_offers = any(worker.offered.amounts or worker.offered.labels for worker in workers)

    async def _publish(self, rows: Sequence[OutboxRow]) -> None:
        if not rows:
            return
        refused = await publish_rows(self._links.log, self._links.names.requests, rows)
        ids = [row.id for row in rows]
        await self._transactions.async_write(lambda tx: tx.executions.published(ids, tx.seconds))
        if refused:
            await self._end_all(refused)

    async def _start_loop(self) -> None:
        while True:
            self._due.clear()
            await until_available(self._start_round, "start tasks")
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._due.wait()
            except TimeoutError:
                continue

    async def _start_round(self) -> None:
        await self.start_now()
        await self._publish(await self._transactions.async_write(_take_outbox))

    # --- ends ---------------------------------------------------------------------------------------

    async def _end_loop(self, consumer: Consumer) -> None:
        while True:
            records = await consumer.take(BATCH)
            bodies = [body for record in records if (body := _body_of(record)) is not None]
            if bodies:
                await until_available(lambda bodies=bodies: self._end(bodies), "end tasks")  # type: ignore[misc]
            consumer.done(records)

    async def _end(self, bodies: Sequence[dict[str, object]]) -> None:
        rejected = [body for body in bodies if body["status"] == "rejected"]
        admitted = await self._admitted([str(body["request_id"]) for body in rejected])
        outcomes: dict[str, Outcome] = {}
        for body in bodies:
            request_id = str(body["request_id"])
            # The rejection of another request with the same id is not that of a run that was admitted.
            if body["status"] != "rejected" or request_id not in admitted:
                outcomes[request_id] = await self._outcome(body)
        if outcomes:
            await self._end_all(outcomes)

    async def _end_all(self, outcomes: Mapping[str, Outcome]) -> None:
        if ended := await self._transactions.async_write(lambda tx: end(tx, outcomes)):
            self.after_end(ended)
            self._due.set()

    async def _outcome(self, body: Mapping[str, object]) -> Outcome:
        results = body.get("results") or {}
        assert isinstance(results, dict)
        session = str(body.get("session_id") or "")
        try:
            found = await resolve_all(self._links.store, self._links.names, results, within=session)
        except ValueGone as error:
            # The result has expired meanwhile. The end counts all the same: dependents wait for it.
            _log.warning("steward: the result of %s is lost: %s", body.get("request_id"), error)
            found = {}
        return outcome_of(body, found)

    async def _admitted(self, request_ids: Sequence[str]) -> set[str]:
        run_ids = [run_id_for(each) for each in request_ids]
        records = await load_run_records(self._links.store, self._links.names, run_ids)
        return {each for each, record in zip(request_ids, records, strict=True) if record is not None}

    # --- checks -------------------------------------------------------------------------------------

    async def _check_loop(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await until_available(self.check, "check the runs of tasks")

    async def check(self) -> None:
        """End executions whose runs have ended, although no record of that was seen, and publish requests again
        that were lost with the log.

        Raises:
            ServerUnavailable: the database or the store does not respond.
        """
        started = await self._transactions.async_read(lambda tx: tx.executions.with_slot())
        lost = []
        for at in range(0, len(started), BATCH):
            part = started[at : at + BATCH]
            run_ids = [each.run_id for each in part]
            records = await load_run_records(self._links.store, self._links.names, run_ids)
            outcomes: dict[str, Outcome] = {}
            for execution, record in zip(part, records, strict=True):
                if (outcome := outcome_in(execution)) is not None:
                    outcomes[execution.request_id] = outcome
                elif record is None:
                    lost.append(execution.id)
                elif record.final is not None:
                    outcomes[execution.request_id] = await self._outcome(record.final)
            if outcomes:
                await self._end_all(outcomes)
        if lost:
            await self._transactions.async_write(
                lambda tx: tx.executions.publish_again(lost, tx.seconds - LOST_SECONDS)
            )


def _agents(tx: Transaction) -> list[AgentRecord]:
    return tx.tasks.agents()


def _take_outbox(tx: Transaction) -> list[OutboxRow]:
    return tx.executions.take_outbox(tx.seconds, tx.seconds + PUBLISH_SECONDS, BATCH)


def _body_of(record: Incoming) -> dict[str, object] | None:
    """The body of a final record, or of a rejection, of an execution; None for other records."""
    kind = next((value for name, value in record.headers if name == "ce_type"), None)
    if kind is None or kind.decode() not in _ENDS:
        return None
    try:
        body = orjson.loads(record.value)
    except orjson.JSONDecodeError:
        _log.warning(
            "steward: skips the record at %s/%d/%d, which is not JSON",
            record.topic,
            record.partition,
            record.offset,
        )
        return None
    if not isinstance(body, dict) or not isinstance(body.get("request_id"), str):
        return None
    return body if is_of_task(body["request_id"]) else None


_ENDS = frozenset((*FINAL_TYPES, "run.rejected"))
