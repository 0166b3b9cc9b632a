"""`cancel`, `pause`, `resume`, `topics create`: what acts on runs and servers from outside. Thin: a record or a
call each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anabranch.cli.exits import COMPLETED
from anabranch.cli.output import print_json, say
from anabranch.cli.systems import CONNECT_SECONDS, connected, mute_kafka_client
from anabranch.cli.tables import Column, Form, Listing, show
from anabranch.core.errors import ServerUnavailable
from anabranch.ports import TopicSpec

if TYPE_CHECKING:
    from anabranch.runtime.settings import Settings
    from anabranch.sdk.client import Client, Control

_DONE = {"cancel": "Asked to cancel", "pause": "Asked to pause", "resume": "Asked to go on with"}


async def control(settings: Settings, action: Control, run: str, *, json: bool) -> int:
    """Publish a control record. That a run has ended is found out by whoever owns it; of one that is not known
    it is said, and the record stands all the same, for its request may be on its way."""
    async with connected(settings) as client:
        run_id = await client.run_id_of(run)
        known = await _is_known(client, run_id)
        await client.control(action, run_id=run_id)
    if json:
        print_json({"run_id": run_id, "action": action, "known": known})
    say(f"{_DONE[action]} run {run_id}. See: anabranch status {run_id}")
    if not known:
        say(f"No run {run!r} is known here so far, by run id or by request id. See: anabranch list")
    return COMPLETED


async def _is_known(client: Client, run_id: str) -> bool:
    names = client.names
    found = await client.store.get([names.tombstone(run_id), names.run_lookup(run_id)])
    return any(value is not None for value in found)


async def create_topics(settings: Settings, *, form: Form) -> int:
    """Create the topics that are missing.

    Raises:
        ServerUnavailable: Kafka does not answer.
        Misconfigured: a topic is there with another number of partitions.
    """
    from anabranch.runtime.connections import kafka_log
    from anabranch.runtime.topics import gateway_topic_specs, topic_specs

    mute_kafka_client()
    specs = [*topic_specs(settings), *gateway_topic_specs(settings)]
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            log = await kafka_log(settings)
    except TimeoutError as error:
        raise ServerUnavailable("Kafka", settings.brokers, f"no answer within {CONNECT_SECONDS:g} s") from error
    try:
        created = await log.create_topics(specs)
    finally:
        await log.close()
    rows = [("created" if spec.name in created else "exists", spec) for spec in specs]
    document = {"created": list(created), "topics": [spec.name for spec in specs]}
    show(Listing(TOPIC_COLUMNS, rows, document, ""), form)
    return COMPLETED


TOPIC_COLUMNS: tuple[Column[tuple[str, TopicSpec]], ...] = (
    Column("topic", lambda row: row[1].name),
    Column("now", lambda row: row[0], style=lambda now: "green" if now == "created" else "dim"),
    Column("partitions", lambda row: row[1].partitions, justify="right"),
)
