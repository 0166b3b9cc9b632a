"""The contract's index in Markdown: files, topics, kinds, codes and names that users' code depends on.

Texts that the code itself has (docstrings, constants) are taken from there; the others are here, and a test
sees that none is missing.
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
from contract.foreign import UNDECODABLE
from contract.schemas import wire_type

EVENT_TEXTS: Mapping[str, tuple[str, str]] = {
    "run.accepted": ("The run has begun.", "`name`, `labels`, `task_groups`, `tasks`; of a retry `retry_of`"),
    "run.paused": ("No further members start.", ""),
    "run.resumed": ("Members start again.", ""),
    "run.completed": ("The run has ended: completed.", "`status`, `executions`, `failure_count`"),
    "run.failed": ("The run has ended: failed.", "`status`, `executions`, `failure_count`"),
    "run.cancelled": ("The run has ended: cancelled.", "`status`, `executions`, `failure_count`"),
    "run.timed_out": ("The run has ended: timed out.", "`status`, `executions`, `failure_count`"),
    "group.started": ("A group is known to its owner; its tasks start as their dependencies come.", ""),
    "group.completed": ("Each task of the group completed.", ""),
    "group.failed": ("A task of the group failed or was skipped for another's failure.", ""),
    "group.cancelled": ("The group was stopped with its run.", ""),
    "group.timed_out": ("The group reached its own timeout or the run's.", ""),
    "task.waiting": (
        "For 5 s no worker that read the task had its agent. A later `task.started` ends the wait.",
        "`reason` (no_agent), `agent`",
    ),
    "task.expanded": ("The members of an expanded task are known.", "`count`"),
    "task.started": ("An attempt has begun. For each member.", "`worker`"),
    "task.completed": ("It gave all its result keys. For each member.", "of a retry `taken_over`: it did not run"),
    "task.failed": (
        "No further attempt follows. Sent for each member, or for the whole task.",
        "`error_type`, `message`, `traceback`",
    ),
    "task.retrying": (
        "An attempt failed and another follows. Sent for each member.",
        "`error_type`, `message`, `delay`, `traceback`",
    ),
    "task.skipped": ("It will not run: what it needs is absent, or its expansion is empty.", "`reason`"),
    "task.cancelled": ("It was stopped, by a cancellation or a timeout.", ""),
    "task.progress": ("What an agent reported. For each member.", "`fraction`, `note`"),
    "task.log": ("A line that an agent logged, INFO or above. For each member.", "`level`, `message`, `fields`"),
    "task.joined": (
        "All members of an expanded task have ended.",
        "`count`, `failed`, `status` (completed or failed), `message`",
    ),
}
"""Event type -> what it says, and which fields of its own it may have."""

_EXITS = (
    (exits.COMPLETED, "completed"),
    (exits.FAILED, "the run failed"),
    (exits.WRONG, "the request or the arguments are wrong"),
    (exits.STOPPED, "cancelled or timed out"),
    (exits.UNREACHABLE, "a server cannot be reached"),
)

_INTRODUCTION = f"""\
# The contract

What users' code may depend on. All of this but the examples is generated from the code by
`python -m contract --write docs/contract`, and `make check` sees that it is up to date.

* [asyncapi.yaml](asyncapi.yaml): topics and channels with their messages, keys and headers (AsyncAPI 3.0)
* `schemas/`: one JSON Schema (draft 2020-12) for each message
* `examples/`: one document of each kind, valid by its schema

Schemas of what you send are closed: an unknown field is refused, with its path. Schemas of what you receive
are open: new fields may come, none is renamed or removed, so ignore those that you do not know.

JSON Schema says what one document may look like. What a request means as a whole (a key that nobody
produces, a cycle, an unknown agent, a limit) is checked at its admission, and by `anabranch plan`.

Topic names start with a prefix, `{DEFAULT_PREFIX}` by default (`ANABRANCH_PREFIX`). It also starts the names of
the consumer groups, of the Faust application and of all private Redis keys, so that installations can share
servers.
"""

_REDIS = f"""\
A value of a session has one name, `{VALUE_CHANNEL}`, for its Redis key and its channel. The braces
are literal: they are a Redis Cluster hash tag. The key holds UTF-8 JSON: the value, or for a large one a
[reference](schemas/reference.json). The channel carries a [small message](schemas/channel-message.json) after
the key was written; a message is a wake-up and may be lost, the key is the data. To satisfy an external
dependency from outside, SET the key, then PUBLISH on the channel.

All other keys are private, start with the prefix and have a time to live.
"""

_WIRE = f"""\
The services' own protocol on the topics `runs`, `groups` and `tasks`. A record is one line of JSON, the header,
with `"v": {WIRE_VERSION}` and fields at their default left out. Where there is a payload, a newline and the
payload's segments follow; `segments` in the header says how many bytes each has. A reader ignores unknown fields
and dead-letters a record of another version.
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
    return _table(("topic", "what", "key", "written by", "read by"), rows) + f"\n{_whose(TOPICS)}\n"


def _whose(topics: Sequence[Topic]) -> str:
    internal = ", ".join(f"`{topic.name}`" for topic in topics if not topic.public)
    return f"{internal} are the services' own: write to none of them."


def _schemas() -> str:
    return _table(("schema", "what"), _schema_rows(f"{SCHEMAS[name].path}" for name in SCHEMAS))


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
        ("`ce_type`", "body", "what it says"), rows
    )


def _events() -> str:
    text = (
        "Every event has the fields of [Event](schemas/event.json), and of its own what the last column says. On "
        "the topic the events of one turn are one record, an [EventBatch](schemas/event-batch.json), where an "
        "entry may stand for many members; the API, the events file and forwarded events show them one by one.\n\n"
    )
    rows = ((f"`{kind}`", what, own) for kind, (what, own) in EVENT_TEXTS.items())
    return text + _table(("type", "what it says", "its own fields"), rows)


def _codes() -> str:
    notes = attribute_notes(Code)
    rows = [(f"`{code}`", notes[code.name]) for code in Code]
    text = (
        "Each error of a refused request is `{code, path, message, hint}`, with `path` a JSON Pointer into the "
        "document as it was sent. Branch on the code; the other texts may change.\n\n"
    )
    last = f"\nA dead letter that is no message at all has the code `{UNDECODABLE}` in `anabranch_code`.\n"
    return text + _table(("code", "meaning"), rows) + last


def _missing() -> str:
    text = (
        "What `anabranch why RUN` says of an open run. Each entry of `missing` has one of these as its `fact`. "
        "The list is closed.\n\n"
    )
    rows = ((f"`{fact}`", MEANINGS[fact].says, MEANINGS[fact].remedy) for fact in Fact)
    return text + _table(("fact", "the fact is missing because", "remedy"), rows)


def _consumer_groups() -> str:
    names = Names()
    groups = (
        (names.agency_requests, "agency", "requests"),
        (names.agency_runs, "agency", "runs"),
        (names.taskgroup_groups, "taskgroup", "groups"),
        (names.taskgroup_tasks, "taskgroup", "tasks"),
        (names.eventmanager, "eventmanager; also the Faust application's id", "events"),
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
    return _table(("`type`", "message", "topic", "what it says"), rows)


def _link(text: str, path: str) -> str:
    return f"[{text}]({path})"


def _first_sentence(text: str) -> str:
    sentence, stop, _ = text.partition(". ")
    return (sentence + stop).split("\n\n")[0].strip()
