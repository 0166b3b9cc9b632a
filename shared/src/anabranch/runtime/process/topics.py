"""Creates the topics, and checks that the configuration of existing ones is safe. Reads no records.

The partition count of a topic never changes after its creation: keys would move to other partitions, and so to
other owners.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from anabranch.core.errors import Misconfigured, TopicsMissing
from anabranch.core.lanes import Lane
from anabranch.core.request.models import DAY
from anabranch.ports import EventLog, TopicSpec
from anabranch.runtime.process.settings import Settings

RETENTION_SECONDS = 7 * 86_400
"""Retention of the topics of runs. A run may be open for longer: its owner repeats its snapshot before that."""

AUDIT_SECONDS = 90 * 86_400

MIN_RECORD_BYTES = 50_000
"""Minimum record limit in bytes: a record must have space for the header of a chunk's report and one page."""

USUAL_RETENTION_SECONDS = 2 * 86_400
"""The default timeout of a run, and a day to notice that its partition has no owner: the minimum retention without
snapshots, and advised with them."""
SNAPSHOTS_KEPT = 2
"""Snapshot intervals for which topics have to keep records: a snapshot is repeated after half of the retention."""

_log = logging.getLogger("anabranch.topics")
_TIMED = ("runs", "groups", "tasks")
"""Topics whose record timestamps determine deadlines, retry delays and the age of offers."""
_BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}
_CONFIG = {"cleanup.policy": "delete", "retention.ms": str(RETENTION_SECONDS * 1000)}


def topic_specs(settings: Settings, pools: Sequence[str] = ()) -> Sequence[TopicSpec]:
    """The topics of runs, which `topics create` creates. Those of levels are among them only where services may
    not create topics: else an owner does so once a level is in use, see `ensure_level`.

    Args:
        pools: pools of workers, for which the topics of all levels are among them in any case.
    """
    names = settings.names
    levels = () if settings.create_topics else (*names.topics_of_levels(), *names.topics_of_levels(settings.pool))
    of_pools = [topic for pool in pools for topic in names.topics_of_levels(pool)]
    topics = dict.fromkeys((*names.topics, *levels, names.tasks(Lane(settings.pool)), *of_pools))
    return [*(_spec(settings, topic) for topic in topics), _definitions_spec(settings)]


def gateway_topic_specs(settings: Settings) -> Sequence[TopicSpec]:
    """Topics of the gateway: the audit log, and the subscriptions, compacted to the last record of each."""
    names = settings.names
    audit = {"cleanup.policy": "delete", "retention.ms": str(AUDIT_SECONDS * 1000)}
    copies = settings.replication_factor
    return [
        TopicSpec(names.audit, settings.partitions_of("audit"), audit, copies),
        TopicSpec(names.webhooks, settings.partitions_of("webhooks"), {"cleanup.policy": "compact"}, copies),
    ]


async def ensure_gateway_topics(log: EventLog, settings: Settings) -> Sequence[str]:
    """As `ensure_topics`, for the gateway's topics."""
    specs = [each for each in gateway_topic_specs(settings) if not await _exists(log, settings, each.name)]
    return await _create(log, settings, specs)


async def ensure_topics(log: EventLog, settings: Settings) -> Sequence[str]:
    """Create missing topics if the setting `create_topics` allows it; returns the names of those created. Those of
    levels of priority are created once they are in use, see `ensure_level`.

    Raises:
        TopicsMissing: a topic is missing and `create_topics` is not set.
        Misconfigured: its partition count is not the one that is set explicitly.
    """
    names = settings.names
    needed = dict.fromkeys((*names.topics, names.tasks(Lane(settings.pool))))
    missing = [topic for topic in needed if not await _exists(log, settings, topic)]
    specs = [_spec(settings, topic) for topic in missing]
    # Where somebody else creates the topics, an upgrade must not stop the services: they work without definitions.
    is_allowed = bool(specs) or settings.create_topics
    if is_allowed and not await _exists(log, settings, settings.names.definitions):
        specs.append(_definitions_spec(settings))
    return await _create(log, settings, specs)


async def ensure_level(log: EventLog, settings: Settings, lane: Lane) -> bool:
    """Create the topic of a lane if the setting `create_topics` allows it. Returns whether it exists.

    Raises:
        Misconfigured: the log refuses to create it.
        ServerUnavailable: the log does not answer.
    """
    topic = settings.names.tasks(lane)
    if await _exists(log, settings, topic):
        return True
    if settings.create_topics:
        await log.create_topics([_spec(settings, topic)])
    return settings.create_topics


async def _create(log: EventLog, settings: Settings, missing: Sequence[TopicSpec]) -> Sequence[str]:
    if missing and not settings.create_topics:
        raise TopicsMissing(
            ", ".join(each.name for each in missing),
            "does not exist, and create_topics is off",
            "run `anabranch topics create`, or correct the prefix",
        )
    return await log.create_topics(missing) if missing else []


async def retention_of(log: EventLog, topic: str) -> float | None:
    """Seconds for which a topic keeps records; None for ever. Raises ServerUnavailable."""
    milliseconds = int((await log.topic_settings(topic)).get("retention.ms", -1))
    return milliseconds / 1000 if milliseconds >= 0 else None


