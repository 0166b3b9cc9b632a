"""Driver for Kafka: a Faust application with one table, which stores the documents.

Faust delivers the records, moves partitions between processes, and keeps the changelog of the table; the
projector does everything else. Keys of the table start with their partition. Writes are collected for a while,
and a record is acknowledged only after its writes were sent to the changelog, which Faust flushes before it
commits. Changelog records name their partition, so they do not depend on Faust's partitioner.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import faust

from anabranch.core.errors import ServerUnavailable
from anabranch.core.names import Names
from anabranch.ports import EventLog, Headers, Incoming, TopicSpec
from anabranch_eventmanager.drivers.faust_security import faust_options
from anabranch_eventmanager.projection.documents import Document
from anabranch_eventmanager.projection.table_records import TableRecords
from anabranch_eventmanager.projector import Projector

TABLE = "facts"
START_SECONDS = 60.0
STOP_SECONDS = 8.0
CHECK_SECONDS = 0.05
COLLECT_SECONDS = 0.2
MAX_COLLECTED = 500
"""Seconds, and number of records, after which collected writes go to the changelog.

The document of a run changes with each of its records, and nothing waits for the changelog: so each document of
a short run is written only once.
"""

_DEFAULTS: Mapping[str, Any] = {
    "broker_session_timeout": 8.0,
    "broker_heartbeat_interval": 2.0,
    "broker_commit_interval": 1.0,
    "producer_linger": 0.02,
    "producer_max_request_size": 1_048_576,
}
"""Faust options.

The session timeout is short, for a quick takeover, as in the other services. With a linger several changelog
records share a request: without it a process handles a few hundred records a second instead of thousands.
"""

_log = logging.getLogger("anabranch.eventmanager.faust")


class FaustDriver:
    """See the module.

    Args:
        brokers: `host:port`, several with commas between.
        properties: Kafka properties in librdkafka's names.
    """

    def __init__(self, log: EventLog, names: Names, brokers: str, properties: Mapping[str, str]) -> None:
        self._log = log
        self._names = names
        self._brokers = brokers
        self._options = {**_DEFAULTS, **faust_options(properties)}
        self._app: Any = None
        self._table: Any = None
        self._directory: Path | None = None
        self._projector: Projector | None = None
        self._recovered = asyncio.Event()
        self._records: dict[int, TableRecords] = {}
        self._unwritten: dict[tuple[int, str], Document | None] = {}
        self._unacknowledged: list[Any] = []
        self._write_timer: asyncio.TimerHandle | None = None

    async def start(self, projector: Projector) -> None:
        """See `service.Driver`. Returns when this process is a member and its partitions are recovered."""
        self._projector = projector
        partitions = await self._log.partition_count(self._names.events)
        await self._log.create_topics([self._changelog(partitions)])
        self._build(partitions)
        await self._app.start()
        await self._until_recovered()

    async def stop(self) -> None:
        """See `service.Driver`."""
        app = self._app
        if app is not None:
            self._write()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await app.stop()
            except TimeoutError:
                _log.warning("the event manager stops although Faust has not stopped within %g s", STOP_SECONDS)
        self._app = None
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

    def _changelog(self, partitions: int) -> TopicSpec:
        """The changelog topic, which is created like all other topics and not by Faust."""
        return TopicSpec(
            f"{self._names.eventmanager}-{TABLE}-changelog", partitions, {"cleanup.policy": "compact"}
        )

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
        events = self._app.topic(self._names.events, key_type=bytes, value_type=bytes)
        self._table = self._app.Table(TABLE, key_type=bytes, value_type=bytes, partitions=partitions)
        self._app.agent(events, name="events")(self._follow)
        self._app.on_partitions_revoked.connect(self._on_revoked)
        self._table.on_recover(self._on_recovered)

    async def _follow(self, stream: Any) -> None:
        """The Faust agent: one task for all partitions, because the projector handles a record in microseconds."""
        # Not acknowledged by Faust: `_write` does that after the changelog has the writes of the record.
        async for event in stream.noack().events():
            self._unacknowledged.append(event)
            self._handle(event.message)
            if len(self._unacknowledged) >= MAX_COLLECTED:
                self._write()
            else:
                self._schedule_write()

    def _handle(self, message: Any) -> None:
        if self._projector is not None:
            record = Incoming(
                message.topic,
                message.partition,
                message.offset,
                message.key,
                message.value or b"",
                _headers(message.headers),
                message.timestamp,
                message.value is None,
            )
            self._projector.handle(message.partition, [record])

    async def _on_revoked(self, _app: Any, revoked: Any, **_: Any) -> None:
        """Drop revoked partitions at once, so that no older view overwrites a newer one of the next owner."""
        self._write()
        for partition in {each.partition for each in revoked if each.topic == self._names.events}:
            self._close(partition)

    async def _on_recovered(self) -> None:
        """Faust has recovered the table after a rebalance: open the assigned partitions with its documents."""
        if self._projector is None:
            return
        assigned = [each for each in self._app.consumer.assignment() if each.topic == self._names.events]
        await self._seek_uncommitted(assigned)
        stored: dict[int, dict[str, bytes]] = {each.partition: {} for each in assigned}
        for key, value in self._table.data.items():
            partition, _, name = key.decode().partition("|")
            if value and int(partition) in stored:
                stored[int(partition)][name] = value
        for partition, values in stored.items():
            records = self._records[partition] = TableRecords()
            self._projector.open(partition, records.load(values), self._persist)
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

    def _close(self, partition: int) -> None:
        if self._projector is not None:
            self._projector.close(partition)
        self._records.pop(partition, None)
        prefix = f"{partition}|".encode()
        for key in [key for key in self._table.data if key.startswith(prefix)]:
            del self._table.data[key]

    def _persist(self, partition: int, key: str, document: Document | None) -> None:
        """See `projector.Persist`. Of several writes to a key only the last one is sent."""
        self._unwritten[partition, key] = document
        self._schedule_write()

    def _schedule_write(self) -> None:
        if self._write_timer is None:
            self._write_timer = asyncio.get_running_loop().call_later(COLLECT_SECONDS, self._write)

    def _write(self) -> None:
        """Send the collected writes to the changelog, then acknowledge the records that caused them."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        if self._app is None:
            return  # stopped: the next owner reads these records again, as after a crash
        unwritten, self._unwritten = self._unwritten, {}
        for (partition, key), document in unwritten.items():
            for name, value in self._records[partition].changes(key, document):
                self._write_one(partition, f"{partition}|{name}".encode(), value)
        acknowledged, self._unacknowledged = self._unacknowledged, []
        for event in acknowledged:
            event.ack()

    def _write_one(self, partition: int, name: bytes, value: bytes | None) -> None:
        """Write to the table's memory and changelog directly, because outside of an agent the table refuses
        writes."""
        if value is None:
            self._table.data.pop(name, None)
        else:
            self._table.data[name] = value
        self._table.send_changelog(partition, name, value)


def _headers(headers: Any) -> Headers:
    """Headers as pairs; depending on the transport Faust passes a mapping or pairs."""
    if not headers:
        return ()
    return tuple(headers.items() if isinstance(headers, Mapping) else headers)
