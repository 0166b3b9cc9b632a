"""The audit log under attack: floods of refused calls, and records that no gateway wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway_keys import Keys, bearer
from gateways import Running, gateway, one_task
from small_requests import request, task
from waiting import eventually, eventually_true

from anabranch.core.names import Names, run_id_for
from anabranch.core.request.admission import DEFAULT_LIMITS
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.process.settings import Settings
from anabranch.testing import System
from anabranch_agency.intake.records import RequestContext
from anabranch_agency.intake.refusals import refuse_unprocessable
from anabranch_gateway.access import audit, refusal_limits
from anabranch_gateway.access.refusal_limits import BURST, SOURCE_BURST, SOURCE_RATE, RefusalLimits
from anabranch_gateway.webhooks.subscription import Subscription
from anabranch_gateway.webhooks.subscription_registry import SubscriptionRegistry

RUBBISH = (b"\xff", b"", b"[1]", b"7", b"null", b'{"project": []}', b'{"time": {}}')


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.yaml")


# --- floods ----------------------------------------------------------------------------------------


def test_one_source_does_not_exhaust_the_limit_of_others() -> None:
    limits = RefusalLimits()

    flood = [limits.admit("1.1.1.1", 0.0) for _ in range(10_000)]
    other = limits.admit("2.2.2.2", 0.0)
    later = [limits.admit("1.1.1.1", 10 / SOURCE_RATE) for _ in range(50)]

    assert sum(flood) == SOURCE_BURST
    assert other
    assert sum(later) == 10
    assert limits.summary() == "10,020 refused calls were not recorded one by one: 10,020 from 1.1.1.1"
    assert not limits.has_omitted


def test_all_sources_together_are_limited_and_so_is_the_memory_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refusal_limits, "MAX_SOURCES", 100)
    limits = RefusalLimits()

    admitted = sum(limits.admit(f"10.0.0.{number}", 0.0) for number in range(2_000))

    assert admitted == BURST
    assert len(limits._sources) == 100
    assert limits.summary().startswith("1,500 refused calls were not recorded one by one: 1 from 10.0.0.")


async def test_a_flood_of_refused_calls_is_few_records_and_a_summary(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SUMMARY_SECONDS", 0.01)
    calls = 100
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        await asyncio.gather(
            *(running.http.post("/v1/runs", json={}, headers=bearer("anb_x_y")) for _ in range(calls))
        )
        await running.submit(one_task(), **keys.of("submitter"))

        async def counted() -> bool:
            return sum(_count(each) for each in await _records(running, keys)) == calls

        await eventually_true(counted)
        records = await _records(running, keys)

    assert [each["action"] for each in records if each["outcome"] == "done"] == ["submit"]
    assert 2 <= len(records) < calls / 2
    assert all(each["remote"] in ("127.0.0.1", None) for each in records)


def _count(record: dict[str, Any]) -> int:
    """The number of refused calls that a record stands for."""
    if record["action"] == audit.SUMMARY_ACTION:
        return int(record["detail"].split()[0].replace(",", ""))
    return int(record["outcome"] == "refused")


# --- records that cannot be decoded ---------------------------------------------------------------


async def test_an_invalid_record_does_not_break_the_audit_log(keys: Keys) -> None:
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        log, topic = running.system.client.log, running.system.client.names.audit
        await log.publish([Outgoing(topic, None, each) for each in RUBBISH])
        await running.submit(one_task(), **keys.of("submitter"))

        async def noted() -> bool:
            return any(each.get("action") == "submit" for each in await _records(running, keys))

        await eventually_true(noted)
        of_shop = await _records(running, keys, "operator")

    assert [each["action"] for each in of_shop] == ["submit"]


async def test_an_invalid_record_does_not_break_the_dead_letters(keys: Keys) -> None:
    """Neither does a record with an impossible date, or with headers of a valid one."""
    headers = ({}, {"anabranch_code": b"member_failed"}, {"anabranch_code": b"\xff", "anabranch_reason": b"[1]"})
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        log, names = running.system.client.log, running.system.client.names
        await log.publish(
            [Outgoing(names.dead_letters, b"\xff", each, headers=h) for each in RUBBISH for h in headers]
        )
        await log.publish([Outgoing(names.requests, None, b'{"task_groups": 7, "project": "shop"}')])

        async def noted() -> bool:
            answer = await running.http.get("/v1/dead-letters", headers=keys.of("operator"))
            assert answer.status_code == 200
            return [each["code"] for each in answer.json()["letters"]] == ["schema"]

        await eventually_true(noted)
        every = await running.http.get("/v1/dead-letters", headers=keys.of("root"))
        grouped = await running.http.get("/v1/dead-letters/groups", headers=keys.of("root"))

    assert every.status_code == grouped.status_code == 200
    assert len(every.json()["letters"]) == len(RUBBISH) * len(headers) + 1


async def test_an_invalid_record_does_not_end_the_subscriptions(keys: Keys) -> None:
    good = Subscription("s1", "webhook", "https://example.com", ("run.*",), "shop", "o", 1.0)
    wrong = [good.encode().replace(b"1.0", b'"x"'), good.encode().replace(b'["run.*"]', b'"run.*"'), *RUBBISH]
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        log, names = running.system.client.log, running.system.client.names
        await log.publish([Outgoing(names.webhooks, f"bad{n}", each) for n, each in enumerate(wrong)])
        await log.publish([Outgoing(names.webhooks, "s1", good.encode())])
        found: SubscriptionRegistry = running.service._context.subscriptions
        await eventually(lambda: "s1" in found.all)
        answer = await running.http.get("/v1/subscriptions", headers=keys.of("root"))
        ended = await running.submit(one_task(), **keys.of("submitter"))

    assert [each["id"] for each in answer.json()["subscriptions"]] == ["s1"]
    assert ended.status_code == 200


def test_an_invalid_record_does_not_end_the_clients_reader(anabranch_system: Callable[..., System]) -> None:
    s = anabranch_system()
    names, request_id = s.embedded.names, "watched"
    run = s.wait(
        s.embedded.client.submit({**request(task("t", "sleep", {"seconds": 5})), "request_id": request_id})
    )
    values = [(each, {"ce_type": b"\xff"}) for each in RUBBISH]
    records = [Outgoing(names.results, run_id_for(request_id), each, headers=h) for each, h in values]

    s.wait(s.embedded.log.publish(records))
    outcome = s.wait(run.result())

    assert outcome.status == "completed"


def test_an_impossible_time_is_shown_as_the_nearest_possible_one() -> None:
    assert rfc3339(1e18) == "9999-12-31T23:59:59.000Z"
    assert rfc3339(-1e18) == "0001-01-01T00:00:00.000Z"


def test_a_request_with_an_impossible_year_is_refused_like_any_other() -> None:
    context = RequestContext(Names("p."), DEFAULT_LIMITS, None, 1)
    record = Incoming("p.requests", 0, 0, None, b"{}", (), 1e18)

    dead_letter, rejected = refuse_unprocessable(context, record, KeyError("x")).records

    assert dead_letter.topic == "p.dead-letters"
    assert dict(rejected.headers)["ce_time"].startswith(b"9999")


async def _records(running: Running, keys: Keys, name: str = "root") -> list[dict[str, Any]]:
    answer = await running.http.get("/v1/audit?limit=500", headers=keys.of(name))
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["records"]
    return found
