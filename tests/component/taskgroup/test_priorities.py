"""Order of work on several workers: levels, fairness of keys, pools. Time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from many_workers import Installation, installation
from small_requests import array, request, task

from anabranch import Task
from anabranch.core.request.admission import read_request
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.events import EventEntry, decode_batch
from anabranch.core.wire.messages import OpenRun
from anabranch.testing import System

SECOND = 1.0


async def slow(task: Task) -> int:
    """A member that takes a second, so that each member is a chunk."""
    await asyncio.sleep(SECOND)
    return 1


AGENTS = {"slow": slow}


def wide(members: int, **fields: Any) -> dict[str, Any]:
    return request(task("wide", "slow", expansion_config=array(list(range(members))))) | fields


def single(**fields: Any) -> dict[str, Any]:
    return request(task("one", "slow")) | fields


def events_of(made: Installation) -> list[EventEntry]:
    """All lifecycle events so far."""
    topic = made.settings.names.events
    records = [record for partition in made.broker.partitions(topic) for record in partition.read(0, 1_000)]
    return [entry for record in records for entry in decode_batch(record.value).entries]


def begin(made: Installation, wanted: dict[str, Any], seconds: float = 5.0) -> Any:
    """Submit a request, and let some time pass."""
    run = made.wait(made.client.submit(wanted))
    made.wait(asyncio.sleep(seconds))
    return run


def test_a_critical_task_begins_within_one_chunk_behind_a_wide_run_of_low() -> None:
    with installation(2, AGENTS, concurrency=4) as made:
        run = begin(made, wide(5_000, priority="low"))
        result, seconds = made.wait(made.run(single(priority="critical")))

        assert result.status == "completed"
        assert seconds < 3 * SECOND  # a chunk that runs, its own, and what the log takes
        made.wait(run.cancel())


def test_low_work_goes_on_beside_a_wide_run_of_high() -> None:
    with installation(2, AGENTS, concurrency=4) as made:
        # Each with chunks of one member, since there are few.
        runs = [begin(made, wide(120, priority="high"), 0.5) for _ in range(4)]
        _, seconds = made.wait(made.run(single(priority="low")))

        # 16 chunks of each worker, four at a time.
        assert seconds < 8 * SECOND
        for run in runs:
            made.wait(run.cancel())


def test_a_task_of_another_key_waits_for_at_most_one_chunk_of_each_worker() -> None:
    with installation(2, AGENTS, concurrency=4) as made:
        runs = [begin(made, wide(3_000 + n, fairness_key="a"), 1.0) for n in range(8)]
        _, seconds = made.wait(made.run(single(fairness_key="b")))

        assert seconds < 3 * SECOND
        for run in runs:
            made.wait(run.cancel())


def test_projects_are_the_keys_of_runs_that_name_none() -> None:
    with installation(2, AGENTS, concurrency=4) as made:
        runs = [begin(made, wide(3_000 + n, project="a"), 1.0) for n in range(8)]
        _, seconds = made.wait(made.run(single(project="b")))

        assert seconds < 3 * SECOND
        for run in runs:
            made.wait(run.cancel())


def test_members_run_in_their_pool_once_it_has_a_worker() -> None:
    ran: list[str] = []

    def noting(name: str) -> dict[str, Any]:
        async def note(task: Task) -> str:
            ran.append(f"{name}:{task.name}")
            return name

        return {"note": note}

    with installation(1, noting("plain")) as made:
        wanted = request(task("there", "note", pool="gpu", priority="high"), task("here", "note"))
        run = begin(made, wanted, 10.0)
        assert ran == ["plain:here"]
        [event] = [each for each in events_of(made) if each.type == "task.waiting"]
        assert (event.task, event.data["reason"], event.data["pool"]) == ("there", "no_workers", "gpu")

        made.wait(made.add_worker(noting("gpu"), "gpu"))
        result = made.wait(run.result(30.0))

        assert result.results == {"there": "gpu", "here": "plain"}
        # The owner in the process of a pool's worker gives it only what is of the pool.
        result, _ = made.wait(made.run(request(task("again", "note")) | {"session_id": "another"}))
        assert result.results == {"again": "plain"}


def test_sub_runs_inherit_level_pool_and_key() -> None:
    seen: list[tuple[str, str]] = []

    async def note(task: Task) -> str:
        seen.append((task.name, "gpu"))
        return "done"

    child = request(task("inner", "note"))
    with installation(1, {"note": note}) as made:
        made.wait(made.add_worker({"note": note}, "gpu"))
        parent = request({"name": "outer", "run": {"request": child}})
        parent |= {"pool": "gpu", "priority": "urgent", "fairness_key": "k"}
        result, _ = made.wait(made.run(parent))

        assert result.status == "completed"
        assert seen == [("inner", "gpu")]
        assert made.records("tasks") == 0


def test_the_backlog_has_what_is_left_by_pool_and_level() -> None:
    with installation(2, AGENTS, concurrency=4) as made:
        runs = [begin(made, wide(120, priority="high"), 6.0), begin(made, single(pool="gpu"), 6.0)]
        found = {pool["pool"]: pool for pool in made.wait(made.client.backlog())["pools"]}

        plain, gpu = found["default"], found["gpu"]
        assert (plain["workers"], plain["slots"], plain["slots_used"], plain["idle"]) == (2, 8, 8, [])
        [high] = plain["levels"]
        left = 120 - 8 * 12
        assert high["level"] == "high"
        assert left - 24 <= high["members"] <= left + 24  # a card may be two seconds old
        assert high["seconds"] >= high["members"] * SECOND
        assert (gpu["workers"], gpu["slots"], gpu["members"]) == (0, 0, 1)
        assert gpu["levels"] == [{"level": "normal", "members": 1, "seconds": 0.0, "unmeasured": 1}]
        for run in runs:
            made.wait(run.cancel())
        made.wait(asyncio.sleep(10.0))
        [left] = made.wait(made.client.backlog())["pools"]
        assert (left["members"], left["seconds"], len(left["idle"])) == (0, 0.0, 2)


def test_all_workers_read_some_of_each_level() -> None:
    """Each topic is spread over all workers: the wide run uses every slot of both."""
    for priority in ("normal", "urgent"):
        with installation(2, AGENTS, concurrency=4) as made:
            run = begin(made, wide(2_000, priority=priority), 10.0)
            [plain] = made.wait(made.client.backlog())["pools"]

            assert plain["slots_used"] == plain["slots"] == 8
            made.wait(run.cancel())


def test_the_fairness_key_of_a_request_may_name_its_context(anabranch_system: Callable[..., System]) -> None:
    s = anabranch_system()
    child = {"name": "child", "run": {"request": request(task("of_child", "echo", "x"))}}
    for tenant in ("a", 7):
        wanted = request(task("t", "echo", "x"), child, context={"tenant": tenant}, fairness_key="of {tenant}")
        assert s.run(wanted).status == "completed"
        assert {each["fairness_key"] for each in read_request(wanted).to_document()["tasks"]} == {f"of {tenant}"}
    messages = [GROUPS.decode(each.value).message for each in s.records("groups")]
    keys = [each.fairness_key for each in messages if isinstance(each, OpenRun)]
    assert sorted(keys) == ["of 7", "of 7", "of a", "of a"]
