"""Every metric, span and attribute by name: what dashboards and alerts may depend on. Pure.

The tables of docs/telemetry.md are generated from it, and tests hold dashboards and rules against it. A name that
is here stays; a metric that is not here cannot be counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Service = Literal["agency", "taskgroup", "eventmanager", "gateway"]

ALL: tuple[Service, ...] = ("agency", "taskgroup", "eventmanager", "gateway")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200)
LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_UNITS = {"s": "seconds"}


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric, the same where it is the same object.

    `unit` as UCUM writes it; what stands in braces is no unit but says what is counted.
    """

    name: str
    kind: Kind
    unit: str
    about: str
    labels: tuple[str, ...]
    services: tuple[Service, ...]
    buckets: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus' text, of a histogram without `_bucket`, `_count` or `_sum`."""
        parts = [self.name.replace(".", "_")]
        if self.unit in _UNITS:
            parts.append(_UNITS[self.unit])
        if self.kind == "counter":
            parts.append("total")
        return "_".join(parts)


# --- work ----------------------------------------------------------------------------------------

RUNS_ACCEPTED = Metric("anabranch.runs.accepted", "counter", "{run}", "Runs that were admitted.", (), ("agency",))
RUNS_ENDED = Metric(
    "anabranch.runs.ended", "counter", "{run}", "Runs that ended, by how.", ("status",), ("agency",)
)
RUN_DURATION = Metric(
    "anabranch.run.duration",
    "histogram",
    "s",
    "From the admission of a request until its final record is told.",
    ("status",),
    ("agency",),
    SECONDS,
)
RUNS_OPEN = Metric(
    "anabranch.runs.open", "gauge", "{run}", "Open runs whose session is owned here.", (), ("taskgroup",)
)
TASKS_ENDED = Metric(
    "anabranch.tasks.ended", "counter", "{task}", "Tasks that ended, by how.", ("status",), ("taskgroup",)
)
MEMBERS_ENDED = Metric(
    "anabranch.members.ended",
    "counter",
    "{member}",
    "Members that ended, by how: `completed` or `failed`. An ordinary task has one.",
    ("agent", "outcome"),
    ("taskgroup",),
)
ATTEMPTS = Metric(
    "anabranch.attempts",
    "counter",
    "{attempt}",
    "Calls of agents that ended: `completed`, `retried`, or `failed` for good.",
    ("agent", "outcome"),
    ("taskgroup",),
)
JOIN_LAG = Metric(
    "anabranch.join.lag",
    "histogram",
    "s",
    "From the record that ended a task's last member until the task's results are stored and told.",
    (),
    ("taskgroup",),
    LAGS,
)
BACKLOG = Metric(
    "anabranch.backlog",
    "gauge",
    "s",
    "Predicted work: members that have not ended, times the mean seconds of a member of their task as measured. "
    "Tasks of which nothing was measured yet are left out.",
    ("agent",),
    ("taskgroup",),
)
BACKLOG_MEMBERS = Metric(
    "anabranch.backlog.members",
    "gauge",
    "{member}",
    "Members of running tasks that have not ended.",
    ("agent",),
    ("taskgroup",),
)

# --- members on their way ------------------------------------------------------------------------

OFFERS = Metric(
    "anabranch.offers",
    "counter",
    "{offer}",
    "Chunks that were offered: `first`, or `again`; kept `here` by the owner's own worker, or sent to `tasks`.",
    ("delivery", "place"),
    ("taskgroup",),
)
CHUNKS_ENDED = Metric(
    "anabranch.chunks.ended",
    "counter",
    "{chunk}",
    "Chunks that came back: `done`, `returned` by a worker that could not run them, or `lost` with one.",
    ("outcome",),
    ("taskgroup",),
)
CHUNKS_HELD = Metric(
    "anabranch.chunks.held", "gauge", "{chunk}", "Chunks that this worker has claimed.", (), ("taskgroup",)
)
SLOTS_USED = Metric(
    "anabranch.slots.used", "gauge", "{slot}", "Slots of this worker in which members run.", (), ("taskgroup",)
)
SLOTS = Metric("anabranch.slots.size", "gauge", "{slot}", "Slots of this worker.", (), ("taskgroup",))
RECOVERED = Metric(
    "anabranch.notifications.recovered",
    "counter",
    "{notification}",
    "Values from outside that were found by reading again: the message on their channel was missed.",
    (),
    ("taskgroup",),
)
NUDGES = Metric(
    "anabranch.nudges",
    "counter",
    "{nudge}",
    "Owners of silent runs that were told to look again.",
    (),
    ("eventmanager",),
)

