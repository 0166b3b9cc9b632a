"""Isolation of projects over HTTP: what a caller must not see of, or do to, another project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from gateway_keys import Keys
from gateways import HELLO, Running, gateway, one_task
from waiting import eventually, eventually_true

from anabranch.core.names import run_id_for
from anabranch.ports import Outgoing
from anabranch.runtime.process.settings import Settings

SECRET = "the bank's secret"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.yaml")


@pytest.fixture
def guarded(keys: Keys) -> Settings:
    return Settings(gateway_keys=str(keys.path))


async def on_kafka(running: Running, document: dict[str, Any]) -> None:
    """Publish a record on the requests topic, bypassing the gateway."""
    log, names = running.system.client.log, running.system.client.names
    await log.publish([Outgoing(names.requests, None, orjson.dumps(document))])


# --- refused requests ------------------------------------------------------------------------------


async def test_a_refused_body_is_shown_to_its_own_project_only(guarded: Settings, keys: Keys) -> None:
    """Another project has used the request id, and has a run of it."""
    refused = [
        {**one_task(), "request_id": "r1", "project": "bank", "context": {"pin": SECRET}},
        {"task_groups": SECRET, "request_id": "r1", "project": "bank"},
        {"type": SECRET, "request_id": "r1", "project": "bank"},
        {"type": SECRET, "request_id": "r1"},
    ]
    async with gateway(guarded) as running:
        await running.submit({**HELLO, "request_id": "r1"}, **keys.of("submitter"))
        for each in refused:
            await on_kafka(running, each)

        async def all_there() -> bool:
            return len(await _dead_letters(running, keys.of("root"))) == len(refused)

        await eventually_true(all_there)
        seen = {name: await _dead_letters(running, keys.of(name)) for name in ("operator", "bank", "default")}
        by_run = await _dead_letters(running, keys.of("operator"), run="r1")
        ids = [each["id"] for each in await _dead_letters(running, keys.of("root"))]
        taken = [
            (await running.http.get(f"/v1/dead-letters/{each}", headers=keys.of("operator"))).status_code
            for each in ids
        ]
        decided = await running.http.post(
            "/v1/dead-letters/redrive", json={"ids": ids[:1]}, headers=keys.of("operator")
        )

    assert {name: len(found) for name, found in seen.items()} == {"operator": 0, "bank": 3, "default": 1}
    assert by_run == []
    assert taken == [404] * len(refused)
    assert decided.status_code == 404


async def test_a_decision_by_signature_affects_only_the_callers_dead_letters(
    guarded: Settings, keys: Keys
) -> None:
    async with gateway(guarded) as running:
        for project in ("shop", "bank"):
            await on_kafka(running, {"task_groups": 7, "project": project})

        async def both() -> bool:
            return len(await _dead_letters(running, keys.of("root"))) == 2

        await eventually_true(both)
        [signature] = {each["signature"] for each in await _dead_letters(running, keys.of("root"))}
        done = await running.http.post(
            "/v1/dead-letters/dismiss", json={"signature": signature}, headers=keys.of("operator")
        )
        left = await _dead_letters(running, keys.of("bank"))

    assert len(done.json()["dismissed"]) == 1
    assert [each["state"] for each in left] == ["open"]


# --- sessions ----------------------------------------------------------------------------------------


async def test_a_plan_reveals_nothing_about_the_session_of_another_project(guarded: Settings, keys: Keys) -> None:
    """The error for an unknown dependency revealed whether a key exists."""
    async with gateway(guarded) as running:
        await running.submit({**one_task(), "session_id": "s", "context": {"there": 1}}, **keys.of("submitter"))
        asked = {
            (name, key): (
                await running.http.post(
                    "/v1/plan",
                    json={**one_task(dependencies=[key]), "session_id": "s"},
                    headers=keys.of(name),
                )
            ).json()
            for name in ("submitter", "bank")
            for key in ("there", "missing")
        }
        submitted = [
            (
                await running.submit({**one_task(dependencies=[key]), "session_id": "s"}, None, **keys.of("bank"))
            ).json()
            for key in ("there", "missing")
        ]
        named = await running.http.post(
            "/v1/plan", json={**one_task(), "session_id": "s", "project": "shop"}, headers=keys.of("bank")
        )

    codes = {who: [error["code"] for error in found["errors"]] for who, found in asked.items()}
    theirs = ["session_of_another_project", "unknown_dependency"]
    assert codes == {
        ("submitter", "there"): [],
        ("submitter", "missing"): ["unknown_dependency"],
        ("bank", "there"): theirs,
        ("bank", "missing"): theirs,
    }
    assert [each["errors"][0]["code"] for each in submitted] == ["unknown_dependency"] * 2
    assert (named.status_code, named.json()["code"]) == (403, "forbidden")


async def test_the_session_of_another_projects_run_cannot_be_named_even_before_the_run(
    guarded: Settings, keys: Keys
) -> None:
    async with gateway(guarded) as running:
        early = {
            name: await running.submit({**one_task(), "session_id": run_id_for("r1")}, None, **keys.of(name))
            for name in ("bank", "default")
        }
        first = await running.submit({**one_task(), "request_id": "r1"}, **keys.of("submitter"))
        more = await running.submit({**one_task(), "session_id": run_id_for("r1")}, **keys.of("submitter"))
        late = await running.submit({**one_task(), "session_id": run_id_for("r1")}, None, **keys.of("bank"))

    assert [(each.status_code, each.json()["code"]) for each in (*early.values(), late)] == [
        (409, "session_of_another_project")
    ] * 3
    assert (first.status_code, more.status_code) == (200, 200)


async def test_a_request_id_that_is_the_text_of_anothers_run_id_hides_nothing(
    guarded: Settings, keys: Keys
) -> None:
    """The session of a run was looked up by its run id and by request ids, under keys of one form."""
    run_id = run_id_for("r1")
    async with gateway(guarded) as running:
        await running.submit({**one_task(), "request_id": "r1"}, **keys.of("submitter"))
        await running.submit({**one_task(), "request_id": run_id, "session_id": "other"}, **keys.of("bank"))

        async def both() -> bool:
            runs = (await running.http.get("/v1/runs", headers=keys.of("root"))).json()["runs"]
            return {each["request_id"] for each in runs} == {"r1", run_id}

        await eventually_true(both)
        listed = (await running.http.get("/v1/runs", headers=keys.of("viewer"))).json()["runs"]
        views = [
            (await running.http.get(f"/v1/runs/{each}", headers=keys.of("viewer"))).json()
            for each in (run_id, "r1")
        ]
        theirs = await running.http.get(f"/v1/runs/{run_id_for(run_id)}", headers=keys.of("bank"))

    assert [each["run_id"] for each in listed] == [run_id]
    assert [(each["run_id"], list(each["groups"])) for each in views] == [(run_id, ["g"])] * 2
    assert theirs.json()["request_id"] == run_id


# --- subscriptions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{"kind": "webhook", "url": "https://example.com"}, {"kind": "channel"}])
async def test_a_subscription_needs_a_session_of_the_callers_project(
    guarded: Settings, keys: Keys, kind: dict[str, Any]
) -> None:
    wanted = kind | ({"channel": "anabranch.sub:c"} if kind["kind"] == "channel" else {})
    async with gateway(guarded) as running:
        await running.submit({**one_task(), "session_id": "s"}, **keys.of("submitter"))
        own_session = (await running.submit(one_task(), **keys.of("submitter"))).json()["session_id"]
        status = {
            (name, session_id): (
                await running.http.post(
                    "/v1/subscriptions", json={**wanted, "session_id": session_id}, headers=keys.of(name)
                )
            ).status_code
            for name in ("submitter", "bank", "default")
            for session_id in ("s", own_session, "nobodys")
        }

    allowed = {path for path, code in status.items() if code == 201}
    assert allowed == {("submitter", "s"), ("submitter", own_session)}
    assert {code for path, code in status.items() if path not in allowed} == {404}


async def test_events_of_a_channel_are_those_of_the_subscribers_project(guarded: Settings, keys: Keys) -> None:
    received: list[bytes | None] = []
    async with gateway(guarded) as running:
        await running.submit({**one_task(), "session_id": "s"}, **keys.of("submitter"))
        await running.system.notifier.subscribe("anabranch.sub:c", received.append)
        wanted = {"kind": "channel", "channel": "anabranch.sub:c", "session_id": "s", "types": ["run.completed"]}
        made = await running.http.post("/v1/subscriptions", json=wanted, headers=keys.of("submitter"))
        await running.submit({**one_task(), "session_id": "s", "request_id": "r2"}, **keys.of("submitter"))
        await eventually(lambda: received)

    assert made.status_code == 201
    assert orjson.loads(received[0] or b"")["run_id"] == run_id_for("r2")


async def _dead_letters(running: Running, headers: dict[str, str], **query: str) -> list[dict[str, Any]]:
    answer = await running.http.get("/v1/dead-letters", params=query, headers=headers)
    found: list[dict[str, Any]] = answer.json()["letters"]
    return found