async def check_retention(log: EventLog, settings: Settings) -> None:
    """Check that the log retains what owners replay: the records of each open run since its last snapshot.

    Raises:
        Misconfigured: `runs` or `groups` is compacted, or retains records for less than two snapshot intervals
            (without snapshots: than the default timeout plus a day), or a topic's record limit is too small.
    """
    await _check_record_limits(log, settings)
    _check_time(settings.names.tasks(), await log.topic_settings(settings.names.tasks()))
    for topic in (settings.names.runs, settings.names.groups):
        found = await log.topic_settings(topic)
        _check_time(topic, found)
        if "compact" in found.get("cleanup.policy", "delete"):
            raise Misconfigured(
                f"topic {topic}",
                "it is compacted, which deletes records that open runs are rebuilt from",
                "set its cleanup.policy to delete",
            )
        _check_retention_time(topic, int(found.get("retention.ms", -1)) / 1000, settings)
        if int(found.get("retention.bytes", -1)) >= 0:
            _log.warning(
                "topic %s has retention.bytes, so under high load Kafka may delete records that open runs are "
                "rebuilt from: remove it, or set it to -1",
                topic,
            )


def _check_retention_time(topic: str, seconds: float, settings: Settings) -> None:
    """Check the retention of a topic, in seconds; negative: it keeps records for ever."""
    if seconds < 0:
        return
    kept = f"it keeps records for {seconds / 3600:g} h"
    if settings.snapshot_idle == 0:
        if seconds < USUAL_RETENTION_SECONDS:
            raise Misconfigured(
                f"topic {topic}",
                f"{kept}, but a run may take {DAY / 3600:g} h by default, and snapshots of runs are off",
                f"set its retention.ms to {USUAL_RETENTION_SECONDS * 1000} or more: the longest timeout and a day",
            )
        return
    least = SNAPSHOTS_KEPT * settings.snapshot_interval
    if seconds < least:
        raise Misconfigured(
            f"topic {topic}",
            f"{kept}, but owners append a snapshot of a run every {settings.snapshot_interval / 3600:g} h, "
            f"and a takeover needs the records since the last one",
            f"set its retention.ms to {math.ceil(least * 1000)} or more (two snapshot intervals), "
            "or snapshot_interval to half of the retention",
        )
    if seconds < USUAL_RETENTION_SECONDS:
        _log.warning(
            "topic %s keeps records for %g h: if Redis loses its data, large values of open runs that are older "
            "cannot be restored, and no partition may be without an owner for longer",
            topic,
            seconds / 3600,
        )


def _check_time(topic: str, settings: Mapping[str, str]) -> None:
    """Warn about topics with producer timestamps, as earlier releases created: with wrong clocks, runs time out
    early."""
    kind = settings.get("message.timestamp.type", _BROKER_TIME["message.timestamp.type"])
    if kind != _BROKER_TIME["message.timestamp.type"]:
        _log.warning(
            "topic %s has message.timestamp.type=%s, so deadlines depend on the clocks of all services: "
            "set it to LogAppendTime (kafka-configs --alter --entity-type topics --entity-name %s "
            "--add-config message.timestamp.type=LogAppendTime)",
            topic,
            kind,
            topic,
        )


async def _check_record_limits(log: EventLog, settings: Settings) -> None:
    for topic in settings.names.topics:
        limit = await log.record_limit(topic)
        if limit < MIN_RECORD_BYTES:
            raise Misconfigured(
                f"topic {topic}",
                f"its records are limited to {limit:,} bytes, by max.message.bytes of the topic or "
                "message.max.bytes of the broker or the client",
                f"allow at least {MIN_RECORD_BYTES + 10_000:,} bytes",
            )


async def _exists(log: EventLog, settings: Settings, topic: str) -> bool:
    try:
        count = await log.partition_count(topic)
    except Misconfigured:
        return False
    kind = _kind(settings, topic).partition(".")[0]
    wanted = settings.partitions.get(kind)
    if wanted is not None and wanted != count:
        raise Misconfigured(
            f"partitions_{kind}",
            f"{wanted} is set, but the topic {topic} has {count} partitions, and their number must not change",
            f"set it to {count}, or use a new prefix",
        )
    return True


def _spec(settings: Settings, topic: str) -> TopicSpec:
    config = _CONFIG | (_BROKER_TIME if _kind(settings, topic).partition(".")[0] in _TIMED else {})
    return TopicSpec(topic, settings.partitions_of(_kind(settings, topic)), config, settings.replication_factor)


def _definitions_spec(settings: Settings) -> TopicSpec:
    """Definitions are read as a whole, and there are few: one partition, compacted to the last record of each."""
    return TopicSpec(
        settings.names.definitions,
        settings.partitions_of("definitions"),
        {"cleanup.policy": "compact"},
        settings.replication_factor,
    )


def _kind(settings: Settings, topic: str) -> str:
    return topic.removeprefix(settings.prefix).replace("-", "_")
