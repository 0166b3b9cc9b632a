"""Limits that runs share over HTTP: who sees which, and who may open the breaker of an agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway_keys import Keys
from gateways import gateway, one_task
from waiting import eventually_true

from anabranch.runtime.process.settings import Settings

LIMITS, OPEN = "/v1/limits", "/v1/breakers/echo/open"


async def test_a_project_sees_its_own_limits_and_breakers_without_their_holders(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    rate = {"key": "llm", "limit": 1, "per": "1m"}
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:

        async def seen(name: str) -> dict[tuple[str, str], Any]:
            answer = await running.http.get(LIMITS, headers=keys.of(name))
            assert answer.status_code == 200, answer.text
            return {(each["kind"], each["project"]): each for each in answer.json()["limits"]}

        async def all_there() -> bool:
            limits = await seen("root")
            return ("rate", "bank") in limits and limits.get(("breaker", "*"), {}).get("waiting") == 0

        opened = await running.http.post(OPEN, json={"reason": "outage"}, headers=keys.of("root"))
        assert (opened.status_code, opened.json()) == (202, {"agent": "echo", "action": "open"})
        await running.submit({**one_task("fail", rate_limit=rate), "project": "bank"}, None, **keys.of("bank"))
        await eventually_true(all_there)

        assert set(await seen("bank")) == {("rate", "bank"), ("breaker", "*")}
        assert set(await seen("operator")) == {("breaker", "*")}
        breaker = (await seen("operator"))["breaker", "*"]
        assert (breaker["state"], breaker["until"], breaker["reason"]) == ("open", None, "outage")
        assert breaker["by"].startswith("key:")
        assert (breaker["holders"], breaker["queue"]) == ([], [])


async def test_only_an_operator_of_all_projects_opens_a_breaker(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        refused = {
            name: await running.http.post(OPEN, headers=keys.of(name)) for name in ("submitter", "operator")
        }
        wrong = [
            await running.http.post("/v1/breakers/echo/explode", headers=keys.of("root")),
            await running.http.post(OPEN, json={"why": "?"}, headers=keys.of("root")),
        ]
        closed = await running.http.post("/v1/breakers/echo/close", headers=keys.of("root"))
        limits = (await running.http.get(LIMITS, headers=keys.of("root"))).json()["limits"]

    assert {name: answer.status_code for name, answer in refused.items()} == {"submitter": 403, "operator": 403}
    assert "all projects" in refused["operator"].json()["detail"]
    assert [answer.status_code for answer in wrong] == [422, 422]
    assert (closed.status_code, limits) == (202, [])
