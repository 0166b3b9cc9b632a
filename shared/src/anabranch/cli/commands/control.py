"""`cancel`, `terminate`, `pause` and `resume` publish a control record; `topics create` creates topics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anabranch.cli.backends.selection import open_installation
from anabranch.cli.backends.systems import CONNECT_SECONDS, mute_kafka_client, require_broker
from anabranch.cli.exits import COMPLETED
from anabranch.cli.render.output import print_json, say
from anabranch.cli.render.tables import Column, Form, Listing, show
from anabranch.cli.said import NOTHING, Said
from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.ports import TopicSpec

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.client import Control

_REQUESTED = {"cancel": "Cancellation", "terminate": "Termination", "pause": "Pause", "resume": "Resumption"}


async def control(settings: Settings, action: Control, run: str, said: Said = NOTHING, *, json: bool) -> int:
    """Cancel, terminate, pause or resume a run. If the run has ended, print its status and publish nothing.

    Raises:
        Misconfigured: there is no such run.
    """
    async with open_installation(settings) as system:
        done = await system.control(action, run, said)
    if not done.known:
        raise Misconfigured(run, "there is no run with this run id or request id", "see: anabranch list")
    if json:
        print_json({"run_id": done.run_id, "action": action, "known": True, "ended": done.ended})
    if done.ended is not None:
        say(f"Run {done.run_id} had already ended: {done.ended}. There is nothing to {action}.")
    else:
        say(f"{_REQUESTED[action]} of run {done.run_id} requested. See: anabranch status {done.run_id}")
    return COMPLETED


async def create_topics(settings: Settings, pools: Sequence[str] = (), *, form: Form) -> int:
    """Create missing topics.

    Args:
        pools: pools of workers whose topics are created too, for all levels of priority.

    Raises:
        ServerUnavailable: Kafka does not answer.
        Misconfigured: an existing topic has a different number of partitions.
    """
    from anabranch.runtime.process.connections import kafka_log
    from anabranch.runtime.process.setting_values import pool
    from anabranch.runtime.process.topics import gateway_topic_specs, topic_specs

    try:
        checked = [pool(each) for each in pools]
    except ValueError as error:
        raise Misconfigured("--pool", str(error)) from error
    await require_broker(settings)
    mute_kafka_client()
    specs = [*topic_specs(settings, checked), *gateway_topic_specs(settings)]
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
