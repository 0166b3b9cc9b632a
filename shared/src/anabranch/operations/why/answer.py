"""Answers why a run does not end, as a value or as a document, and re-sends pending work on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch.core.reasons import Missing
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import Nudge
from anabranch.operations.why.examination import Answer, examine
from anabranch.operations.why.observations import Sources
from anabranch.ports import Outgoing
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.client import Client


async def explain(client: Client, settings: Settings, run: str, *, heal: bool) -> dict[str, Any]:
    """The document of `why --json`, read through a connected client.

    Raises:
        Misconfigured: there is no such run.
        ServerUnavailable: Kafka or Redis does not answer.
    """
    answer, _, healed = await examined(client, settings, run, heal=heal)
    return document_of(answer) | ({"healed": healed} if heal else {})


async def examined(client: Client, settings: Settings, run: str, *, heal: bool) -> tuple[Answer, float, list[str]]:
    """The answer, its time in seconds since the epoch, and descriptions of the healing actions that were taken."""
    now = client.links.clock.now()
    sources = Sources(client.log, client.store, client.names)
    answer = await examine(sources, settings, run, await client.run_id_of(run), now)
    return answer, now, await _heal(client, answer, now) if heal and answer.is_open else []


async def _heal(client: Client, answer: Answer, now: float) -> list[str]:
    """Publish lost records again, and ask the session's owner to check its pending work.

    Safe to repeat: receivers drop duplicates, and an owner whose work is under way does nothing.
    """
    done = []
    if answer.lost_records:
        await client.log.publish(answer.lost_records)
        records = (
            "1 lost record" if len(answer.lost_records) == 1 else f"{len(answer.lost_records):,} lost records"
        )
        done.append(f"published {records} again")
    if answer.session_id is not None:
        silent_for = max(0.0, now - answer.last_at) if answer.last_at is not None else 0.0
        nudge = Nudge(run_id=answer.run_id, silent_for=silent_for)
        await client.log.publish([Outgoing(client.names.groups, answer.session_id, encode(nudge))])
        done.append("asked the session's owner to re-send pending offers and to read missing keys again")
    return done or ["nothing: no Agency has read the request yet"]


def document_of(answer: Answer) -> dict[str, Any]:
    """The document of `why --json`."""
    return {
        "run_id": answer.run_id,
        "request_id": answer.request_id,
        "session_id": answer.session_id,
        "status": answer.status,
        "ended_at": answer.ended_at,
        **({"reason": answer.reason} if answer.reason is not None else {}),
        "missing": [each.to_document() for each in answer.missing],
    }


def answer_of(document: Mapping[str, Any]) -> Answer:
    """Rebuild the answer from a document of `why --json`."""
    names = ("run_id", "status", "request_id", "session_id", "ended_at")
    missing = [Missing.of_document(each) for each in document["missing"]]
    return Answer(**{name: document[name] for name in names}, reason=document.get("reason"), missing=missing)
