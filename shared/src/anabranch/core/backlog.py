"""The backlog of an installation, from the cards of its live workers: what an autoscaler reads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anabranch.core.lanes import DEFAULT_POOL, PRIORITIES
from anabranch.core.wire.worker_card import LaneBacklog, WorkerCard


def backlog_document(workers: Sequence[WorkerCard]) -> dict[str, Any]:
    """The pools with their workers, and what is left to do in each, by level.

    Each process reports what is left of the sessions that it owns, so the sum over all of them is the whole. A
    pool without workers is listed while something is left for it.
    """
    left = [each for worker in workers for each in worker.backlog]
    names = {DEFAULT_POOL, *(worker.pool for worker in workers), *(each.pool for each in left)}
    return {"pools": [_pool(name, workers, left) for name in sorted(names)]}


def _pool(name: str, workers: Sequence[WorkerCard], left: Sequence[LaneBacklog]) -> dict[str, Any]:
    here = [worker for worker in workers if worker.pool == name]
    taking = [worker for worker in here if not worker.draining]
    of_pool = [each for each in left if each.pool == name]
    levels = [_level(level, [each for each in of_pool if each.level == level]) for level in PRIORITIES]
    return {
        "pool": name,
        "workers": len(taking),
        "draining": len(here) - len(taking),
        "slots": sum(worker.slots for worker in taking),
        "slots_used": sum(worker.load.members for worker in taking),
        "idle": sorted(worker.id for worker in taking if not worker.load.chunks and not worker.load.members),
        "members": sum(level["members"] for level in levels),
        "seconds": round(sum(level["seconds"] for level in levels), 3),
        "levels": [level for level in levels if level["members"] or level["seconds"] or level["unmeasured"]],
    }


def _level(level: str, left: Sequence[LaneBacklog]) -> dict[str, Any]:
    return {
        "level": level,
        "members": sum(each.members for each in left),
        "seconds": round(sum(each.seconds for each in left), 3),
        "unmeasured": sum(each.unmeasured for each in left),
    }
