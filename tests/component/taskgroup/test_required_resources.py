"""Members run only where what they require fits, and give it back however they end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from many_workers import Installation, WorkerOf, installation_of
from small_requests import array, request, task

from anabranch import GiveUp, Registry, Task, agent
from anabranch.core.reasons import Fact
from anabranch.operations.why.answer import examined
from anabranch.testing import system
from anabranch_taskgroup.session.task_state import Task as StateTask


class Machine:
    """Workers whose agents note what runs at once, by worker."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.total: Counter[str] = Counter()

    def worker(self, name: str, offers: str, **settings: Any) -> WorkerOf:
        @agent("work")
        async def work(task: Task) -> str:
            self.running[name] += 1
            self.total[name] += 1
            self.most[name] = max(self.most[name], self.running[name])
            try:
                await asyncio.sleep(float(task.inputs or 1))
                if task.inputs == 3:
                    raise GiveUp("three")
            finally:
                self.running[name] -= 1
            return name

        return WorkerOf(Registry().add(work), {"offers": offers, **settings})


def gates(installation: Installation) -> list[Any]:
    return [service._worker._gate for service in installation.services[1:]]  # type: ignore[attr-defined]


def test_members_run_where_they_fit_and_never_more_than_fit() -> None:
    machine = Machine()
    workers = (
        machine.worker("large", "cpu=4,memory=8Gi"),
        machine.worker("small", "cpu=1"),
        machine.worker("none", ""),
    )
    with installation_of(*workers) as running:
        wanted = task("t", "work", expansion_config=array([1] * 20), requires={"cpu": 2, "memory": "1Gi"})
        result, seconds = running.wait(running.run(request(wanted)))
        assert all(gate.is_empty for gate in gates(running))

    assert result.results["t"] == ["large"] * 20
    assert machine.most == {"large": 2}
    assert seconds < 15, "ten rounds of a second, of which none is lost to a worker without room"


def test_a_small_worker_takes_what_fits_there() -> None:
    machine = Machine()
    with installation_of(
        machine.worker("a", "cpu=1,labels=zone=eu"), machine.worker("b", "cpu=1,labels=zone=us")
    ) as running:
        tasks = [
            task(zone, "work", expansion_config=array([1] * 3), requires={"cpu": "500m", "labels": {"zone": zone}})
            for zone in ("eu", "us")
        ]
        result, _ = running.wait(running.run(request(*tasks)))

    assert (result.results["eu"], result.results["us"]) == (["a"] * 3, ["b"] * 3)
    assert machine.most == {"a": 2, "b": 2}


@pytest.mark.parametrize("how", ["fails", "times out", "is cancelled"])
def test_resources_are_given_back_however_a_member_ends(how: str) -> None:
    machine = Machine()
    more: dict[str, Any] = {"inputs": 3} if how == "fails" else {"inputs": 30}
    if how == "times out":
        more["timeout"] = "2s"
    with installation_of(machine.worker("w", "cpu=1")) as running:
        run = running.wait(running.client.submit(request(task("t", "work", requires={"cpu": 1}, **more))))
        running.wait(asyncio.sleep(1.5))
        assert [gate.used["cpu"] for gate in gates(running)] == [1_000]
        if how == "is cancelled":
            running.wait(run.cancel())
        assert running.wait(run.result()).status == ("cancelled" if how == "is cancelled" else "failed")
        running.wait(asyncio.sleep(1))
        assert all(gate.is_empty for gate in gates(running))
        result, _ = running.wait(running.run(request(task("t", "work", requires={"cpu": 1}))))
        assert result.status == "completed"


def test_a_member_of_a_killed_worker_runs_elsewhere() -> None:
    machine = Machine()
    with installation_of(machine.worker("a", "gpu=1"), machine.worker("b", "gpu=1")) as running:
        run = running.wait(running.client.submit(request(task("t", "work", inputs=20, requires={"gpu": 1}))))
        running.wait(asyncio.sleep(5))
        [victim] = machine.running
        number = 1 if victim == "a" else 2
        service = running.services.pop(number)
        running.wait(service.stop())
        result = running.wait(run.result())

    assert result.results["t"] in {"a", "b"} - {victim}


def lacks(running: Installation, run: Any) -> list[dict[str, Any]]:
    async def found() -> list[dict[str, Any]]:
        return [event async for event in run.events(until_now=True)]

    return [event for event in running.wait(found()) if event["type"] == "task.waiting"]


def state_of(running: Installation) -> StateTask:
    [found] = running.open_tasks()
    return found


def test_after_a_minute_it_is_said_who_lacks_what_until_a_worker_fits() -> None:
    machine = Machine()
    with installation_of(machine.worker("w", "cpu=1,labels=ssd")) as running:
        required = {"cpu": 2, "labels": ["ssd", "zone=eu"]}
        run = running.wait(running.client.submit(request(task("t", "work", requires=required))))
        running.wait(asyncio.sleep(55))
        assert lacks(running, run) == []
        answer, _, _ = running.wait(examined(running.client, running.settings, run.run_id, heal=False))
        assert {each.fact for each in answer.missing} <= {Fact.NO_ROOM, Fact.OFFERED}

        running.wait(asyncio.sleep(20))
        [said] = lacks(running, run)
        worker = running.services[1]._worker.id  # type: ignore[attr-defined]
        assert said["reason"] == "no_room"
        assert said["requires"] == {"cpu": "2", "labels": {"ssd": "true", "zone": "eu"}}
        assert said["lacks"] == f"{worker} lacks cpu 2 (offers 1), label zone=eu"
        answer, _, _ = running.wait(examined(running.client, running.settings, run.run_id, heal=False))
        assert [(each.fact, each.detail) for each in answer.missing] == [
            (Fact.NO_ROOM, f"no live worker offers what the task requires: {said['lacks']}")
        ]

        running.wait(running.add(machine.worker("new", "cpu=2,labels=ssd,zone=eu")))
        began = running.loop.time()
        assert running.wait(run.result()).results["t"] == "new"
        assert running.loop.time() - began < 30
        assert len(lacks(running, run)) == 1


def test_an_embedded_system_offers_nothing_unless_it_is_told_to() -> None:
    with system() as running:
        run = running.submit(request(task("t", requires={"gpu": 1})))
        running.advance(75)
        run.cancel()
        run.result()
        events = run.events()
    assert [event["lacks"].split(" ", 1)[1] for event in events if event["type"] == "task.waiting"] == [
        "lacks gpu 1 (offers 0)"
    ]


def test_a_task_without_requirements_runs_beside_those_that_wait() -> None:
    machine = Machine()
    with installation_of(machine.worker("w", "cpu=1")) as running:
        wide = task("wide", "work", inputs=5, expansion_config=array([1] * 30), requires={"cpu": 1})
        running.wait(running.client.submit(request(wide)))
        running.wait(asyncio.sleep(2))
        result, seconds = running.wait(running.run(request(task("quick", "work"))))

    assert result.status == "completed"
    assert seconds < 5
