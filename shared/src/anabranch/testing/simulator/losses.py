"""Faults by which the log or the store loses old data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import crc32

from anabranch.ports import TopicSpec
from anabranch.testing.simulator.edges import SNAPSHOT_SECONDS
from anabranch.testing.simulator.faults import Strike
from anabranch.testing.simulator.loop import OUTSIDE
from anabranch.testing.simulator.processes import Process

if TYPE_CHECKING:
    from anabranch.testing.simulator.world import World

NOTICE_SECONDS = (1.0, 10.0)
"""Maximum seconds until a client reads a recreated topic. A slow client finds new records there."""
LAST_RECORDS = 4
"""A trimmed partition keeps fewer than this number of its last records."""


def trim(world: World, strike: Strike) -> None:
    """Remove the first records of partitions, and kill their owners."""
    random = world.edges.random
    names = world.settings.names
    for topic in random.choice(((names.runs,), (names.groups,), (names.runs, names.groups))):
        for partition in world.broker.partitions(topic):
            if random.random() < 0.7:
                before = partition.end - random.randrange(LAST_RECORDS)
                world.observer.note(f"{topic}/{partition.number} is trimmed below {before}")
                partition.trim(before)
                world.kill_owner(topic, partition.number, strike.seconds)


def recreate(world: World, strike: Strike) -> None:
    """Delete topics and create them again, while the services are stopped or while they read."""
    random = world.edges.random
    names = world.settings.names
    every = tuple(names.topics)
    topics = random.choice(((names.runs,), (names.groups,), (names.runs, names.groups), (names.tasks(),), every))
    if random.random() < 0.5:
        for process in world.processes:
            process.kill(strike.seconds)
    world.observer.note(f"{', '.join(topics)} are created again")
    world.lost_all_topics = world.lost_all_topics or topics == every
    for spec in world.specs:
        if spec.name in topics:
            _recreate(world, spec)


def _recreate(world: World, spec: TopicSpec) -> None:
    world.broker.recreate(spec)
    max_delay = world.edges.random.choice(NOTICE_SECONDS)
    for process in world.processes:
        for membership in process.incarnation.log.memberships if process.incarnation is not None else ():
            membership.hold(spec.name)
            delay = world.edges.random.random() * max_delay
            world.loop.call_later(delay, membership.read_recreated, spec.name, context=OUTSIDE)


def restart_store_older(world: World, strike: Strike, *, in_part: bool) -> None:
    """Restart the store with older data: all of its keys, or some."""
    random = world.edges.random
    seconds = random.choice(SNAPSHOT_SECONDS)
    lost = random.choice(_KEY_SUBSETS) if in_part else None
    # Values of runs that ended before this time may be missing in the store.
    world.lost_at = world.loop.time()
    world.server.restart_older(seconds, lost)
    world.store_restarted(strike.seconds / 10)
    world.observer.note(f"the store is {seconds:.0f} s older{' in part' if in_part else ''}")


def _is_of_agency(key: str) -> bool:
    """True for the keys of a run's owner: tombstones and early control records."""
    return key.endswith(("}:run", ":early-stop", ":early-pause"))


def _is_of_taskgroup(key: str) -> bool:
    """True for the keys of a session's owner, and for claims of workers."""
    return key.endswith(":session-run") or ":claim:" in key


def _is_of_a_shard(key: str) -> bool:
    """True for the keys of one of two shards: half of the hash slots."""
    return crc32(key.partition("{")[2].partition("}")[0].encode()) % 2 == 0


_KEY_SUBSETS: tuple[Callable[[str], bool], ...] = (_is_of_agency, _is_of_taskgroup, _is_of_a_shard)

LOSS_STRIKES: dict[str, Callable[[World, Process, Strike], None]] = {
    "trim": lambda world, victim, strike: trim(world, strike),
    "recreate": lambda world, victim, strike: recreate(world, strike),
    "older-store": lambda world, victim, strike: restart_store_older(world, strike, in_part=False),
    "part-store": lambda world, victim, strike: restart_store_older(world, strike, in_part=True),
}
