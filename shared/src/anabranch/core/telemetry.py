"""Registry of all metrics, spans and attributes by name, on which dashboards and alerts may depend. Pure.

The tables of docs/telemetry.md are generated from it, and tests check dashboards and alert rules against it. Names
are never changed; only metrics of this registry can be recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Service = Literal["agency", "taskgroup", "eventmanager", "gateway"]

ALL: tuple[Service, ...] = ("agency", "taskgroup", "eventmanager", "gateway")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200)
"""Bounds of the buckets for durations of runs and HTTP requests."""
LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Bounds of the buckets for the lag of joins."""

_UNITS = {"s": "seconds"}


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric, compared by identity.

    `unit` is in the notation of UCUM; a text in braces is not a unit, but names what is counted.
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
        """Its name in Prometheus; for a histogram without `_bucket`, `_count` or `_sum`."""
        parts = [self.name.replace(".", "_")]
        if self.unit in _UNITS:
            parts.append(_UNITS[self.unit])
        if self.kind == "counter":
            parts.append("total")
        return "_".join(parts)


# --- work ----------------------------------------------------------------------------------------

RUNS_ACCEPTED = Metric("anabranch.runs.accepted", "counter", "{run}", "Runs that were admitted.", (), ("agency",))
RUNS_ENDED = Metric(
    "anabranch.runs.ended", "counter", "{run}", "Runs that ended, by status.", ("status",), ("agency",)
)
SCHEDULE_FIRED = Metric(
    "anabranch.schedule.fired", "counter", "{firing}", "Firings of schedules that became runs.", (), ("agency",)
)
SCHEDULE_MISSED = Metric(
    "anabranch.schedule.missed",
    "counter",
    "{firing}",
    "Firings of schedules that did not become runs, by reason.",
    ("reason",),
    ("agency",),
)
LIMITS_HELD = Metric(
    "anabranch.limits.held",
    "gauge",
    "{member}",
    "Members, or runs, that hold what this process has granted of limits that runs share, by kind: `concurrency`, "
    "`run_concurrency`, `breaker`.",
    ("kind",),
    ("agency",),
)
LIMITS_WAITING = Metric(
    "anabranch.limits.waiting",
    "gauge",
    "{member}",
    "Members, or runs, that have asked for a grant of such a limit and wait for it, by kind, also `rate`.",
    ("kind",),
    ("agency",),
)
BREAKERS = Metric(
    "anabranch.breakers",
    "gauge",
    "{breaker}",
    "Breakers of agents that are not closed, by state: `open` or `half_open`.",
    ("state",),
    ("agency",),
)
RUN_DURATION = Metric(
    "anabranch.run.duration",
    "histogram",
    "s",
    "Time from the admission of a request until its final record is published.",
    ("status",),
    ("agency",),
    SECONDS,
)
RUNS_OPEN = Metric(
    "anabranch.runs.open", "gauge", "{run}", "Open runs whose session this process owns.", (), ("taskgroup",)
)
TASKS_ENDED = Metric(
    "anabranch.tasks.ended", "counter", "{task}", "Tasks that ended, by status.", ("status",), ("taskgroup",)
)
MEMBERS_ENDED = Metric(
    "anabranch.members.ended",
    "counter",
    "{member}",
    "Members that ended: `completed` or `failed`. A task without an expansion has one.",
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
SPENT_USD = Metric(
    "anabranch.spent.usd",
    "counter",
    "{usd}",
    "Dollars that agents reported with `task.spend`, of attempts that ended.",
    ("agent",),
    ("taskgroup",),
)
SPENT_TOKENS = Metric(
    "anabranch.spent.tokens",
    "counter",
    "{token}",
    "Tokens that agents reported with `task.spend`, of attempts that ended.",
    ("agent",),
    ("taskgroup",),
)
CACHE_LOOKUPS = Metric(
    "anabranch.cache.lookups",
    "counter",
    "{member}",
    "Members that were looked up in the cache of results: `hit` if it had a value, else `miss`.",
    ("outcome",),
    ("taskgroup",),
)
JOIN_LAG = Metric(
    "anabranch.join.lag",
    "histogram",
    "s",
    "Time from the record that ended a task's last member until the task's results are stored and published.",
    (),
    ("taskgroup",),
    LAGS,
)
BACKLOG = Metric(
    "anabranch.backlog",
    "gauge",
    "s",
    "Predicted work: members that have not ended, times the measured mean duration of a member of their task. "
    "Tasks without a measured member are left out.",
    ("agent", "pool", "level"),
    ("taskgroup",),
)
BACKLOG_MEMBERS = Metric(
    "anabranch.backlog.members",
    "gauge",
    "{member}",
    "Members of running tasks that have not ended.",
    ("agent", "pool", "level"),
    ("taskgroup",),
)

# --- offers and workers --------------------------------------------------------------------------

OFFERS_WAITING = Metric(
    "anabranch.offers.waiting",
    "gauge",
    "{chunk}",
    "Chunks of the sessions of a process that no worker has begun: offered on the log, or held back by the owner.",
    ("pool", "level"),
    ("taskgroup",),
)
OFFERS = Metric(
    "anabranch.offers",
    "counter",
    "{offer}",
    "Chunks that were offered for the `first` time or `again`: to a worker `here`, in the owner's process, or to "
    "all workers on the topic `tasks`.",
    ("delivery", "place"),
    ("taskgroup",),
)
CHUNKS_ENDED = Metric(
    "anabranch.chunks.ended",
    "counter",
    "{chunk}",
    "Deliveries of chunks that ended: `done`, `returned` by a worker that could not run them, or `lost` with a "
    "worker that died.",
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
    "External values that were found by polling, because the message on their channel was lost.",
    (),
    ("taskgroup",),
)
NUDGES = Metric(
    "anabranch.nudges",
    "counter",
    "{nudge}",
    "Nudges: requests to the owners of silent runs to check what the runs wait for.",
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
    "anabranch.log.failures", "counter", "{call}", "Failed calls to Kafka, by operation.", ("operation",), ALL
)
STORE_FAILURES = Metric(
    "anabranch.store.failures", "counter", "{call}", "Failed calls to Redis, by operation.", ("operation",), ALL
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
    "Partitions that this process owns.",
    ("topic",),
    ("agency", "taskgroup"),
)
RECORDS_QUEUED = Metric(
    "anabranch.records.queued",
    "gauge",
    "{record}",
    "Records that were read and wait for their decision.",
    ("topic",),
    ("agency", "taskgroup"),
)

# --- the gateway ---------------------------------------------------------------------------------

GATEWAY_REQUESTS = Metric(
    "anabranch.gateway.requests",
    "counter",
    "{request}",
    "HTTP responses, by route (`POST /v1/runs`; `none` for an unknown route) and class of status.",
    ("route", "status"),
    ("gateway",),
)
GATEWAY_SECONDS = Metric(
    "anabranch.gateway.request.duration",
    "histogram",
    "s",
    "Time from a request to the beginning of its response, including the wait for a run that a caller asked for.",
    ("route",),
    ("gateway",),
    SECONDS,
)
GATEWAY_STREAMS = Metric(
    "anabranch.gateway.streams",
    "gauge",
    "{stream}",
    "Connected listeners to events, by kind: `sse` or `websocket`.",
    ("kind",),
    ("gateway",),
)
GATEWAY_DELIVERIES = Metric(
    "anabranch.gateway.deliveries",
    "counter",
    "{delivery}",
    "Webhook deliveries: `delivered`, `retried` for each attempt that another one follows, or `dead_letter`.",
    ("outcome",),
    ("gateway",),
)

METRICS: tuple[Metric, ...] = (
    RUNS_ACCEPTED,
    RUNS_ENDED,
    SCHEDULE_FIRED,
    SCHEDULE_MISSED,
    LIMITS_HELD,
    LIMITS_WAITING,
    BREAKERS,
    RUN_DURATION,
    RUNS_OPEN,
    TASKS_ENDED,
    MEMBERS_ENDED,
    ATTEMPTS,
    CACHE_LOOKUPS,
    SPENT_USD,
    SPENT_TOKENS,
    JOIN_LAG,
    BACKLOG,
    BACKLOG_MEMBERS,
    OFFERS_WAITING,
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
    RUN_NAME: "the request's `name`, if it has one",
    GROUP: "name of the group",
    TASK: "declared name of the task",
    MEMBER: "name of the member",
    INDEX: "the member's index from 0; absent without expansion",
    ATTEMPT: "number of the attempt, from 1",
    AGENT: "name of the agent",
    WORKER: "id of the worker's incarnation, a new one at each start of the process",
    STATUS: "how it ended: completed, failed, skipped, cancelled, timed_out; for an attempt also retried",
    MEMBERS: "number of its members; of a run, of all its tasks",
    COMPLETED: "number of completed members",
    FAILED: "number of failed members",
    SKIPPED: "number of skipped members",
    SAMPLED_EVERY: "sampling interval: members whose index it divides have spans, and those that failed",
    RETRY_OF: "the run that this one retries",
    MESSAGING_SYSTEM: "`kafka`",
    MESSAGING_OPERATION: "`process`",
    MESSAGING_DESTINATION: "topic of the request's record",
    MESSAGING_PARTITION: "its partition",
    MESSAGING_OFFSET: "its offset",
    ERROR_TYPE: "type of the error that ended it, if one did",
}
"""Attributes of spans; those without the prefix are defined by OpenTelemetry."""

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
    """One kind of span. Its name is `prefix` and a name from the request."""

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
        "From the time its dependencies had values to its join. Links: the tasks whose results it used, and its "
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
