"""Reasons why a run is still open, as a closed list, and one entry of the answer of `why`.

A fact is a record that the log does not hold yet: the outcome of members, the value of a key, the end of a group.
Each entry gives the one reason why its fact is missing. Pure: `operations.why` collects the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from anabranch.core.ranges import Ranges

Spans = tuple[tuple[int, int], ...]
"""Disjoint ascending [start, stop) pairs of member indexes."""

SHOWN_RANGES = 100
"""Maximum number of member ranges that one entry lists; its `count` covers all of them."""


class Fact(StrEnum):
    """Why a fact is missing. The list is closed: a new reason is a new version of the contract."""

    NOT_ADMITTED = "not_admitted"
    NO_OWNER = "no_owner"
    BEHIND_LAG = "behind_lag"
    NEVER_PRODUCED = "never_produced"
    NOT_ANNOUNCED = "not_announced"
    DEAD_LETTERED = "dead_lettered"
    PAUSED = "paused"
    HELD = "held"
    NO_AGENT = "no_agent"
    NO_ROOM = "no_room"
    OFFERED = "offered"
    CLAIMED = "claimed"
    WAITS_FOR_RETRY = "waits_for_retry"
    WAITS_FOR_ROOM = "waits_for_room"
    WAITS_FOR_LIMIT = "waits_for_limit"
    WAITS_FOR_BUDGET = "waits_for_budget"
    WAITS_FOR_VALUE = "waits_for_value"
    WAITS_FOR_EXTERNAL_KEY = "waits_for_external_key"
    WAITS_FOR_RUN = "waits_for_run"
    WAITS_FOR_KEY = "waits_for_key"
    WAITS_FOR_TASK = "waits_for_task"
    WAITS_FOR_FIELD = "waits_for_field"
    WAITS_FOR_GROUPS = "waits_for_groups"
    WAITS_FOR_TIME = "waits_for_time"
    WAITS_FOR_CONDITION = "waits_for_condition"
    WAITS_FOR_EVENT = "waits_for_event"
    WAITS_FOR_SIGNAL = "waits_for_signal"
    WAITS_FOR_DECISION = "waits_for_decision"
    WAITS_FOR_ITERATION = "waits_for_iteration"
    IN_ITERATION = "in_iteration"


@dataclass(frozen=True, slots=True)
class Meaning:
    """Explanation of a reason for people, and what to do about it."""

    says: str
    remedy: str


MEANINGS: Mapping[Fact, Meaning] = {
    Fact.NOT_ADMITTED: Meaning(
        "the request is on the log, but no Agency has admitted it yet",
        "start an Agency, or wait until it has caught up",
    ),
    Fact.NO_OWNER: Meaning(
        "no process owns the partition that has to be read next",
        "start the service that reads the topic: agency for requests and runs, taskgroup for groups and tasks, "
        "with --pool NAME for the tasks of a pool",
    ),
    Fact.BEHIND_LAG: Meaning(
        "the record is on the log, behind a backlog of records that its reader has not processed yet",
        "wait, or start more processes of the service that reads the topic; check /livez of the partition's owner",
    ),
    Fact.NEVER_PRODUCED: Meaning(
        "the record that it needs is not on the log, and no pending work will produce it",
        "run: anabranch why RUN --heal; if that does not help, cancel the run and submit it again",
    ),
    Fact.NOT_ANNOUNCED: Meaning(
        "the outcome is decided and stored, but the record that announces it has not been published",
        "wait for the owner to publish it again, or run: anabranch why RUN --heal",
    ),
    Fact.DEAD_LETTERED: Meaning(
        "a record of the run could not be processed and is a dead letter",
        "see the reason with: anabranch dlq list; the run continues without the record",
    ),
    Fact.PAUSED: Meaning("the run is paused: no further members start", "run: anabranch resume RUN"),
    Fact.HELD: Meaning(
        "the members failed, and `on_failure: hold` holds them until they are redriven or dismissed",
        "run: anabranch dlq redrive, or: anabranch dlq dismiss; the timeout ends the wait",
    ),
    Fact.NO_AGENT: Meaning(
        "workers returned the members because they have not loaded the agent",
        "start a worker with: anabranch taskgroup --agents MODULE, the module that defines the agent",
    ),
    Fact.NO_ROOM: Meaning(
        "no live worker offers what the members require",
        "start a worker that does, with: anabranch taskgroup --offers cpu=4,memory=8Gi,labels=ssd",
    ),
    Fact.OFFERED: Meaning(
        "the members were offered, but no worker has claimed them",
        "start workers, or raise --concurrency; unclaimed members are offered again automatically",
    ),
    Fact.CLAIMED: Meaning(
        "a worker has claimed the members and has not reported their outcome yet",
        "wait; if the worker has died, the owner offers the members to other workers within 8 s",
    ),
    Fact.WAITS_FOR_RETRY: Meaning("the last attempt failed, and the next one is not due yet", "wait"),
    Fact.WAITS_FOR_ROOM: Meaning(
        "the task's max_concurrency, or the limit of open offers, is reached",
        "wait until earlier members have ended, or raise max_concurrency",
    ),
    Fact.WAITS_FOR_LIMIT: Meaning(
        "a limit that runs share has no room for the members yet",
        "wait, or raise the limit; see who holds it and who waits with: anabranch limits",
    ),
    Fact.WAITS_FOR_BUDGET: Meaning(
        "what is left of a budget is reserved for members that are under way",
        "wait until these have ended: what they do not use is given back, and the task fails if it is not enough",
    ),
    Fact.WAITS_FOR_VALUE: Meaning(
        "another member of the run with the same cache key computes the value",
        "wait: the members get its value, or the next of them runs if it fails",
    ),
    Fact.WAITS_FOR_EXTERNAL_KEY: Meaning(
        "an external system has to SET the key in Redis, and has not done so",
        "SET the key and PUBLISH on the channel of the same name; the timeout of the run ends the wait",
    ),
    Fact.WAITS_FOR_RUN: Meaning(
        "a sub-run has not ended",
        "run: anabranch why RUN, with the id of the sub-run",
    ),
    Fact.WAITS_FOR_KEY: Meaning(
        "another task of the run has to produce the key, and has not ended",
        "check the task that produces it, which is listed above",
    ),
    Fact.WAITS_FOR_TASK: Meaning(
        "another task of the run has to end first: the task is after it, or belongs to one of its cases",
        "check the task that it waits for, which is listed above",
    ),
    Fact.WAITS_FOR_GROUPS: Meaning(
        "the task is in `finally`: it runs once all other groups of the run have ended, and all compensations",
        "check the tasks that have not ended, which are listed as well",
    ),
    Fact.WAITS_FOR_FIELD: Meaning(
        "the condition of the task reads the key, and the task that produces the key has not ended",
        "check the task that produces it, which is listed above",
    ),
    Fact.WAITS_FOR_TIME: Meaning("the task waits for a time", "wait until then, or cancel the run"),
    Fact.WAITS_FOR_CONDITION: Meaning(
        "the task waits until its condition is true, and no value that it reads has changed since",
        "set a key that the condition reads by a task of the session",
    ),
    Fact.WAITS_FOR_EVENT: Meaning(
        "the task waits for an event of this name and key, and none was published",
        "run: anabranch publish NAME KEY [JSON]",
    ),
    Fact.WAITS_FOR_SIGNAL: Meaning(
        "the task waits for a signal of this name to the run", "run: anabranch signal RUN NAME [JSON]"
    ),
    Fact.WAITS_FOR_DECISION: Meaning(
        "the task waits for the decision of a person",
        "run: anabranch approve RUN TASK, or: anabranch reject RUN TASK",
    ),
    Fact.WAITS_FOR_ITERATION: Meaning("the delay before the next iteration of the loop is not over", "wait"),
    Fact.IN_ITERATION: Meaning(
        "tasks of the loop's running iteration have not ended", "check these tasks, which are listed too"
    ),
}


@dataclass(frozen=True, slots=True)
class Missing:
    """One missing fact, or the same fact of several members of a task.

    Attributes:
        group, task: group and task of the fact; None if it concerns the whole run (or the whole group).
        members: indexes of the members; None if the task is not expanded, or the fact concerns the whole task.
        key: result or context key that is missing; the name of a signal; the correlation key of an event.
        name: the name of an event.
        since: time of the record from which on the fact was missing, in seconds since the epoch.
        topic, partition, offset: position of the record, or the position where the next one is expected.
        lag: number of records between the committed offset and the end of the partition.
        worker, alive: worker that claimed the members, and whether its liveness key is present.
        attempt: number of the running or next attempt, from 1.
        until: time at which the wait ends without intervention, in seconds since the epoch.
        detail: further explanation for people.
    """

    fact: Fact
    group: str | None = None
    task: str | None = None
    members: Spans | None = None
    key: str | None = None
    name: str | None = None
    since: float | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    lag: int | None = None
    worker: str | None = None
    alive: bool | None = None
    attempt: int | None = None
    until: float | None = None
    detail: str | None = None

    def to_document(self) -> dict[str, Any]:
        """The entry for `why --json`: one member has `index`; several members have `indexes` and `count`."""
        count = self.count
        single = self.members[0][0] if self.members and count == 1 else None
        document: dict[str, Any] = {
            "group": self.group,
            "task": self.task,
            "index": single,
            "key": self.key,
            "fact": str(self.fact),
            "since": self.since,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "worker": self.worker,
            "attempt": self.attempt,
        }
        if self.members and count > 1:
            document |= {"indexes": shown(self.members), "count": count}
        extra = {
            "name": self.name,
            "lag": self.lag,
            "alive": self.alive,
            "until": self.until,
            "detail": self.detail,
        }
        document |= {name: value for name, value in extra.items() if value is not None}
        return document | {"remedy": MEANINGS[self.fact].remedy}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Missing:
        """Rebuild the entry from its document, which lists at most SHOWN_RANGES member ranges."""
        same = ("group", "task", "key", "since", "topic", "partition", "offset", "worker", "attempt")
        given = {name: document.get(name) for name in (*same, "name", "lag", "alive", "until", "detail")}
        return cls(Fact(document["fact"]), members=_members(document), **given)

    @property
    def count(self) -> int:
        """Number of members that the entry covers; 1 if it names no members."""
        return sum(stop - start for start, stop in self.members) if self.members else 1


def _members(document: Mapping[str, Any]) -> Spans | None:
    if (index := document.get("index")) is not None:
        return ((index, index + 1),)
    if (text := document.get("indexes")) is None:
        return None
    ranges = [each.split("-") for each in text.removesuffix(",...").split(",")]
    return tuple((int(each[0]), int(each[-1]) + 1) for each in ranges)


def shown(spans: Spans) -> str:
    """Formats ranges with both ends included, such as `0-499,600`; `...` replaces those after SHOWN_RANGES."""
    texts = [str(start) if stop - start == 1 else f"{start}-{stop - 1}" for start, stop in spans[:SHOWN_RANGES]]
    return ",".join(texts if len(spans) <= SHOWN_RANGES else [*texts, "..."])


def merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Sorts spans and joins adjacent ones."""
    return tuple(Ranges(sorted(spans)))


