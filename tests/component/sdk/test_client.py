"""The client against a scripted agency: what it publishes, and which answers end which run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from scripted_agency import REQUEST, ScriptedAgency

from anabranch import Request, RequestRefused, RunFailed, SyncClient
from anabranch.core.names import run_id_for
from anabranch.core.request.models import Request as RequestModel
from anabranch.core.request.request_hash import body_hash


@pytest.fixture
async def agency() -> AsyncIterator[ScriptedAgency]:
    agency = ScriptedAgency()
    await agency.start()
    yield agency
    await agency.log.close()


def own_hash(document: object = REQUEST) -> str:
    return body_hash(RequestModel.model_validate(document).to_document())


async def test_a_request_is_published_in_its_canonical_form_under_its_id(agency: ScriptedAgency) -> None:
    async with agency.client() as client:
        run = await client.submit({**REQUEST, "labels": None}, traceparent="00-abc")

    ((key, body, headers),) = await agency.requests()
    assert (key, body) == ("r1", REQUEST)
    assert headers["traceparent"] == b"00-abc"
    assert (run.run_id, run.request_id, run.session_id) == (run_id_for("r1"), "r1", run_id_for("r1"))


async def test_a_request_without_id_gets_a_fresh_uuid7(agency: ScriptedAgency) -> None:
    request = Request.model_validate({"task_groups": REQUEST["task_groups"]})

    async with agency.client() as client:
        first, second = await client.submit(request), await client.submit(request)

    assert first.request_id is not None
    assert first.request_id != second.request_id
    assert first.request_id[14] == "7"


async def test_an_invalid_request_raises_all_its_errors_and_sends_nothing(agency: ScriptedAgency) -> None:
    wrong = {"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "a", "result_keys": []}]}], "steps": 1}

    async with agency.client() as client:
        with pytest.raises(RequestRefused) as refused:
            await client.submit(wrong)

    assert len(refused.value.errors) == 2
    assert await agency.requests() == []


async def test_the_final_record_ends_the_run(agency: ScriptedAgency) -> None:
    async with agency.client() as client:
        run = await client.submit(REQUEST)
        await agency.finish("other")
        await agency.finish(results={"x": 1}, warnings=["odd"])
        result = await run.result(timeout=5)

    assert (result.status, result.results, result.warnings) == ("completed", {"x": 1}, ("odd",))
    assert result.executions == {"total": 1, "completed": 1, "failed": 0, "skipped": 0}
    assert result.duration_seconds == 0.5


async def test_a_failed_run_raises_only_when_asked(agency: ScriptedAgency) -> None:
    failure = {
        "group": "g",
        "task": "t",
        "index": None,
        "error_type": "ValueError",
        "message": "no",
        "attempts": 1,
    }

    async with agency.client() as client:
        run = await client.submit(REQUEST)
        await agency.finish(status="failed", failures=[failure], results={"y": 2})

        assert (await run.result(timeout=5)).status == "failed"
        with pytest.raises(RunFailed, match="g/t: ValueError: no") as failed:
            await run.result(timeout=5, check=True)
    assert failed.value.results == {"y": 2}


async def test_waiting_ends_after_its_timeout_and_the_run_continues(agency: ScriptedAgency) -> None:
    async with agency.client() as client:
        run = await client.submit(REQUEST)
        with pytest.raises(TimeoutError):
            await run.result(timeout=0.01)
        await agency.finish()

        assert (await run.result(timeout=5)).completed


async def test_the_end_of_an_earlier_run_is_read_from_the_store(agency: ScriptedAgency) -> None:
    await agency.remember(own_hash(), agency.final(results={"x": 5}))

    async with agency.client() as client:
        run = await client.submit(REQUEST)

        assert (await run.result(timeout=5)).results == {"x": 5}


async def test_a_rejection_by_the_agency_ends_the_run(agency: ScriptedAgency) -> None:
    async with agency.client() as client:
        run = await client.submit(REQUEST)
        await agency.reject("unknown_agent")
        result = await run.result(timeout=5)

    assert (result.status, [error["code"] for error in result.errors]) == ("rejected", ["unknown_agent"])
    with pytest.raises(RequestRefused):
        result.check()


async def test_a_conflict_ends_only_the_request_that_is_not_the_run(agency: ScriptedAgency) -> None:
    """Two clients use one request id with different bodies; both receive the rejection and the final record."""
    other_body = {**REQUEST, "name": "another"}

    async with agency.client() as first, agency.client() as second:
        accepted = await first.submit(REQUEST)
        conflicting = await second.submit(other_body)
        await agency.remember(own_hash(), None)
        await agency.reject("request_id_conflict")
        await agency.finish(results={"x": 1})

        assert (await accepted.result(timeout=5)).status == "completed"
        assert (await conflicting.result(timeout=5)).status == "rejected"


async def test_results_come_as_they_are_published_each_once(agency: ScriptedAgency) -> None:
    async with agency.client() as client:
        run = await client.submit(REQUEST)
        await agency.publish_result("x", 1)
        await agency.publish_result("x", 1)
        await agency.finish(results={"x": 1, "late": 2})

        found = [(each.key, each.value) async for each in run.results()]

    assert found == [("x", 1), ("late", 2)]


async def test_events_come_in_order_with_members_one_by_one(agency: ScriptedAgency) -> None:
    async with agency.client() as client:
        run = await client.submit(REQUEST)
        await agency.publish_events([{"type": "run.accepted"}])
        await agency.publish_events([{"type": "task.started", "group": "g", "task": "t", "spans": ((0, 2),)}])
        await agency.publish_events([{"type": "run.completed"}])
        events = [event async for event in run.events()]

    assert [(event["type"], event["seq"], event["index"]) for event in events] == [
        ("run.accepted", 1, None),
        ("task.started", 2, 0),
        ("task.started", 3, 1),
        ("run.completed", 4, None),
    ]
    assert events[0]["time"] == "1970-01-01T00:00:01.500Z"


async def test_events_of_an_older_run_are_read_up_to_now(agency: ScriptedAgency) -> None:
    await agency.publish_events([{"type": "run.accepted"}])
    await agency.remember(own_hash(), None)

    async with agency.client() as client:
        run = await client.run("r1")
        events = [event["type"] async for event in run.events(until_now=True)]

    assert (run.run_id, events) == (run_id_for("r1"), ["run.accepted"])


async def test_cancel_publishes_a_control_record(agency: ScriptedAgency) -> None:
    async with agency.client() as client:
        run = await client.submit(REQUEST)
        await run.cancel()

    bodies = [body for _, body, _ in await agency.requests()]
    assert {"type": "cancel", "run_id": run.run_id} in bodies


async def test_a_run_is_found_by_either_id(agency: ScriptedAgency) -> None:
    async with agency.client() as client:
        by_request = await client.run_id_of("r1")

        assert by_request == run_id_for("r1")
        assert await client.run_id_of(by_request) == by_request


async def test_dependencies_on_earlier_runs_of_the_session_are_checked_by_the_agency(
    agency: ScriptedAgency,
) -> None:
    task = {"name": "t", "agent": "echo", "result_keys": ["x"], "dependencies": ["earlier"]}
    request = {"session_id": "s", "task_groups": [{"name": "g", "tasks": [task]}]}

    async with agency.client() as client:
        run = await client.submit(request)

    assert run.session_id == "s"


def test_the_synchronous_client() -> None:
    agency = ScriptedAgency()
    asyncio.run(agency.start())

    with SyncClient.over(agency.client()) as client:
        run = client.submit(REQUEST)
        asyncio.run(agency.remember(own_hash(), None))
        run.cancel()
        with pytest.raises(TimeoutError):
            run.result(timeout=0.01)
    assert run.run_id == run_id_for("r1")
