"""Catalog of every message with its schema, and every topic with its messages: the source of the documents.

Data without logic. A test fails if a message class is missing here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from anabranch.core import names
from anabranch.core.request.definitions import DefinitionRequest
from anabranch.core.request.models import ControlRecord, Request
from anabranch.core.schedules.control import ScheduleControl
from anabranch.core.wire import results
from anabranch.core.wire.events import EventBatch
from anabranch.core.wire.messages import Message, OnGroups, OnRuns, OnTasks
from anabranch.runtime.process.topics import AUDIT_SECONDS, RETENTION_SECONDS
from contract import gateway, handwritten
from contract.schemas import Schema, accepted, inner, promised, stored, union_members

SCHEMA_FOLDER = "schemas"


@dataclass(frozen=True, slots=True)
class Published:
    """A schema and the path of its file below the contract's folder."""

    path: str
    build: Callable[[], Schema]


def kebab(name: str) -> str:
    """`RunAccepted` -> `run-accepted`."""
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
            _schema("Envelope", handwritten.envelope_schema),
            _schema("ControlRecord", partial(accepted, ControlRecord)),
            _schema("ScheduleControl", partial(accepted, ScheduleControl)),
            _schema("RequestHeaders", handwritten.request_headers_schema),
            _schema("CloudEventHeaders", handwritten.cloud_event_headers_schema),
            _schema("RunAccepted", partial(promised, results.RunAccepted)),
            _schema("RunRejected", partial(promised, results.RunRejected)),
            _schema("ResultPublished", partial(promised, results.ResultPublished)),
            _schema("RunFinal", partial(promised, results.RunFinal)),
            _schema("Reference", partial(promised, results.Reference)),
            _schema("EventBatch", partial(stored, EventBatch, "events")),
            _schema("Event", partial(promised, results.Event)),
            _schema("ChannelMessage", handwritten.channel_message_schema),
            _schema("DeadLetterHeaders", handwritten.dead_letter_headers_schema),
            _schema("AuditRecord", gateway.audit_record_schema),
            _schema("WebhookRecord", gateway.webhook_record_schema),
            _schema("DefinitionRequest", partial(accepted, DefinitionRequest)),
            _schema("DefinitionRecord", gateway.definition_record_schema),
        ]
    )
    | _inner_schemas()
)
"""Schemas by name. Messages in the AsyncAPI document have the same names."""

RESULT_MESSAGES: Mapping[str, tuple[str, str, str]] = {
    "run.accepted": ("RunAccepted", "RunAccepted", "The request is valid and its run has begun."),
    "run.rejected": ("RunRejected", "RunRejected", "The request was rejected; nothing was started."),
    "result.published": ("ResultPublished", "ResultPublished", "One result key has its final value."),
    "run.completed": ("RunCompleted", "RunFinal", "Every task completed; tolerated failures are possible."),
    "run.failed": ("RunFailed", "RunFinal", "A task failed; branches that do not depend on it have ended."),
    "run.cancelled": ("RunCancelled", "RunFinal", "The run was cancelled."),
    "run.timed_out": ("RunTimedOut", "RunFinal", "The run did not end within its timeout."),
}
"""`ce_type` -> name of the message, name of its schema, meaning."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic without its prefix. `receives` and `sends`: whether services read it, and write it."""

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
    """None: compacted, the last record of each key is kept."""


def _names(union: object) -> tuple[str, ...]:
    return tuple(each.__name__ for each in union_members(union))


TOPICS = (
    Topic(
        "requests",
        "Requests, also in the compatibility envelope, and control records. Read from the earliest offset.",
        "any; use the request id to keep a request and its control records in order",
        ("Request", "Envelope", "DefinitionRequest", "ControlRecord", "ScheduleControl"),
        writers="you",
        readers="agency",
        receives=True,
    ),
    Topic(
        "runs",
        "Commands and reports for the owner of the run's partition.",
        "run id; a claim has no key and is written to its partition",
        _names(OnRuns),
        writers="agency, taskgroup",
        readers="agency",
        receives=True,
        sends=True,
        public=False,
    ),
    Topic(
        "groups",
        "Commands and reports for the owner of the session's partition.",
        "session id; a claim has no key and is written to its partition",
        _names(OnGroups),
        writers="agency, taskgroup, eventmanager",
        readers="taskgroup",
        receives=True,
        sends=True,
        public=False,
    ),
    Topic(
        "tasks",
        "Offers of chunks of members, which any worker may claim.",
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
        "Lifecycle events in batches, and subscriptions to them.",
        "run id; subscriptions to a session have the session id and are written to every partition",
        ("EventBatch", "Subscription"),
        writers="agency, taskgroup",
        readers="eventmanager, you",
        receives=True,
        sends=True,
    ),
    Topic(
        "results",
        "Outcomes of requests: CloudEvents 1.0 in binary mode, delivered at least once.",
        "run id; for a rejected request its request id, if it has one",
        tuple(message for message, _, _ in RESULT_MESSAGES.values()),
        writers="agency, taskgroup",
        readers="you",
        sends=True,
    ),
    Topic(
        "dead-letters",
        "Failed members and records that could not be processed, with the reason in their headers.",
        "key of the original record",
        ("DeadLetter",),
        writers="agency, taskgroup, eventmanager, gateway",
        readers="you",
        sends=True,
    ),
    Topic(
        "audit",
        "Actions of callers of gateways, allowed and refused.",
        "project; empty if the action concerns no project",
        ("AuditRecord",),
        writers="gateway",
        readers="gateway, you",
        receives=True,
        sends=True,
        retention_seconds=AUDIT_SECONDS,
    ),
    Topic(
        "definitions",
        "Versions of definitions, which are started by name. Compacted; the first record of a version counts.",
        "project, name, version and hash of the content",
        ("DefinitionRecord",),
        writers="gateway, you",
        readers="agency, gateway, you",
        receives=True,
        sends=True,
        retention_seconds=None,
    ),
    Topic(
        "webhooks",
        "Subscriptions that were created through gateways, with their secrets. Compacted.",
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
