"""Schedules over HTTP: put, shown, controlled and deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from embedded_commands import connect_commands
from gateways import Running, gateway, one_task

from anabranch.cli.commands.schedules import act, list_schedules, put, show
from anabranch.core.errors import RequestRefused, ServerUnavailable
from anabranch.runtime.process.settings import Settings

SCHEDULE: dict[str, Any] = {"id": "nightly", "every": "1h", "request": one_task("echo", inputs="{scheduled_at}")}


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with gateway() as running:
        yield running


async def test_a_schedule_is_put_shown_controlled_and_deleted(running: Running) -> None:
    put = await running.http.post("/v1/schedules", json=SCHEDULE)
    again = await running.http.put("/v1/schedules/nightly", json={**SCHEDULE, "overlap": "allow"})
    invalid = await running.http.post("/v1/schedules", json={**SCHEDULE, "cron": "x"})
    assert (put.status_code, again.status_code, invalid.status_code) == (201, 200, 422)
    assert invalid.json()["errors"][0]["path"] == "/cron"
    assert len(again.json()["next"]) == 10
    assert [each["id"] for each in (await running.get("/v1/schedules"))["schedules"]] == ["nightly"]

    paused = await running.http.post("/v1/schedules/nightly/pause", json={"by": "ann", "reason": "holidays"})
    assert (paused.json()["paused_by"]["by"], paused.json()["paused_by"]["reason"]) == ("ann", "holidays")
    triggered = await running.http.post("/v1/schedules/nightly/trigger")
    firings = triggered.json()["running"] + triggered.json()["history"]
    assert [each["source"] for each in firings] == ["trigger"]
    wrong = await running.http.post("/v1/schedules/nightly/backfill", json={"from": "yesterday"})
    assert wrong.status_code == 422

    assert (await running.http.delete("/v1/schedules/nightly")).status_code == 200
    assert (await running.http.get("/v1/schedules/nightly")).status_code == 404
    assert (await running.http.post("/v1/schedules/nightly/resume")).status_code == 404


async def test_a_schedule_with_an_agent_that_nobody_has_is_refused_with_its_path(running: Running) -> None:
    response = await running.http.post("/v1/schedules", json={**SCHEDULE, "request": one_task("ecko")})
    [error] = response.json()["errors"]
    assert (response.status_code, error["code"]) == (422, "unknown_agent")
    assert error["path"] == "/request/task_groups/0/tasks/0/agent"


async def test_a_schedule_that_the_agency_refuses_is_no_success(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anabranch.sdk.schedules.WAIT_SECONDS", 0.5)
    schedules = running.system.client.schedules
    await schedules.put(SCHEDULE)
    with pytest.raises(ServerUnavailable, match="anabranch dlq list"):
        await schedules.put({**SCHEDULE, "request": one_task("ecko")})


@pytest.mark.parametrize("is_direct", [True, False], ids=["direct", "through a gateway"])
async def test_the_commands_print_the_same_by_each_way(
    running: Running,
    is_direct: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect_commands(monkeypatch, running.system.client)
    settings = Settings() if is_direct else Settings(url=running.service.url)
    file = tmp_path / "nightly.json"
    file.write_bytes(orjson.dumps(SCHEDULE))

    assert await put(settings, str(file), None, json=False) == 0
    assert "Schedule nightly. Next: 20" in capsys.readouterr().err
    await act(settings, "pause", "nightly", "ann", "holidays", json=True)
    paused_by = orjson.loads(capsys.readouterr().out)["paused_by"]
    assert (paused_by["by"], paused_by["reason"]) == ("ann", "holidays")
    await list_schedules(settings, json=False)
    assert capsys.readouterr().out == "nightly  paused\n"
    await act(settings, "resume", "nightly", None, None, json=True)
    await act(settings, "trigger", "nightly", None, None, json=True)
    capsys.readouterr()
    await show(settings, "nightly", json=False)
    shown = capsys.readouterr().out
    assert "nightly: active, fired 0 times" in shown
    assert "trigger" in shown
    await act(settings, "delete", "nightly", None, None, json=False)
    with pytest.raises(RequestRefused, match="there is no schedule"):
        await show(settings, "nightly", json=True)