# --- log, store, partitions ----------------------------------------------------------------------

DEAD_LETTERS = Metric(
    "anabranch.dead_letters", "counter", "{record}", "Dead letters written, by code.", ("code",), ALL
)
RECORDS_PUBLISHED = Metric(
    "anabranch.records.published", "counter", "{record}", "Records appended to a topic.", ("topic",), ALL
)
LOG_FAILURES = Metric(
    "anabranch.log.failures", "counter", "{call}", "Calls of Kafka that failed, by call.", ("operation",), ALL
)
STORE_FAILURES = Metric(
    "anabranch.store.failures", "counter", "{call}", "Calls of Redis that failed, by call.", ("operation",), ALL
)
CLAIMS = Metric(
    "anabranch.claims",
    "counter",
    "{claim}",
    "Partitions that were taken over: at a start, a rebalance, or after a zombie's claim.",
    ("topic",),
    ("agency", "taskgroup"),
)
PARTITIONS = Metric(
    "anabranch.partitions.owned",
    "gauge",
    "{partition}",
    "Partitions that are owned here.",
    ("topic",),
    ("agency", "taskgroup"),
)
RECORDS_QUEUED = Metric(
    "anabranch.records.queued",
    "gauge",
    "{record}",
    "Records that were read and not decided about yet.",
    ("topic",),
    ("agency", "taskgroup"),
)

# --- the gateway ---------------------------------------------------------------------------------

GATEWAY_REQUESTS = Metric(
    "anabranch.gateway.requests",
    "counter",
    "{request}",
    "Answers over HTTP, by route (`POST /v1/runs`; `none` where there is no such route) and class of status.",
    ("route", "status"),
    ("gateway",),
)
GATEWAY_SECONDS = Metric(
    "anabranch.gateway.request.duration",
    "histogram",
    "s",
    "From a request to the beginning of its answer, also where the caller asked to wait for a run.",
    ("route",),
    ("gateway",),
    SECONDS,
)
GATEWAY_STREAMS = Metric(
    "anabranch.gateway.streams",
    "gauge",
    "{stream}",
    "Listeners to events that are connected, by `sse` or `websocket`.",
    ("kind",),
    ("gateway",),
)
GATEWAY_DELIVERIES = Metric(
    "anabranch.gateway.deliveries",
    "counter",
    "{delivery}",
    "Webhooks: `delivered`, `retried` for each attempt that is followed by another, or `dead_letter`.",
    ("outcome",),
    ("gateway",),
)

METRICS: tuple[Metric, ...] = (
    RUNS_ACCEPTED,
    RUNS_ENDED,
    RUN_DURATION,
    RUNS_OPEN,
    TASKS_ENDED,
    MEMBERS_ENDED,
    ATTEMPTS,
    JOIN_LAG,
    BACKLOG,
    BACKLOG_MEMBERS,
    OFFERS,
    CHUNKS_ENDED,
    CHUNKS_HELD,
    SLOTS_USED,
    SLOTS,
    RECOVERED,
    NUDGES,
    DEAD_LETTERS,
    RECORDS_PUBLISHED,
    LOG_FAILURES,
    STORE_FAILURES,
    CLAIMS,
    PARTITIONS,
    RECORDS_QUEUED,
    GATEWAY_REQUESTS,
    GATEWAY_SECONDS,
    GATEWAY_STREAMS,
    GATEWAY_DELIVERIES,
)

# --- spans ---------------------------------------------------------------------------------------

