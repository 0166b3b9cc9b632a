"""Every name on the servers: topics, consumer groups, Redis keys, channels and derived ids.

Names are built only here, so that two installations with different prefixes can share servers, and all keys of a
session are in one Redis Cluster slot. Also defines which names, keys and ids users may choose. No I/O, no state.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID, uuid5

from anabranch.core.lanes import DEFAULT_LANE, DEFAULT_POOL, Lane, lanes_of

DEFAULT_PREFIX = "anabranch."
MAX_LENGTH = 255

_RUNS = UUID("6f2d1f6c-4a53-5c0e-9a39-6f5f0d9a7f11")
"""The fixed namespace of run ids. If it changed, a repeated request id would start another run."""

_SESSION = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PLAIN_NAME = re.compile(r"[!-.0-~][ -.0-~]{0,254}").fullmatch
_PLAIN_KEY = re.compile(r"[!-z|~][ -z|~]{0,254}").fullmatch
"""Fast path for nearly every name: ASCII that is allowed as a whole."""
_JOINERS = "\u200c\u200d"
"""Zero-width (non-)joiners: format characters by category, but part of printed words and emoji."""


def name_problem(value: str) -> str | None:
    """Why ``value`` cannot name a request, group, task or agent; None if it can."""
    return None if _PLAIN_NAME(value) else _text_problem(value, "/")


CAPABILITY = "capability/"
"""The beginning of what a task names in place of an agent: any agent with the capability that follows. No name of
an agent has a slash."""


def capability_of(agent: str) -> str | None:
    """The capability that a task names in place of an agent; None if it names an agent."""
    return agent.removeprefix(CAPABILITY) if agent.startswith(CAPABILITY) else None


def agent_label(agent: str) -> str:
    """What a task needs, for people: an agent by its name, or any with a capability."""
    capability = capability_of(agent)
    return f"the agent {agent!r}" if capability is None else f"an agent with the capability {capability!r}"


def key_problem(value: str) -> str | None:
    """Why ``value`` cannot be a result or context key, or a request or run id; None if it can."""
    return None if _PLAIN_KEY(value) else _text_problem(value, "{}")


def session_id_problem(value: str) -> str | None:
    """Why ``value`` cannot be a session id; None if it can."""
    if _SESSION.fullmatch(value):
        return None
    return f"{_shown(value)} is not a session id: use 1 to 128 of the characters A-Z a-z 0-9 . _ ~ -"


def _text_problem(value: str, forbidden: str) -> str | None:
    is_plain = value.isprintable() and not any(char in value for char in forbidden)
    if is_plain and len(value) <= MAX_LENGTH and value.strip():
        return None
    if not value.strip():
        return "is empty"
    if len(value) > MAX_LENGTH:
        return f"{_shown(value)} has {len(value)} characters, the maximum is {MAX_LENGTH}"
    for char in value:
        if char in forbidden:
            return f"{_shown(value)} contains {char!r}, which is not allowed here"
        if not _is_printable(char):
            return f"{_shown(value)} contains {char!a}, which is not printable"
    return None


def _is_printable(char: str) -> bool:
    # For Python, the ASCII space is the only printable one; others, such as the no-break space, are allowed here.
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")


MAX_SEGMENTS = 32
"""Maximum segments of a dotted path that are looked up, so that a path of a million dots is not quadratic."""


def leading_keys(path: str) -> Iterator[str]:
    """The keys that a dotted path may name: the whole path, then each part that ends before a dot, longest
    first."""
    yield path
    leading = path.split(".", MAX_SEGMENTS)[:-1]
    for taken in range(len(leading), 0, -1):
        yield ".".join(leading[:taken])


def run_id_for(request_id: str) -> str:
    """The run id of a request id: a hash, so two readers of one request cannot start two runs."""
    return str(uuid5(_RUNS, request_id))


def request_id_for(topic: str, partition: int, offset: int) -> str:
    """The request id of a record without one: its position on the log, the same at each redelivery."""
    return f"{topic}:{partition}:{offset}"


def child_request_id(
    run_id: str, group: str, task: str, index: int, iteration: Sequence[int] = (), attempt: int = 1
) -> str:
    """The request id of a sub-run: ``<run id>/<group>/<task>/<index>``, in a loop with ``#<iteration>``, and from
    the second attempt on with ``@<attempt>``.

    Names that cannot be part of a request id, or are too long for one, are replaced by a hash.
    """
    suffix = f"{index}" + (f"#{'.'.join(map(str, iteration))}" if iteration else "")
    if attempt > 1:
        suffix += f"@{attempt}"
    request_id = f"{run_id}/{group}/{task}/{suffix}"
    if key_problem(request_id) is None:
        return request_id
    return f"{run_id}/{uuid5(_RUNS, f'{group}/{task}')}/{suffix}"


LOOP_OF_GROUP = "(loop)"
"""The task that repeats a whole group, or the first loop without a name in a list of steps."""
GROUP_OF_STEPS = "steps"
"""The group that a list of steps becomes."""


def path_in_loops(group: str, task: str, loops: Sequence[str], iteration: Sequence[int]) -> str:
    """The name of a task for people, with the iterations of the loops around it: ``writing[3]/draft``.

    A loop that repeats a whole group has the name of the group. Made names have no parentheses here.

    Args:
        loops: the names of these loops, the outermost first. If some are not known, the group stands for them.
        iteration: a number for each of them, from 0.
    """
    if not iteration:
        return task
    known = [LOOP_OF_GROUP] * (len(iteration) - len(loops)) + list(loops)
    shown = [
        group if loop == LOOP_OF_GROUP and group != GROUP_OF_STEPS else loop.removeprefix("(").removesuffix(")")
        for loop in known
    ]
    return "/".join([*(f"{loop}[{number}]" for loop, number in zip(shown, iteration, strict=True)), task])


def failures_key(run_id: str) -> str:
    """The key of a run's list of all failures, used if its final record cannot hold them."""
    return f"{run_id}.failures"


