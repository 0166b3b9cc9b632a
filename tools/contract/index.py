"""The contract's index in Markdown: files, topics, types, codes and names that users' code depends on.

Texts come from docstrings and constants of the code where it has them. The others are here; a test fails if one is
missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from anabranch.cli import exits
from anabranch.core.errors import Code
from anabranch.core.names import DEFAULT_PREFIX, Names
from anabranch.core.reasons import MEANINGS, Fact
from anabranch.core.wire.codec import WIRE_VERSION
from contract.catalog import INNER_MESSAGES, RESULT_MESSAGES, SCHEMAS, TOPICS, VALUE_CHANNEL, Topic
from contract.docstrings import attribute_notes, markdown
from contract.handwritten import UNDECODABLE
from contract.schemas import wire_type

EVENT_TEXTS: Mapping[str, tuple[str, str]] = {
    "run.accepted": ("The run has begun.", "`name`, `labels`, `task_groups`, `tasks`; for a retry `retry_of`"),
    "run.scheduled": ("The run starts later.", "`not_before` in seconds since the epoch"),
    "run.queued": (
        "The run waits for its `concurrency` key before it starts.",
        "`key`; `position` in the queue, from 1; `because`: who holds the key",
    ),
    "run.started": ("A scheduled or queued run starts.", ""),
    "run.paused": ("No further members start.", "`by`, `reason` of the command"),
    "run.resumed": ("Members start again.", "`by`, `reason` of the command"),
    "run.compensating": ("The run did not complete, and its completed tasks are being undone.", ""),
    "run.completed": ("The run has ended: completed.", "`status`, `executions`, `failure_count`"),
    "run.failed": ("The run has ended: failed.", "`status`, `executions`, `failure_count`"),
    "run.cancelled": (
        "The run has ended: cancelled.",
        "`status`, `executions`, `failure_count`; `action`, `by`, `reason` of the command",
    ),
    "run.timed_out": ("The run has ended: timed out.", "`status`, `executions`, `failure_count`"),
    "group.started": ("The owner has opened the group; its tasks start when their dependencies are met.", ""),
    "group.completed": ("Each task of the group completed.", ""),
    "group.failed": ("A task of the group failed, or was skipped because another task failed.", ""),
    "group.cancelled": ("The group was stopped with its run.", ""),
    "group.timed_out": ("The group reached its own timeout or the run's.", ""),
    "task.waiting": (
        "A member of a task with `wait` waits. With `no_agent`: for 5 s, no live worker has had its agent; with "
        "`no_room`: for 60 s, none has offered what it requires. A later `task.started` ends such a wait.",
        "`reason` (time, condition, event, signal, approval, no_agent, no_room); `until`, `name`, `key`, "
        "`approval`; `agent`; `requires`, `lacks`",
    ),
    "task.expanded": ("The members of an expanded task are known.", "`count`"),
    "task.started": (
        "An attempt has begun. Sent for each member.",
        "`worker`; of a task that names a capability, the `agent` that runs it",
    ),
    "task.completed": (
        "All result keys have values. Sent for each member.",
        "for a retry `taken_over`: imported, did not run again; for a wait `ended_by` (time, condition, event, "
        "signal, approval, timeout), and `signal_id` or `event_id`; of an attempt that took a millisecond "
        "`cpu_seconds`, `peak_memory_bytes` (in an entry about several members `usage`: a pair of microseconds "
        "and bytes for each, or null)",
    ),
    "task.failed": (
        "No further attempt follows. Sent for each member, or for the whole task.",
        "`error_type`, `message`, `traceback`; `cpu_seconds`, `peak_memory_bytes`",
    ),
    "task.retrying": (
        "An attempt failed and another follows. Sent for each member.",
        "`error_type`, `message`, `delay`, `traceback`",
    ),
    "task.skipped": (
        "The task does not run; its keys are absent.",
        "`reason`: dependency, condition, branch, empty, wait; `because`: a text for people",
    ),
    "task.cancelled": ("The task was stopped by a cancellation or a timeout.", ""),
    "task.progress": ("An agent reported progress. Sent for each member.", "`fraction`, `note`"),
    "task.log": ("An agent logged a line, INFO or above. Sent for each member.", "`level`, `message`, `fields`"),
    "task.joined": (
        "All members of an expanded task have ended.",
        "`count`, `failed`, `status` (completed or failed), `message`",
    ),
    "signal.received": (
        "A signal has ended a wait, or is kept for the first wait for its name that opens.",
        "`name`, `signal_id`; `kept`: no wait has taken it",
    ),
    "signal.refused": (
        "A signal does not fit the schema of its wait, which stays open; or the run keeps too many.",
        "`name`, `signal_id`, `message`",
    ),
    "event.received": (
        "A member that waits for an event has one.",
        "`name`, `event_id`",
    ),
    "event.refused": (
        "The data of an event does not fit the schema of its wait, which stays open.",
        "`name`, `event_id`, `message`",
    ),
    "approval.decided": (
        "The decision of a person counts.",
        "`decision_id`, `decision`, `by`, `comment`, `ended`: the wait is over; `repeated`: the id was known",
    ),
    "approval.refused": (
        "The decision of a person does not count.",
        "`decision_id`, `decision`, `by`, `code` (not_found, not_waiting, decided, unknown_decision, form, "
        "not_assignee, requester), `message`, `stood`: the decision that counts; `errors` of the form",
    ),
    "iteration.started": (
        "A loop has begun an iteration. `task` is the loop, `iteration` ends with its number.",
        "",
    ),
    "iteration.completed": ("Each task of an iteration has ended, none of them badly.", "`started_at`"),
    "iteration.failed": ("Each task of an iteration has ended, and one of them failed.", "`started_at`"),
    "schedule.fired": (
        "A schedule has submitted the run `firing`. The run id of the record is the address of the schedule.",
        "`schedule`, `project`, `at` (logical time, RFC 3339), `source` (clock, trigger, backfill), `firing`",
    ),
    "schedule.missed": (
        "A firing did not become a run.",
        "`schedule`, `project`, `at`, `source`, `reason` (overlap, window, buffer, paused, limit); `until`: each "
        "firing from `at` to this time",
    ),
    "schedule.paused": ("A schedule fires no more.", "`schedule`, `project`, `by`, `reason`"),
    "schedule.resumed": ("A schedule fires again.", "`schedule`, `project`, `by`, `reason`"),
    "breaker.opened": (
        "The agent `agent` is not called. The run id of the record is the address of the breaker.",
        "`agent`, `project` (`*`); by failures: `passed` and `failed` attempts, `until` (when members try again, "
        "RFC 3339); by a person: `by`, `reason`",
    ),
    "breaker.closed": ("The agent `agent` is called again.", "`agent`, `project`; by a person: `by`, `reason`"),
}
"""Event type -> its meaning, and the fields that only this type has."""

_EXITS = (
    (exits.COMPLETED, "completed"),
    (exits.FAILED, "the run failed"),
    (exits.WRONG, "the request or the arguments are wrong"),
    (exits.STOPPED, "cancelled or timed out"),
    (exits.UNREACHABLE, "a server cannot be reached"),
)

_INTRODUCTION = f"""\
# The contract

