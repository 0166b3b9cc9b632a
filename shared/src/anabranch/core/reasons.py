"""What may be missing in an open run, as a closed list, and one entry of the answer.

A fact is a record that the log does not hold yet: the outcome of members, a value of a key, the end of a group.
Each entry says the one thing that stands in its way. Pure; who finds it out is not this module's business.
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
"""So many ranges of members one entry names; `count` is of all."""


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
    OFFERED = "offered"
    CLAIMED = "claimed"
    WAITS_FOR_RETRY = "waits_for_retry"
    WAITS_FOR_ROOM = "waits_for_room"
    WAITS_FOR_EXTERNAL_KEY = "waits_for_external_key"
    WAITS_FOR_KEY = "waits_for_key"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason says to people, and what to do about it."""

    says: str
    remedy: str


MEANINGS: Mapping[Fact, Meaning] = {
    Fact.NOT_ADMITTED: Meaning(
        "the request is on the log and no Agency has admitted it yet",
        "start an Agency, or wait until it has caught up",
    ),
    Fact.NO_OWNER: Meaning(
        "the partition that it depends on is assigned to no process",
        "start the service that reads the topic: agency for requests and runs, taskgroup for groups and tasks",
    ),
    Fact.BEHIND_LAG: Meaning(
        "the record is on the log, behind records that nobody has handled yet",
        "wait, or start more processes of the service that reads the topic; look at /livez of its owner",
    ),
    Fact.NEVER_PRODUCED: Meaning(
        "the record that it needs is not on the log, and nothing on the log will lead to it by itself",
        "anabranch why RUN --heal; if that does not help, cancel the run and submit it again",
    ),
    Fact.NOT_ANNOUNCED: Meaning(
        "the outcome is decided and stored, and its news has not reached whoever waits for it",
        "wait for the owner to tell it again, or: anabranch why RUN --heal",
    ),
    Fact.DEAD_LETTERED: Meaning(
        "a record of the run could not be handled and stands on the dead-letter topic",
        "anabranch dlq list shows the reason; the run goes on without it",
    ),
    Fact.PAUSED: Meaning("the run is paused: no further members start", "anabranch resume RUN"),
    Fact.HELD: Meaning(
        "the members failed, and on_failure: hold keeps them for a decision",
        "anabranch dlq redrive, or dlq dismiss; the timeout ends the wait",
    ),
    Fact.NO_AGENT: Meaning(
        "workers gave the members back because none of them has the agent",
        "start a worker with --agents that names the agent's module",
    ),
    Fact.OFFERED: Meaning(
        "the members were offered, and no worker has claimed them",
        "start workers, or raise --concurrency; offers are made again by themselves",
    ),
    Fact.CLAIMED: Meaning(
        "a worker has claimed the members and has not told how they ended",
        "wait while it lives; if it does not, the owner takes the members back within 8 s",
    ),
    Fact.WAITS_FOR_RETRY: Meaning("the last attempt failed, and the next one is not due yet", "wait"),
    Fact.WAITS_FOR_ROOM: Meaning(
        "max_concurrency, or the window of offers, leaves no room yet",
        "wait for the members before them",
    ),
    Fact.WAITS_FOR_EXTERNAL_KEY: Meaning(
        "somebody outside the run has to SET the key, and has not",
        "SET it and PUBLISH on the same name; the timeout of the run ends the wait",
    ),
    Fact.WAITS_FOR_KEY: Meaning(
        "a task of the run has to produce the key, and has not ended",
        "look at its producer, which is listed before it",
    ),
}