def session_key(session_id: str, key: str) -> str:
    """Public Redis key and channel of a result: ``session:{<session id>}:<key>``. The literal braces are the hash
    tag of Redis Cluster, which puts all keys of a session into one slot."""
    return f"session:{{{session_id}}}:{key}"


def chunk_name(group: str, task: str, chunk: int, fence: int) -> str:
    """The name of one delivery of a chunk within its run; each delivery is claimed separately."""
    return f"{group}/{task}/{chunk}.{fence}"


REQUESTED_BY = "anabranch-requested-by"
"""The header of a record with a request that names the person who submitted it."""


def outcome_name(group: str, task: str) -> str:
    """The key by which other tasks of the run wait for the end of a task. No user's key has braces."""
    return f"{{{group}/{task}}}"


def reference_address(session_id: str, key: str) -> str:
    """The address in a reference's field ``$anabranch``: ``<session id>/<key>``."""
    return f"{session_id}/{key}"


def split_reference(address: str) -> tuple[str, str]:
    """Session id and key of a reference's address, split at the first ``/``: a session id has none.

    Raises:
        ValueError: the address has no ``/``.
    """
    session_id, slash, key = address.partition("/")
    if not slash:
        raise ValueError(f"{address!r} is not a reference: <session id>/<key> is expected")
    return session_id, key


_SUFFIX = "suffix"
"""Key in the metadata of a field of `Names` that is the prefix and this suffix."""


