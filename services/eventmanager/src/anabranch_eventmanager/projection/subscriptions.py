"""Documents of subscriptions, and the messages that a batch of events causes on Redis channels.

A message is one event as JSON, with `seq`. Delivery is at most once: a disconnected subscriber misses messages. A
client that must not miss any reads the events topic or the run's result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from anabranch.core.json_documents import dumps
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.events import EventBatch, EventEntry, explode, is_wanted
from anabranch_eventmanager.projection.documents import Document, Documents
from anabranch_eventmanager.projection.records import Subscribe, Unsubscribe

Channels: TypeAlias = Mapping[str, Sequence[str]]
"""Channel -> types of the events to forward; empty for all types."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Publish one event on a Redis channel."""

    channel: str
    payload: bytes


def run_subscriptions_key(run_id: str) -> str:
    """Key of the subscriptions to one run."""
    return f"subscriptions/run/{run_id}"


def session_subscriptions_key(session_id: str) -> str:
    """Key of the subscriptions to all runs of a session."""
    return f"subscriptions/session/{session_id}"


def subscription_key(record: Subscribe | Unsubscribe) -> str:
    """Key of the document that a record changes."""
    run_id = record.run()
    return run_subscriptions_key(run_id) if run_id else session_subscriptions_key(record.session_id or "")


def with_subscription(known: Document | None, record: Subscribe | Unsubscribe, at: float) -> Document:
    """The document under `subscription_key` after a subscription or its end. `at`: the record's time, the start of
    its retention.

    Each project has its own channels for a run or session, so a project cannot change or end subscriptions of
    another one.
    """
    document: Document = dict(known) if known is not None else {"channels": {}, "at": at}
    document["at"] = max(document["at"], at)
    project = record.project or DEFAULT_PROJECT
    channels = _changed(_channels_of(document, project), record)
    if project == DEFAULT_PROJECT:
        document["channels"] = channels
    else:
        document["projects"] = {**document.get("projects", {}), project: channels}
    return document


def _changed(channels: Channels, record: Subscribe | Unsubscribe) -> Channels:
    if isinstance(record, Subscribe):
        return {**channels, record.channel: list(record.types)}
    if record.channel is None:
        return {}
    return {channel: types for channel, types in channels.items() if channel != record.channel}


def _channels_of(document: Document, project: str) -> Channels:
    """The channels of one project. Those of the default project are in the field that held all channels before
    projects existed."""
    by_project: Mapping[str, Channels] = {**document.get("projects", {}), DEFAULT_PROJECT: document["channels"]}
    return by_project.get(project, {})


def forwards(
    documents: Documents,
    batch: EventBatch,
    entries: Iterable[tuple[EventEntry, int]],
    project: str | None,
    prefix: str,
) -> Iterator[Forward]:
    """The messages of a batch for subscribers, in order.

    Args:
        entries: each with the `seq` of its first event.
        project: of the run, from its events; None if not known: then nothing is forwarded.
        prefix: required prefix of channels; nothing is forwarded to any other channel.
    """
    channels = [] if project is None else _channels(documents, batch, project, prefix)
    if not channels:
        return
    for entry, first in entries:
        wanted = [channel for channel, types in channels if is_wanted(entry.type, types)]
        if wanted:
            yield from _forward(batch, entry, first, wanted)


def _channels(
    documents: Documents, batch: EventBatch, project: str, prefix: str
) -> list[tuple[str, Sequence[str]]]:
    """The channels of the run's project with their filters. A channel subscribed to both the run and its session
    gets the union of both filters, each event once."""
    merged: dict[str, Sequence[str]] = {}
    for key in (run_subscriptions_key(batch.run_id), session_subscriptions_key(batch.session_id)):
        document = documents.get(key)
        for channel, types in _channels_of(document, project).items() if document is not None else ():
            # The prefix keeps a subscription from publishing into channels that the system itself uses.
            if channel.startswith(prefix):
                known = merged.get(channel, types)
                # An empty filter matches all types, and so does its union with any other.
                merged[channel] = [*known, *types] if known and types else ()
    return list(merged.items())


def _forward(batch: EventBatch, entry: EventEntry, first: int, channels: Sequence[str]) -> Iterator[Forward]:
    for seq, event in enumerate(explode(batch, entry), start=first):
        payload = dumps({"type": event.pop("type"), "time": rfc3339(event.pop("time")), "seq": seq, **event})
        for channel in channels:
            yield Forward(channel, payload)