def aggregated(entries: Iterable[Missing]) -> list[Missing]:
    """Joins entries that differ only in members, `since`, `until` and `offset`.

    A joined entry has the earliest times and the lowest offset, and the place of the first entry that it joins.
    """
    found: dict[Missing, Missing] = {}
    for entry in entries:
        like = replace(entry, members=(), since=None, until=None, offset=None)
        known = found.get(like) if entry.members is not None else None
        if known is None:
            found[like if entry.members is not None else entry] = entry
        else:
            found[like] = _joined(known, entry)
    return list(found.values())


def _joined(one: Missing, other: Missing) -> Missing:
    return replace(
        one,
        members=merged((*(one.members or ()), *(other.members or ()))),
        since=_earliest(one.since, other.since),
        until=_earliest(one.until, other.until),
        offset=_lowest(one.offset, other.offset),
    )


def _earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def _lowest(*offsets: int | None) -> int | None:
    return min((offset for offset in offsets if offset is not None), default=None)


_WAITS_FOR_OTHERS = (Fact.WAITS_FOR_KEY, Fact.WAITS_FOR_TASK, Fact.WAITS_FOR_FIELD)


def roots_first(entries: Iterable[Missing], producers: Mapping[str, tuple[str, str]]) -> list[Missing]:
    """Sorts entries so that causes are first: entries of the whole run, then tasks that wait for no task of the
    run, then each task after the tasks that produce its keys.

    Args:
        producers: (group, task) of each key that the run produces.
    """
    found = list(entries)
    needs: dict[tuple[str | None, str | None], set[tuple[str, str]]] = {}
    for entry in found:
        producer = producers.get(entry.key or "")
        if entry.fact in _WAITS_FOR_OTHERS and producer is not None:
            needs.setdefault((entry.group, entry.task), set()).add(producer)
    depths = _depths(needs)
    return sorted(found, key=lambda entry: (entry.task is not None, depths.get((entry.group, entry.task), 0)))


def _depths(needs: Mapping[tuple[str | None, str | None], set[tuple[str, str]]]) -> dict[Any, int]:
    """Length of the longest chain of blocked tasks in front of each task, from 1 for a task that waits only for
    tasks that are not blocked.

    Kahn's algorithm, not recursion: a chain may have thousands of tasks.
    """
    depths: dict[Any, int] = {}
    open_needs = {place: len([each for each in producers if each in needs]) for place, producers in needs.items()}
    dependents: dict[Any, list[Any]] = {}
    for place, producers in needs.items():
        for producer in producers:
            dependents.setdefault(producer, []).append(place)
    ready = [(place, 1) for place, number in open_needs.items() if number == 0]
    # `ready` is the queue: it grows while it is iterated.
    for place, depth in ready:
        depths[place] = depth
        for dependent in dependents.get(place, ()):
            open_needs[dependent] -= 1
            if open_needs[dependent] == 0:
                ready.append((dependent, depth + 1))
    return depths