def _built_once(suffix: str) -> Any:
    return field(init=False, repr=False, compare=False, metadata={_SUFFIX: suffix})


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one installation. All private keys start with the prefix and carry the session's hash tag.

    The names that depend on the prefix only are built once: some are read for each record.

    Raises:
        ValueError: the prefix cannot start a Kafka topic and a consumer group.
    """

    prefix: str = DEFAULT_PREFIX

    # Topics -----------------------------------------------------------------------------------------

    requests: str = _built_once("requests")
    runs: str = _built_once("runs")
    groups: str = _built_once("groups")
    events: str = _built_once("events")
    results: str = _built_once("results")
    dead_letters: str = _built_once("dead-letters")
    audit: str = _built_once("audit")
    """Audit log of the gateway's callers; key: project. Runs do not use it."""
    definitions: str = _built_once("definitions")
    """Definitions of requests; compacted, key: project, name, version and hash."""
    webhooks: str = _built_once("webhooks")
    """Webhook subscriptions of the gateway; compacted, key: subscription id."""

    # Consumer groups and the Faust application --------------------------------------------------------

    agency_requests: str = _built_once("agency-requests")
    agency_runs: str = _built_once("agency-runs")
    taskgroup_groups: str = _built_once("taskgroup-groups")
    taskgroup_tasks: str = _built_once("taskgroup-tasks")
    gateway_webhooks: str = _built_once("gateway-webhooks")
    task_steward: str = _built_once("task-steward")
    eventmanager: str = _built_once("eventmanager")
    """The Faust application's id, which is its consumer group and the stem of its changelog topics."""
    history: str = _built_once("history")
    """Consumer group of the projector of the history."""
    history_audit: str = _built_once("history-audit")
    """The same for the audit topic, which exists only with a gateway."""

    # Redis: one key or channel of the installation ----------------------------------------------------

    halt_channel: str = _built_once("halt")
    """Channel that wakes workers when a run has to stop; the stop flag has the reason."""
    work_channel: str = _built_once("work")
    """Channel that tells a worker which work outside of workers no open member needs; it stops that work."""
    pause_channel: str = _built_once("pause")
    """Channel that wakes workers when a run is paused (`+<run id>`) or resumed (`-<run id>`)."""
    subscriber_channels: str = _built_once("sub:")
    """Required prefix of channels for forwarded events. Channels of the system and of results do not have it."""
    run_list: str = _built_once("{list}:runs")
    """Sorted set: recent run ids by time, for ``list``."""
    schedule_list: str = _built_once("{list}:schedules")
    """Sorted set: the addresses of all schedules."""
    worker_list: str = _built_once("{workers}:live")
    """Sorted set: the ids of workers by their last heartbeat; those of dead workers are still in it."""

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(
                f"the prefix {self.prefix!r} cannot start a topic name: use up to 100 letters, digits, "
                "dots, dashes and underscores, the first a letter or digit"
            )
        for each in fields(self):
            if (suffix := each.metadata.get(_SUFFIX)) is not None:
                object.__setattr__(self, each.name, f"{self.prefix}{suffix}")

    def tasks(self, lane: Lane = DEFAULT_LANE) -> str:
        """The topic of the offers of one lane."""
        return f"{self.prefix}tasks{lane.suffix}"

    def tasks_group(self, lane: Lane = DEFAULT_LANE) -> str:
        """The consumer group of the workers on the topic of one lane. One group for all topics of a pool would be
        balanced over all of them together: a worker might get every partition of one topic."""
        return f"{self.taskgroup_tasks}{lane.suffix}"

    def topics_of_levels(self, pool: str = DEFAULT_POOL) -> tuple[str, ...]:
        """The topics of the offers of a pool: first that of the usual level, then those of the others."""
        return (self.tasks(Lane(pool)), *(self.tasks(lane) for lane in lanes_of(pool) if lane != Lane(pool)))

    @property
    def topics(self) -> tuple[str, ...]:
        """The seven topics of runs, in the order in which a run uses them."""
        return (
            self.requests,
            self.runs,
            self.groups,
            self.tasks(),
            self.events,
            self.results,
            self.dead_letters,
        )

    # Redis, private: one session, one slot -----------------------------------------------------------

    def value_manifest(self, session_id: str, run_id: str, key: str) -> str:
        """String: the manifest of a large value: the list of its pages, its count and its bytes."""
        return f"{self.prefix}{{{session_id}}}:value:{run_id}:{key}"

    def value_page(self, session_id: str, run_id: str, key: str, page: str | int) -> str:
        """String: one page of a large value."""
        return f"{self.prefix}{{{session_id}}}:page:{run_id}:{page}:{key}"

    def cached(self, key: str) -> str:
        """String: the value of a completed member, by its cache key, which is the hash tag."""
        return f"{self.prefix}{{{key}}}:cached"

    def context(self, session_id: str) -> str:
        """History: the changes of a session's shared context, see `versions`."""
        return f"{self.prefix}{{{session_id}}}:context"

    def fold(self, session_id: str, key: str, policy: str) -> str:
        """String: the contributions of a session's runs to a key with a policy."""
        return f"{self.prefix}{{{session_id}}}:fold:{policy}:{key}"

    def task_document(self, session_id: str, run_id: str, group: str, task: str) -> str:
        """String: the task document, fixed when the task became ready, for the workers of its chunks."""
        return f"{self.prefix}{{{session_id}}}:task:{run_id}:{group}/{task}"

    def chunk_items(self, session_id: str, run_id: str, chunk: str) -> str:
        """String: the items of an offer's members, if they are too large for the record."""
        return f"{self.prefix}{{{session_id}}}:items:{run_id}:{chunk}"

    def outcome(self, session_id: str, run_id: str, group: str = "", task: str = "") -> str:
        """String: the outcomes of a task's members in a run that did not complete, for a retry; without group and
        task, the values from outside that the run used."""
        return f"{self.prefix}{{{session_id}}}:outcome:{run_id}:{group}/{task}"

    def claim(self, session_id: str, run_id: str, chunk: str) -> str:
        """String: the worker incarnation that holds a delivery of a chunk; it expires unless it is renewed."""
        return f"{self.prefix}{{{session_id}}}:claim:{run_id}:{chunk}"

    def stop_flag(self, session_id: str, run_id: str) -> str:
        """String: the reason to stop the members of this run; workers read it between members."""
        return f"{self.prefix}{{{session_id}}}:stop:{run_id}"

    def pause_flag(self, session_id: str, run_id: str) -> str:
        """String: set while the run is paused; workers then start no further members of it."""
        return f"{self.prefix}{{{session_id}}}:pause:{run_id}"

    def fence(self, session_id: str) -> str:
        """String: the epoch of the session's owner, checked by each script on the session's keys."""
        return f"{self.prefix}{{{session_id}}}:fence"

    def run_fence(self, run_id: str) -> str:
        """String: the epoch of the run's owner, which need not be the owner of its session."""
        return f"{self.prefix}{{{run_id}}}:run-fence"

    def session_project(self, session_id: str) -> str:
        """String: the project that owns a session, set by the first request that names the session."""
        return f"{self.prefix}{{{session_id}}}:project"

    def view(self, session_id: str, run_id: str) -> str:
        """String: the view of a run for ``status`` and ``list``; see `wire.run_view`."""
        return f"{self.prefix}{{{session_id}}}:view:{run_id}"

    def worker(self, incarnation: str) -> str:
        """String with a short time to live, present while the worker lives. The worker's id is the hash tag."""
        return f"{self.prefix}{{{incarnation}}}:worker"

    def worker_card(self, incarnation: str) -> str:
        """String with a short time to live: what the worker announces about itself; see `wire.worker_card`."""
        return f"{self.prefix}{{{incarnation}}}:worker-card"

    def orphan_search(self, kind: str) -> str:
        """String with a short time to live: the worker that last looked for work of this kind without a member."""
        return f"{self.prefix}{{{kind}}}:orphan-search"

    def run_lookup(self, run_id: str) -> str:
        """String: the session id of a run. Not keyed by request id, because one may equal another run's id."""
        return f"{self.prefix}{{{run_id}}}:lookup"

    def tombstone(self, run_id: str) -> str:
        """String: the record of an admitted run; see `wire.run_record`."""
        return f"{self.prefix}{{{run_id}}}:run"

    def early(self, run_id: str, kind: str) -> str:
        """String: what arrived before its run, and its position: a `stop`, a `pause`, or `signals`."""
        return f"{self.prefix}{{{run_id}}}:early-{kind}"

    def event_seen(self, address: str, event_id: str) -> str:
        """String: position and time of the first publication of an event, for as long as its id counts."""
        return f"{self.prefix}{{{address}}}:event-id:{event_id}"

    def schedule(self, address: str) -> str:
        """String: the view of a schedule; see `core.schedules.views`."""
        return f"{self.prefix}{{{address}}}:schedule"

    def in_session(self, run_id: str) -> str:
        """String: the session owner's record of a run that is not open there: it ended, or has to stop."""
        return f"{self.prefix}{{{run_id}}}:session-run"

    def deciding(self, topic: str, partition: int, generation: int) -> str:
        """String: the record that a new owner of a partition is deciding about, to detect poison records, and
        those that were detected."""
        # Generation 0 has no suffix: releases before generations existed wrote this key.
        life = f":{generation}" if generation else ""
        return f"{self.prefix}{{{topic}}}:deciding:{partition}{life}"

    def log_life(self, topic: str, generation: int) -> str:
        """String: the id of a topic in this generation of its log."""
        return f"{self.prefix}{{{topic}}}:life:{generation}"

    def loss_mark_since(self, topic: str, partition: int) -> str:
        """String: set before an owner writes everything that a partition's records have in the store; `loss_mark`
        follows."""
        return f"{self.prefix}{{{topic}}}:kept-since:{partition}"

    def loss_mark(self, topic: str, partition: int) -> str:
        """String: set when the store has everything that a partition's records put there; missing after a data
        loss."""
        return f"{self.prefix}{{{topic}}}:kept:{partition}"

    def subscriber_channel_problem(self, channel: str) -> str | None:
        """Why events cannot be forwarded to a channel; None if they can."""
        if not channel.startswith(self.subscriber_channels) or channel == self.subscriber_channels:
            return f"{_shown(channel)} does not begin with {self.subscriber_channels!r} and a name of its own"
        return _text_problem(channel, "{}")
