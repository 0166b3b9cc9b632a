"""The backlog over HTTP, as an autoscaler reads it: one pool, by any viewer, never 0 because nobody knows."""

from __future__ import annotations

from pathlib import Path

from gateway_keys import Keys
from gateways import gateway, one_task
from waiting import eventually_true

from anabranch.runtime.process.settings import Settings

BACKLOG = "/v1/backlog"


async def test_one_pool_has_a_number_for_an_autoscaler() -> None:
    async with gateway() as running:
        for _ in range(2):
            await running.submit(one_task(pool="gpu"), None)

        async def is_known() -> bool:
            return bool((await running.get(BACKLOG, pool="gpu"))["members"] == 2)

        await eventually_true(is_known)
        gpu = await running.get(BACKLOG, pool="gpu", member_seconds=32)
        every = await running.get(BACKLOG)
        wrong = await running.http.get(BACKLOG, params={"pool": "a b"})

    assert (gpu["pool"], gpu["workers"], gpu["work_seconds"], gpu["worker_seconds"]) == ("gpu", 0, 64.0, 1.0)
    assert [each["pool"] for each in every["pools"]] == ["default", "gpu"]
    assert (wrong.status_code, wrong.json()["code"]) == (422, "schema")


async def test_any_viewer_reads_it_and_nobody_without_a_key(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        allowed = await running.http.get(BACKLOG, params={"pool": "default"}, headers=keys.of("viewer"))
        refused = await running.http.get(BACKLOG, params={"pool": "default"})

    assert (allowed.status_code, refused.status_code) == (200, 401)


async def test_nothing_is_known_while_no_taskgroup_lives() -> None:
    async with gateway() as running:
        [taskgroup] = [each for each in running.system.services if each.name == "taskgroup"]
        await taskgroup.stop()
        answer = await running.http.get(BACKLOG, params={"pool": "default"})

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"]
