"""Every message with its schema, and every topic with its messages: what the generated documents are made of.

A list to read, no logic. A message class that is missing here is found by a test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from anabranch.core import names
from anabranch.core.request.models import ControlRecord, Request
from anabranch.core.wire import results
from anabranch.core.wire.events import EventBatch
from anabranch.core.wire.messages import Message, OnGroups, OnRuns, OnTasks
from anabranch.runtime.process.topics import AUDIT_SECONDS, RETENTION_SECONDS
from contract import foreign, gateway
from contract.schemas import Schema, accepted, inner, promised, stored, union_members

SCHEMA_FOLDER = "schemas"


@dataclass(frozen=True, slots=True)
class Published:
    """A schema and the path of its file below the contract's folder."""

    path: str
    build: Callable[[], Schema]


def kebab(name: str) -> str:
    """``RunAccepted`` -> ``run-accepted``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


INNER_MESSAGES: tuple[type[Message], ...] = tuple(
    dict.fromkeys((*union_members(OnRuns), *union_members(OnGroups), OnTasks))
)


def _schema(name: str, build: Callable[[], Schema]) -> tuple[str, Published]:
    return name, Published(f"{SCHEMA_FOLDER}/{kebab(name)}.json", build)


def _inner_schemas() -> dict[str, Published]:
    return {
        each.__name__: Published(f"{SCHEMA_FOLDER}/inner/{kebab(each.__name__)}.json", partial(inner, each))
        for each in INNER_MESSAGES
    }


SCHEMAS: Mapping[str, Published] = (
    dict(
        [
            _schema("Request", partial(accepted, Request)),
            _schema("Envelope", foreign.envelope_schema),
            _schema("ControlRecord", partial(accepted, ControlRecord)),
            _schema("RequestHeaders", foreign.request_headers_schema),
            _schema("CloudEventHeaders", foreign.cloud_event_headers_schema),
            _schema("RunAccepted", partial(promised, results.RunAccepted)),
            _schema("RunRejected", partial(promised, results.RunRejected)),
            _schema("ResultPublished", partial(promised, results.ResultPublished)),
            _schema("RunFinal", partial(promised, results.RunFinal)),
            _schema("Reference", partial(promised, results.Reference)),
            _schema("EventBatch", partial(stored, EventBatch, "events")),
            _schema("Event", partial(promised, results.Event)),
            _schema("ChannelMessage", foreign.channel_message_schema),
            _schema("DeadLetterHeaders", foreign.dead_letter_headers_schema),
            _schema("AuditRecord", gateway.audit_record_schema),
            _schema("WebhookRecord", gateway.webhook_record_schema),
        ]
    )
    | _inner_schemas()
)
"""Name -> schema. The names are those of the messages in the AsyncAPI document, too."""

RESULT_MESSAGES: Mapping[str, tuple[str, str, str]] = {
    "run.accepted": ("RunAccepted", "RunAccepted", "The request is valid and its run has begun."),
    "run.rejected": ("RunRejected", "RunRejected", "The request was refused; nothing was started."),
    "result.published": ("ResultPublished", "ResultPublished", "One result key has its final value."),
    "run.completed": ("RunCompleted", "RunFinal", "Every task completed, or failed within what it tolerates."),
    "run.failed": ("RunFailed", "RunFinal", "A task failed; the other branches went on to their end."),
    "run.cancelled": ("RunCancelled", "RunFinal", "Somebody cancelled the run."),
    "run.timed_out": ("RunTimedOut", "RunFinal", "The run was not done within its timeout."),
}
"""``ce_type`` -> name of the message, name of its schema, what it says."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic without its prefix. ``receives`` and ``sends``: whether the services read and write it."""

    name: str
    summary: str
    key: str
    messages: tuple[str, ...]
    writers: str
    readers: str
    receives: bool = False
    sends: bool = False
    public: bool = True
    retention_seconds: int | None = RETENTION_SECONDS
    """None: the last record of each key stays."""


def _names(union: object) -> tuple[str, ...]:
    return tuple(each.__name__ for each in union_members(union))


TOPICS = (
    Topic(
        "requests",
        "Requests, in the compatibility envelope or without, and control records. Read from the earliest offset.",
        "any; the request id, where there is one, keeps a request and its control records in order",
        ("Request", "Envelope", "ControlRecord"),
        writers="you",
        readers="agency",
        receives=True,
    ),
    Topic(
        "runs",
        "Commands and facts of runs, for the owner of each run's partition.",
        "run id; none on a claim, which is written to its partition",
        _names(OnRuns),
        writers="agency, taskgroup",
        readers="agency",
        receives=True,
        sends=True,
        public=False,
    ),
    Topic(
        "groups",
        "Commands and facts of task groups, for the owner of each session's partition.",
        "session id; none on a claim, which is written to its partition",
        _names(OnGroups),
        writers="agency, taskgroup, eventmanager",
        readers="taskgroup",
        receives=True,
        sends=True,
        public=False,
    ),
    Topic(
        "tasks",
        "Chunks of members that any worker may claim.",
        "none: round robin",
        ("Offer",),
        writers="taskgroup",
        readers="taskgroup",
        receives=True,
        sends=True,
        public=False,
    ),
    Topic(
        "events",
        "Lifecycle events, in batches; and subscriptions, for whoever forwards events.",
        "run id; the session id on a session's subscription, which comes once to every partition",
        ("EventBatch", "Subscription"),
        writers="agency, taskgroup",
        readers="eventmanager, you",
        receives=True,
        sends=True,
    ),
    Topic(
        "results",
        "What became of each request: CloudEvents 1.0 in binary mode, delivered at least once.",
        "run id; of a rejected request its request id, or none",
        tuple(message for message, _, _ in RESULT_MESSAGES.values()),
        writers="agency, taskgroup",
        readers="you",
        sends=True,
    ),
    Topic(
        "dead-letters",
        "Records that could not be handled, with the reason in their headers.",
        "the original's",
        ("DeadLetter",),
        writers="agency, taskgroup, eventmanager, gateway",
        readers="you",
        sends=True,
    ),
    Topic(
        "audit",
        "What callers of gateways did, and what they were refused.",
        "project; empty where it is about none",
        ("AuditRecord",),
        writers="gateway",
        readers="gateway, you",
        receives=True,
        sends=True,
        retention_seconds=AUDIT_SECONDS,
    ),
    Topic(
        "webhooks",
        "Subscriptions made at gateways, with their secrets. Compacted.",
        "id of the subscription",
        ("WebhookRecord",),
        writers="gateway",
        readers="gateway",
        receives=True,
        sends=True,
        public=False,
        retention_seconds=None,
    ),
)

VALUE_CHANNEL = names.session_key("<session id>", "<result key>")
"""The name of a value in Redis and of its channel."""