The interface that users' code may depend on. Everything except the examples is generated from the code by
`python -m contract --write docs/contract`; `make check` fails if it is not up to date.

* [asyncapi.yaml](asyncapi.yaml): topics and channels with their messages, keys and headers (AsyncAPI 3.0)
* `schemas/`: one JSON Schema (draft 2020-12) for each message
* `examples/`: one valid document for each schema

Schemas of documents that you send are closed: an unknown field is refused, with its path. Schemas of documents
that you receive are open: later versions may add fields, but rename and remove none, so ignore unknown fields.

A JSON Schema describes the form of a document. The Agency, and `anabranch plan`, also check a request as a whole:
for keys that no task produces, cycles, unknown agents, and limits.

Topic names start with a prefix, `{DEFAULT_PREFIX}` by default (`ANABRANCH_PREFIX`). So do the names of consumer
groups, of the Faust application and of all private Redis keys, so that several installations can share servers.
"""

_REDIS = f"""\
The Redis key and the channel of a session's value have the same name, `{VALUE_CHANNEL}`. The braces are
literal: they are a Redis Cluster hash tag. The key holds UTF-8 JSON: the value, or for a large value a
[reference](schemas/reference.json). After the key is written, a [small message](schemas/channel-message.json) is
published on the channel. It only wakes subscribers and may be lost; the key has the data. To provide an external
dependency, SET the key, then PUBLISH on the channel.