@dataclass(frozen=True, slots=True)
class Missing:
    """One missing fact, or one for each of many members of a task.

    Attributes:
        group, task: whose it is; null where it is the whole run's (or group's).
        members: the member indexes it is about; None where the task is not expanded, or it is the whole task's.
        key: the result or context key that is waited for.
        since: when the log first said so, in seconds since the epoch.
        topic, partition, offset: where the record stands, or where the next one is expected. `lag` records lie
            between what was handled and the end of the partition.
        worker, alive: who claimed it, and whether that worker shows that it lives.
        attempt: the attempt that is under way or waited for, from 1.
        until: when the wait ends by itself, in seconds since the epoch.
        detail: what else there is to say, for people.
    """

    fact: Fact
    group: str | None = None
    task: str | None = None
    members: Spans | None = None
    key: str | None = None
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
        """For `--json`: a single member has its `index`, several have `indexes` and `count`."""
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
        extra = {"lag": self.lag, "alive": self.alive, "until": self.until, "detail": self.detail}
        document |= {name: value for name, value in extra.items() if value is not None}
        return document | {"remedy": MEANINGS[self.fact].remedy}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Missing:
        """Rebuild the entry from its document, which has only the first of very many member ranges."""
        same = ("group", "task", "key", "since", "topic", "partition", "offset", "worker", "attempt")
        given = {name: document.get(name) for name in (*same, "lag", "alive", "until", "detail")}
        return cls(Fact(document["fact"]), members=_members(document), **given)

    @property
    def count(self) -> int:
        """How many members it is about; 1 where it is about no members in particular."""
        return sum(stop - start for start, stop in self.members) if self.members else 1


def _members(document: Mapping[str, Any]) -> Spans | None:
    if (index := document.get("index")) is not None:
        return ((index, index + 1),)
    if (text := document.get("indexes")) is None:
        return None
    ranges = [each.split("-") for each in text.removesuffix(",...").split(",")]
    return tuple((int(each[0]), int(each[-1]) + 1) for each in ranges)


def shown(spans: Spans) -> str:
    """`0-499,600`: ranges as people write them, both ends included; of very many the first ones and `...`."""
    texts = [str(start) if stop - start == 1 else f"{start}-{stop - 1}" for start, stop in spans[:SHOWN_RANGES]]
    return ",".join(texts if len(spans) <= SHOWN_RANGES else [*texts, "..."])


def merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Spans in order, those that touch made one."""
    return tuple(Ranges(sorted(spans)))


def aggregated(entries: Iterable[Missing]) -> list[Missing]:
    """Entries of members that differ in nothing but which members, since when and until when, made one each.

    The earliest times stand. The order is that of the first of each.
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


def roots_first(entries: Iterable[Missing], producers: Mapping[str, tuple[str, str]]) -> list[Missing]:
    """What is the whole run's first, then what waits for nothing of the run, then each after its producers.

    Args:
        producers: (group, task) of each key that the run produces.
    """
    found = list(entries)
    needs: dict[tuple[str | None, str | None], set[tuple[str, str]]] = {}
    for entry in found:
        producer = producers.get(entry.key or "")
        if entry.fact is Fact.WAITS_FOR_KEY and producer is not None:
            needs.setdefault((entry.group, entry.task), set()).add(producer)
    depths = _depths(needs)
    return sorted(found, key=lambda entry: (entry.task is not None, depths.get((entry.group, entry.task), 0)))


def _depths(needs: Mapping[tuple[str | None, str | None], set[tuple[str, str]]]) -> dict[Any, int]:
    """How many steps each task is from one that waits for none. Worked off from there: a chain may be long."""
    depths: dict[Any, int] = {}
    open_needs = {place: len([each for each in producers if each in needs]) for place, producers in needs.items()}
    dependents: dict[Any, list[Any]] = {}
    for place, producers in needs.items():
        for producer in producers:
            dependents.setdefault(producer, []).append(place)
    ready = [(place, 1) for place, number in open_needs.items() if number == 0]
    for place, depth in ready:
        depths[place] = depth
        for dependent in dependents.get(place, ()):
            open_needs[dependent] -= 1
            if open_needs[dependent] == 0:
                ready.append((dependent, depth + 1))
    return depths
