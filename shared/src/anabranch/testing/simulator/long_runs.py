"""Draws long, idle runs for the seeds that check snapshots, and removes records as the retention of topics does.

For seeds from `LONG_FROM` on: owners append snapshots after seconds, runs wait for longer than that, and the log
loses the records that no takeover needs any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

from anabranch.runtime.ownership.replay import replay_begin
from anabranch.testing.simulator.faults import HORIZON, Strike, strike_of

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Workload
    from anabranch.testing.simulator.world import World

LONG_FROM = 5_000_000
USUAL_EDGES = ("small-records", "settings", "clocks")
EDGE_SHARE = 0.15
LATE_SECONDS = 4.0
WAITING_SHARE, RESTING_SHARE, PAUSED_SHARE = 0.6, 0.3, 0.2
LOSS_WINDOW = 2.0
"""Twice what the store may lose. Replay positions follow snapshots after three windows: takeovers need snapshots
within the faults of a seed."""


@dataclass(frozen=True, slots=True)
class SnapshotTimes:
    """When owners append snapshots in a seed, in seconds and bytes."""

    idle: float
    interval: float
    bytes: int

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "snapshot_idle": self.idle,
            "snapshot_interval": self.interval,
            "snapshot_bytes": self.bytes,
            "loss_window": LOSS_WINDOW,
        }


def draw_long(seed: int, faults: Collection[str]) -> tuple[frozenset[str], tuple[Strike, ...], SnapshotTimes]:
    """The conditions of a seed, its removals of records, and when owners append snapshots."""
    random = Random(f"{seed} long")
    chosen = {name for name in USUAL_EDGES if random.random() < EDGE_SHARE} | {"snapshots"}
    chosen |= {name for name in ("retain", "late-snapshots") if random.random() < 0.6}
    strikes = [strike_of(random, "retain") for _ in range(random.choice((2, 4, 8)))]
    times = SnapshotTimes(
        idle=random.choice((1.0, 2.0, 5.0)),
        interval=random.choice((2.0, 6.0, 1_000.0)),
        bytes=random.choice((1_000, 5_000, 10_000_000)),
    )
    kept = frozenset(chosen & set(faults))
    return kept, tuple(strikes) if "retain" in kept else (), times


def prolong(random: Random, request: dict[str, Any], number: int, workload: Workload) -> None:
    """Let a request take long: tasks wait for external keys or for another attempt, and the run is paused."""
    for group in request["task_groups"]:
        for task in group["tasks"]:
            if random.random() < WAITING_SHARE and not task["inputs"].get("gives"):
                _wait(random, task, number, workload)
            elif random.random() < RESTING_SHARE and "expansion_config" not in task:
                task["inputs"]["flaky"] = {"0": random.randint(1, 2)}
                task["inputs"].pop("fails", None)
                task["retry"] = {"strategy": "fixed", "max_attempts": 4, "delay": random.choice((6.0, 15.0))}
    if random.random() < PAUSED_SHARE:
        at = random.random() * 20
        about = {"request_id": request["request_id"]}
        workload.sent += [
            (at, {"type": "pause", **about}),
            (at + random.choice((5.0, 25.0)), {"type": "resume", **about}),
        ]


def _wait(random: Random, task: dict[str, Any], number: int, workload: Workload) -> None:
    key = f"late-{task['name']}"
    task["external_dependencies"] = [*task.get("external_dependencies", ()), key]
    task["inputs"]["deps"] = [*task["inputs"]["deps"], key]
    workload.outside.append((random.uniform(5.0, HORIZON), f"s{number}", key, {"late": number}))


def retain(world: World, strike: Strike) -> None:
    """Remove the records before the replay positions of partitions, and kill the owners of some."""
    random = world.edges.random
    names = world.settings.names
    for group, topic in ((names.agency_runs, names.runs), (names.taskgroup_groups, names.groups)):
        for partition in world.broker.partitions(topic):
            committed = world.broker.group(group).committed.get((topic, partition.number))
            if committed is None:
                continue
            before = replay_begin(committed)
            world.observer.note(f"{topic}/{partition.number} keeps records from {before} on")
            partition.trim(before)
            if random.random() < 0.7:
                world.kill_owner(topic, partition.number, strike.seconds)