RUN_ID = "anabranch.run_id"
REQUEST_ID = "anabranch.request_id"
SESSION_ID = "anabranch.session_id"
RUN_NAME = "anabranch.run"
GROUP = "anabranch.group"
TASK = "anabranch.task"
MEMBER = "anabranch.member"
INDEX = "anabranch.index"
ATTEMPT = "anabranch.attempt"
AGENT = "anabranch.agent"
WORKER = "anabranch.worker"
STATUS = "anabranch.status"
MEMBERS = "anabranch.members"
COMPLETED = "anabranch.completed"
FAILED = "anabranch.failed"
SKIPPED = "anabranch.skipped"
SAMPLED_EVERY = "anabranch.sampled_every"
RETRY_OF = "anabranch.retry_of"
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION = "messaging.operation.type"
MESSAGING_DESTINATION = "messaging.destination.name"
MESSAGING_PARTITION = "messaging.destination.partition.id"
MESSAGING_OFFSET = "messaging.kafka.offset"
ERROR_TYPE = "error.type"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"

ATTRIBUTES: dict[str, str] = {
    RUN_ID: "id of the run",
    REQUEST_ID: "id of its request",
    SESSION_ID: "its session",
    RUN_NAME: "the request's `name`, where it has one",
    GROUP: "name of the group",
    TASK: "declared name of the task",
    MEMBER: "name of the member",
    INDEX: "the member's index from 0; absent without expansion",
    ATTEMPT: "number of the attempt, from 1",
    AGENT: "name of the agent",
    WORKER: "the worker's name, one for each life of a process",
    STATUS: "how it ended: completed, failed, skipped, cancelled, timed_out; of an attempt also retried",
    MEMBERS: "how many members it had; of a run executions",
    COMPLETED: "how many of them completed",
    FAILED: "how many failed",
    SKIPPED: "how many were skipped",
    SAMPLED_EVERY: "members whose index this divides have spans, beside those that failed",
    RETRY_OF: "the run that this one retries",
    MESSAGING_SYSTEM: "`kafka`",
    MESSAGING_OPERATION: "`process`",
    MESSAGING_DESTINATION: "the topic that the request came on",
    MESSAGING_PARTITION: "its partition",
    MESSAGING_OFFSET: "its offset",
    ERROR_TYPE: "type of the error, where one ended it",
}
"""Of spans; those without the prefix are OpenTelemetry's own."""

PLACE = (RUN_ID, SESSION_ID)
COUNTS = (MEMBERS, COMPLETED, FAILED)
REQUEST = (
    MESSAGING_SYSTEM,
    MESSAGING_OPERATION,
    MESSAGING_DESTINATION,
    MESSAGING_PARTITION,
    MESSAGING_OFFSET,
)


@dataclass(frozen=True, slots=True)
class SpanKind:
    """One kind of span: `prefix` and a name of the request make its name."""

    prefix: str
    about: str
    attributes: tuple[str, ...]
    by: str


SPANS: tuple[SpanKind, ...] = (
    SpanKind(
        "run",
        "From the admission of a request to its final record. Its parent is the producer's span.",
        (*PLACE, REQUEST_ID, RUN_NAME, STATUS, *COUNTS, SKIPPED, RETRY_OF, *REQUEST),
        "owner of the run",
    ),
    SpanKind(
        "group",
        "From its start to the end of its last task. Its parent is the run's span.",
        (*PLACE, GROUP, STATUS),
        "owner of the session",
    ),
    SpanKind(
        "task",
        "From when its dependencies were there to its join. Links: the tasks whose results it used, and its "
        "sampled members. Its parent is the group's span.",
        (*PLACE, GROUP, TASK, AGENT, STATUS, *COUNTS, SAMPLED_EVERY, ERROR_TYPE),
        "owner of the session",
    ),
    SpanKind(
        "member",
        "One attempt: the call of the agent. Its parent is the task's span; the agent's own spans are its "
        "children.",
        (*PLACE, GROUP, TASK, MEMBER, INDEX, ATTEMPT, AGENT, WORKER, STATUS, ERROR_TYPE),
        "worker",
    ),
)
