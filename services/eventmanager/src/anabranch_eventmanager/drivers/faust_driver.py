"""Driver for Kafka: a Faust application with one table, which stores the documents.

Faust moves partitions between processes, reads the records and restores the table from its changelog; the
projector does everything else. Documents are written to the changelog in batches, and the offsets of the records
that changed them are committed afterwards. Keys of the table start with their partition. Changelog records name
their partition, so they do not depend on a partitioner.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import faust
from faust.types import TP

from anabranch.core.errors import ServerUnavailable
from anabranch.core.names import Names
from anabranch.ports import EventLog, Incoming, TopicSpec
from anabranch.runtime.process.supervision import SupervisedTasks
from anabranch_eventmanager.drivers.faust_consumer import BatchTransport
from anabranch_eventmanager.drivers.faust_security import faust_options
from anabranch_eventmanager.drivers.table_writer import TableWriter
from anabranch_eventmanager.projector import Projector

TABLE = "facts"
START_SECONDS = 60.0
STOP_SECONDS = 8.0
CHECK_SECONDS = 0.05
LAST_WRITE_SECONDS = 4.0
"""Maximum seconds of the last write of revoked partitions, and of a process that stops. Without it the next owner
reads more records again."""

_DEFAULTS: Mapping[str, Any] = {
    "broker_session_timeout": 8.0,
    "broker_heartbeat_interval": 2.0,
    "broker_commit_interval": 1.0,
}
"""Faust options. The session timeout is short, for a quick takeover, as in the other services."""

_log = logging.getLogger("anabranch.eventmanager.faust")


class FaustDriver:
    """See the module.

    Args:
        brokers: `host:port`, several with commas between.
        properties: Kafka properties in librdkafka's names.
        tasks: runs the writer of documents.
        replication_factor: copies of the changelog, if it has to be created; None for the broker's default.
    """

    def __init__(
        self,
        log: EventLog,
        names: Names,
        brokers: str,
        properties: Mapping[str, str],
        tasks: SupervisedTasks,
        replication_factor: int | None = None,
    ) -> None:
        self._log = log
        self._names = names
        self._brokers = brokers
        self._options = {**_DEFAULTS, **faust_options(properties)}
        self._tasks = tasks
        self._replication_factor = replication_factor
        self._changelog = f"{names.eventmanager}-{TABLE}-changelog"
        self._app: Any = None
        self._table: Any = None
        self._directory: Path | None = None
        self._projector: Projector | None = None
        self._recovered = asyncio.Event()
        self._writer = TableWriter(log, self._changelog, self._effects_sent, self._done)

    async def start(self, projector: Projector) -> None:
        """See `service.Driver`. Returns when this process is a member and its partitions are recovered."""
        self._projector = projector
        partitions = await self._log.partition_count(self._names.events)
        # Created like all other topics and not by Faust.
        compacted = {"cleanup.policy": "compact"}
        await self._log.create_topics(
            [TopicSpec(self._changelog, partitions, compacted, self._replication_factor)]
        )
        self._build(partitions)
        self._tasks.spawn(self._writer.run(), "document writer")
        await self._app.start()
        await self._until_recovered()

    async def stop(self) -> None:
        """See `service.Driver`."""
        app = self._app
        if app is not None:
            await self._write_last()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await app.stop()
            except TimeoutError:
                _log.warning("the event manager stops although Faust has not stopped within %g s", STOP_SECONDS)
        self._app = None
        await self._tasks.cancel()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def unhealthy_reason(self) -> str | None:
        """See `service.Driver`."""
        if self._app is not None and self._app.crashed:
            return f"Faust has crashed: {self._app.crash_reason!r}"
        return None

    async def _until_recovered(self) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                while not self._recovered.is_set():
                    if (unhealthy_reason := self.unhealthy_reason()) is not None:
                        raise ServerUnavailable("Kafka", self._brokers, unhealthy_reason)
                    await asyncio.sleep(CHECK_SECONDS)
        except TimeoutError as error:
            reason = f"the group {self._names.eventmanager} was not joined within {START_SECONDS:g} s"
            raise ServerUnavailable("Kafka", self._brokers, reason) from error

    def _build(self, partitions: int) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="anabranch-eventmanager-"))
        self._app = faust.App(
            self._names.eventmanager,
            broker=[f"kafka://{broker}" for broker in self._brokers.split(",")],
            # The changelog is the durable copy; a store on disk or a standby replica would be one more.
            store="memory://",
            table_standby_replicas=0,
            datadir=self._directory,
            web_enabled=False,
            autodiscover=False,
            # Topics, changelog included, are created by this system, with its own number of partitions and
            # retention.
            topic_allow_declare=False,
            topic_disable_leader=True,
            topic_partitions=partitions,
            key_serializer="raw",
            value_serializer="raw",
            consumer_auto_offset_reset="earliest",
            loop=asyncio.get_running_loop(),
            **self._options,
        )
        self._app.transport = BatchTransport(self._app.conf.broker_consumer, self._app)
        self._app.transport.deliver = self._deliver
        events = self._app.topic(self._names.events, key_type=bytes, value_type=bytes)
        self._table = self._app.Table(TABLE, key_type=bytes, value_type=bytes, partitions=partitions)
        self._app.agent(events, name="events")(_subscribe)
        self._app.on_partitions_revoked.connect(self._on_revoked)
        self._table.on_recover(self._on_recovered)

    def _deliver(self, partition: int, records: Sequence[Incoming]) -> None:
        """Handle records at once, because that takes microseconds for each."""
        if self._projector is not None:
            self._projector.handle(partition, records)
            self._writer.handled(partition, records[-1].offset + 1)

    async def _effects_sent(self) -> None:
        if self._projector is not None:
            await self._projector.outputs_sent()

    def _done(self, partition: int, following: int) -> None:
        self._app.consumer.done(self._names.events, partition, following)

    async def _on_revoked(self, _app: Any, revoked: Any, **_: Any) -> None:
        """Drop revoked partitions at once, so that no older view overwrites a newer one of the next owner."""
        numbers = {each.partition for each in revoked if each.topic == self._names.events}
        if not await self._write_last():
            # A write that still waits must not write documents of these partitions when it continues.
            await self._tasks.cancel()
            self._tasks.spawn(self._writer.run(), "document writer")
        for number in numbers:
            self._close(number)

    async def _on_recovered(self) -> None:
        """Faust has recovered the table after a rebalance: open the assigned partitions with its documents."""
        if self._projector is None:
            return
        assigned = [each for each in self._app.consumer.assignment() if each.topic == self._names.events]
        await self._seek_uncommitted(assigned)
        stored: dict[int, dict[str, bytes]] = {each.partition: {} for each in assigned}
        for key, value in self._table.data.items():
            number, _, name = key.decode().partition("|")
            if value and int(number) in stored:
                stored[int(number)][name] = value
        # The projector has the documents from now on; a second copy would only take memory.
        self._table.data.clear()
        for number, documents in self._writer.open(stored).items():
            self._projector.open(number, documents, self._writer.put)
        _log.info("the event manager has recovered the partitions %s of %s", sorted(stored), self._names.events)
        # Also set if no partition was assigned: a process above the number of partitions is a healthy standby.
        self._recovered.set()

    async def _seek_uncommitted(self, assigned: Collection[Any]) -> None:
        """Start partitions without a committed offset at their earliest record.

        After a recovery Faust seeks to the committed offsets. A partition without one would continue after the
        records that were fetched, and dropped, during the rebalance.
        """
        if not assigned:
            return
        consumer = self._app.consumer
        committed = await consumer.seek_to_committed()
        uncommitted = [each for each in assigned if not committed.get(each)]
        if uncommitted:
            earliest = await consumer.earliest_offsets(*uncommitted)
            for each in uncommitted:
                await consumer.seek(each, earliest[each])

    def _close(self, number: int) -> None:
        if self._projector is not None:
            self._projector.close(number)
        self._writer.close(number)
        self._app.consumer.forget(self._names.events, number)
        # Otherwise Faust would restore a partition that it gets again only from where it stopped last time.
        self._app.tables.recovery.revoke(TP(self._changelog, number))

    async def _write_last(self) -> bool:
        """Write the collected documents before partitions move. Returns False if that took too long."""
        try:
            async with asyncio.timeout(LAST_WRITE_SECONDS):
                await self._writer.write()
        except TimeoutError:
            _log.warning(
                "the event manager could not write its latest documents within %g s; the next owner of the "
                "partitions reads their records again",
                LAST_WRITE_SECONDS,
            )
            return False
        return True


async def _subscribe(stream: Any) -> None:
    """The Faust agent. It only makes Faust subscribe to the topic: records are delivered before they reach it."""
    async for _ in stream:
        pass
