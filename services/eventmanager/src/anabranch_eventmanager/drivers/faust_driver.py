"""Drives the event manager on Kafka: a thin Faust application whose one table holds the facts.

Faust brings the records, moves partitions between processes and keeps the table's changelog; the keeper does
everything else. A table's keys start with their partition, so that what belongs to one can be told apart.
Writes gather for a while, and a record is acknowledged only when its writes were handed to the
changelog; Faust flushes that before it commits. Changelog records name their partition, so nothing depends on
how Faust would place a key.
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
import orjson

from anabranch.core.errors import ServerUnavailable
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.ports import EventLog, Headers, Incoming, TopicSpec
from anabranch_eventmanager.drivers.faust_security import faust_options
from anabranch_eventmanager.projection.documents import Document
from anabranch_eventmanager.projector import Projector

TABLE = "facts"
START_SECONDS = 60.0
STOP_SECONDS = 8.0
CHECK_SECONDS = 0.05
GATHER_SECONDS = 0.2
GATHERED = 500
"""A run's own facts change with each record, and nobody waits for the changelog: it gets them at most so often. A
short run is one write of each of its facts."""

_DEFAULTS: Mapping[str, Any] = {
    "broker_session_timeout": 8.0,
    "broker_heartbeat_interval": 2.0,
    "broker_commit_interval": 1.0,
    "producer_linger": 0.02,
    "producer_max_request_size": 1_048_576,
}
"""A short session for a quick takeover, as the other services have it. Nobody waits for the changelog, so its
records may gather: without a linger each is a request of its own, and a worker gets to a few hundred records
a second instead of thousands."""

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
        self._keeper: Projector | None = None
        self._recovered = asyncio.Event()
        self._unwritten: dict[tuple[int, str], Document | None] = {}
        self._unacknowledged: list[Any] = []
        self._gathering: asyncio.TimerHandle | None = None

    async def start(self, keeper: Projector) -> None:
        """See `service.Driver`. Ready when this process is a member and its partitions are recovered."""
        self._keeper = keeper
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
                _log.warning("Faust did not stop within %g s", STOP_SECONDS)
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
        """Made here rather than by Faust, so that it is made as all other topics are."""
        return TopicSpec(
            f"{self._names.eventmanager}-{TABLE}-changelog", partitions, {"cleanup.policy": "compact"}
        )

    def _build(self, partitions: int) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="anabranch-eventmanager-"))
        self._app = faust.App(
            self._names.eventmanager,
            broker=[f"kafka://{broker}" for broker in self._brokers.split(",")],
            store="memory://",
            table_standby_replicas=0,
            datadir=self._directory,
            web_enabled=False,
            autodiscover=False,
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
        """The agent. It is one task for all partitions; the keeper takes microseconds for a record."""
        async for event in stream.noack().events():
            self._unacknowledged.append(event)
            self._handle(event.message)
            if len(self._unacknowledged) >= GATHERED:
                self._write()
            else:
                self._gather()

    def _handle(self, message: Any) -> None:
        if self._keeper is not None:
            self._keeper.handle(
                Incoming(
                    message.topic,
                    message.partition,
                    message.offset,
                    message.key,
                    message.value or b"",
                    _headers(message.headers),
                    message.timestamp,
                    message.value is None,
                )
            )

    async def _on_revoked(self, _app: Any, revoked: Any, **_: Any) -> None:
        """Forget at once what may be somebody else's: an older view must not be written over a newer."""
        self._write()
        for partition in {each.partition for each in revoked if each.topic == self._names.events}:
            self._close(partition)

    async def _on_recovered(self) -> None:
        """Faust has brought the table up to date after partitions moved: take it over anew."""
        if self._keeper is None:
            return
        assigned = [each for each in self._app.consumer.assignment() if each.topic == self._names.events]
        await self._seek_uncommitted(assigned)
        facts: dict[int, dict[str, Document]] = {each.partition: {} for each in assigned}
        for key, value in self._table.data.items():
            partition, _, name = key.decode().partition("|")
            if value and int(partition) in facts:
                facts[int(partition)][name] = orjson.loads(value)
        for partition, known in facts.items():
            self._keeper.open(partition, known, self._persist)
        _log.info("partitions %s of %s are recovered", sorted(facts), self._names.events)
        self._recovered.set()

    async def _seek_uncommitted(self, assigned: Collection[Any]) -> None:
        """Start partitions without a commit at their earliest record.

        After a recovery Faust goes back to the committed offsets. Where there is none it would go on behind
        the records that were fetched, and thrown away, while the partition was on the move.
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
        if self._keeper is not None:
            self._keeper.close(partition)
        mark = f"{partition}|".encode()
        for key in [key for key in self._table.data if key.startswith(mark)]:
            del self._table.data[key]

    def _persist(self, partition: int, key: str, document: Document | None) -> None:
        """See `keeper.Persist`. Of several writes to one key in a short while only the last travels, in its place:
        what a run's facts refer to has to be on the changelog before them."""
        self._unwritten.pop((partition, key), None)
        self._unwritten[partition, key] = document
        self._gather()

    def _gather(self) -> None:
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._write)

    def _write(self) -> None:
        """Hand what has gathered to the changelog, then acknowledge the records that caused it."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._app is None:
            return  # stopped: the next owner does without this, as after a crash
        unwritten, self._unwritten = self._unwritten, {}
        for (partition, key), document in unwritten.items():
            self._write_one(partition, f"{partition}|{key}".encode(), document)
        acknowledged, self._unacknowledged = self._unacknowledged, []
        for event in acknowledged:
            event.ack()

    def _write_one(self, partition: int, name: bytes, document: Document | None) -> None:
        """The table's memory and its changelog, also outside of an agent, where the table refuses writes."""
        if document is None:
            self._table.data.pop(name, None)
            self._table.send_changelog(partition, name, None)
        else:
            value = dumps(document)  # the table keeps it for a day
            self._table.data[name] = value
            self._table.send_changelog(partition, name, value)


def _headers(headers: Any) -> Headers:
    """Faust gives a mapping or pairs, depending on the transport."""
    if not headers:
        return ()
    return tuple(headers.items() if isinstance(headers, Mapping) else headers)
