"""The backlog of an installation, from the cards of its live workers: what an autoscaler reads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anabranch.core.lanes import DEFAULT_POOL, PRIORITIES
from anabranch.core.wire.worker_card import LaneBacklog, WorkerCard

MEMBER_SECONDS = 1.0
"""Assumed duration of a member of a task of which none has ended yet."""


def backlog_document(workers: Sequence[WorkerCard]) -> dict[str, Any]:
    """The pools with their workers, and what is left to do in each, by level.

    Each process reports what is left of the sessions that it owns, so the sum over all of them is the whole. A
    pool without workers is listed while something is left for it.
    """
    left = [each for worker in workers for each in worker.backlog]
    names = {DEFAULT_POOL, *(worker.pool for worker in workers), *(each.pool for each in left)}
    return {"pools": [_pool(name, workers, left, MEMBER_SECONDS) for name in sorted(names)]}


def pool_backlog(
    workers: Sequence[WorkerCard], pool: str, member_seconds: float = MEMBER_SECONDS
) -> dict[str, Any] | None:
    """What is left to do in one pool, as in `backlog_document`. None if no process lives: nobody knows then what
    is left, which is not nothing.

    Args:
        member_seconds: assumed duration of a member of a task of which none has ended yet.
    """
    if not workers:
        return None
    return _pool(pool, workers, [each for worker in workers for each in worker.backlog], member_seconds)


def _pool(
    name: str, workers: Sequence[WorkerCard], left: Sequence[LaneBacklog], member_seconds: float
) -> dict[str, Any]:
    here = [worker for worker in workers if worker.pool == name]
    taking = [worker for worker in here if not worker.draining]
    of_pool = [each for each in left if each.pool == name]
    levels = [_level(level, [each for each in of_pool if each.level == level]) for level in PRIORITIES]
    work_seconds = sum(each.seconds + each.unmeasured * member_seconds for each in of_pool)
    return {
        "pool": name,
        "workers": len(taking),
        "draining": len(here) - len(taking),
        "slots": sum(worker.slots for worker in taking),
        "slots_used": sum(worker.load.members for worker in taking),
        "idle": sorted(worker.id for worker in taking if not worker.load.chunks and not worker.load.members),
        "members": sum(level["members"] for level in levels),
        "seconds": round(sum(level["seconds"] for level in levels), 3),
        "unmeasured": sum(level["unmeasured"] for level in levels),
        "work_seconds": round(work_seconds, 3),
        "worker_seconds": round(work_seconds / _slots_of_one(taking or workers), 3),
        "levels": [level for level in levels if level["members"] or level["seconds"] or level["unmeasured"]],
    }


def _slots_of_one(workers: Sequence[WorkerCard]) -> float:
    """The slots of a worker, on average."""
    return max(sum(worker.slots for worker in workers), 1) / max(len(workers), 1)


def _level(level: str, left: Sequence[LaneBacklog]) -> dict[str, Any]:
    return {
        "level": level,
        "members": sum(each.members for each in left),
        "seconds": round(sum(each.seconds for each in left), 3),
        "unmeasured": sum(each.unmeasured for each in left),
    }
