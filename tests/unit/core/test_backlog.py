"""The backlog of one pool: what an autoscaler divides by a target."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.backlog import backlog_document, pool_backlog
from anabranch.core.wire.worker_card import LaneBacklog, WorkerCard

WORKERS = [
    WorkerCard(id="a", slots=8, backlog=(LaneBacklog(members=10, seconds=80.0, unmeasured=4),)),
    WorkerCard(id="b", slots=4, backlog=(LaneBacklog(pool="gpu", level="high", members=3, unmeasured=3),)),
    WorkerCard(id="c", slots=100, draining=True, backlog=(LaneBacklog(members=2, seconds=16.0),)),
]


def _pool(pool: str, **more: Any) -> dict[str, Any]:
    found = pool_backlog(WORKERS, pool, **more)
    assert found is not None
    return found


def test_work_is_divided_by_the_slots_of_one_worker_that_takes_members() -> None:
    found = _pool("default")
    assert (found["workers"], found["draining"], found["members"], found["unmeasured"]) == (2, 1, 12, 4)
    assert found["work_seconds"] == 96.0 + 4 * 1.0
    assert found["worker_seconds"] == pytest.approx(100.0 / 6, abs=0.001)


def test_a_pool_without_workers_takes_the_mean_slots_of_all() -> None:
    found = _pool("gpu", member_seconds=30.0)
    assert (found["workers"], found["slots"]) == (0, 0)
    assert (found["work_seconds"], found["worker_seconds"]) == (90.0, pytest.approx(90.0 / (112 / 3), abs=0.001))


def test_a_pool_that_has_nothing_left_is_zero_only_while_somebody_knows() -> None:
    assert _pool("idle")["worker_seconds"] == 0.0
    assert pool_backlog([], "idle") is None


def test_one_pool_is_as_in_the_list_of_all() -> None:
    assert backlog_document(WORKERS)["pools"] == [_pool("default"), _pool("gpu")]