All other keys are private, start with the prefix and have a time to live.
"""

_WIRE = f"""\
The protocol between services on the topics `runs`, `groups` and `tasks`. A record begins with a header, one line
of JSON, which has `"v": {WIRE_VERSION}` and omits fields with default values. If there is a payload, a newline and
the segments of the payload follow; `segments` in the header has their sizes in bytes. A reader ignores unknown
fields, and dead-letters a record of another version.
"""


def index_text() -> str:
    """The whole document."""
    sections = (
        _INTRODUCTION,
        _section("Topics", _topics()),
        _section("Schemas", _schemas()),
        _section("Results", _results()),
        _section("Lifecycle events", _events()),
        _section("Error codes", _codes()),
        _section("Missing facts", _missing()),
        _section("Exit codes", _table(("code", "meaning"), ((f"{code}", text) for code, text in _EXITS))),
        _section("Redis", _REDIS),
        _section("Consumer groups", _consumer_groups()),
        _section("Inner messages", f"{_WIRE}\n{_inner()}"),
    )
    return "\n".join(sections)


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _topics() -> str:
    rows = ((f"`{topic.name}`", topic.summary, topic.key, topic.writers, topic.readers) for topic in TOPICS)
    return _table(("topic", "content", "key", "written by", "read by"), rows) + f"\n{_internal(TOPICS)}\n"


def _internal(topics: Sequence[Topic]) -> str:
    internal = ", ".join(f"`{topic.name}`" for topic in topics if not topic.public)
    return f"{internal} are internal: do not write to them."


def _schemas() -> str:
    return _table(("schema", "content"), _schema_rows(f"{SCHEMAS[name].path}" for name in SCHEMAS))


def _schema_rows(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    wanted = {path for path in paths if "/inner/" not in path}
    for published in SCHEMAS.values():
        if published.path in wanted:
            schema = published.build()
            yield _link(schema["title"], published.path), _first_sentence(schema["description"])


def _results() -> str:
    rows = (
        (f"`{kind}`", _link(schema, SCHEMAS[schema].path), text)
        for kind, (_, schema, text) in RESULT_MESSAGES.items()
    )
    return "The header `ce_type` of a record on the topic `results` is one of:\n\n" + _table(
        ("`ce_type`", "body", "meaning"), rows
    )


def _events() -> str:
    text = (
        "Every event has the fields of [Event](schemas/event.json), and those in the last column. On the topic, "
        "the events of one turn are one record, an [EventBatch](schemas/event-batch.json), in which an entry may "
        "cover many members; the API, the events file and forwarded events have one event per member.\n\n"
    )
    rows = ((f"`{kind}`", meaning, own) for kind, (meaning, own) in EVENT_TEXTS.items())
    return text + _table(("type", "meaning", "own fields"), rows)


def _codes() -> str:
    notes = attribute_notes(Code)
    rows = [(f"`{code}`", notes[code.name]) for code in Code]
    text = (
        "Each error of a rejected request is `{code, path, message, hint}`; `path` is a JSON Pointer into the "
        "original document. Programs should depend on the code only; the texts may change.\n\n"
    )
    last = f"\nA dead letter that cannot be decoded as a message has `anabranch_code` `{UNDECODABLE}`.\n"
    return text + _table(("code", "meaning"), rows) + last


def _missing() -> str:
    text = (
        "Reasons why a run is open, as `anabranch why RUN` reports them: the `fact` of each entry of `missing`. "
        "The list is closed.\n\n"
    )
    rows = ((f"`{fact}`", MEANINGS[fact].says, MEANINGS[fact].remedy) for fact in Fact)
    return text + _table(("fact", "reason", "remedy"), rows)


def _consumer_groups() -> str:
    names = Names()
    groups = (
        (names.agency_requests, "agency", "requests"),
        (names.agency_runs, "agency", "runs"),
        (names.taskgroup_groups, "taskgroup", "groups"),
        (names.taskgroup_tasks, "taskgroup", "tasks"),
        (names.eventmanager, "eventmanager; also the id of the Faust application", "events"),
    )
    rows = ((f"`{group}`", service, f"`{topic}`") for group, service, topic in groups)
    return _table(("group", "service", "topic"), rows)


def _inner() -> str:
    topics: dict[str, list[str]] = {}
    for topic in TOPICS:
        for name in topic.messages:
            topics.setdefault(name, []).append(f"`{topic.name}`")
    rows = (
        (
            f"`{wire_type(each)}`",
            _link(each.__name__, SCHEMAS[each.__name__].path),
            ", ".join(topics[each.__name__]),
            _first_sentence(markdown(each.__doc__ or "")),
        )
        for each in INNER_MESSAGES
    )
    return _table(("`type`", "message", "topic", "meaning"), rows)


def _link(text: str, path: str) -> str:
    return f"[{text}]({path})"


def _first_sentence(text: str) -> str:
    sentence, stop, _ = text.partition(". ")
    return (sentence + stop).split("\n\n")[0].strip()
