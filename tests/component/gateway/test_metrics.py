"""Metrics of a gateway, scraped on its own port."""

from __future__ import annotations

from gateways import Running, gateway, one_task
from waiting import eventually_true

from anabranch.adapters.otel.telemetry import OpenTelemetry


async def scraped(running: Running) -> str:
    answer = await running.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text


async def test_answers_are_counted_by_the_template_of_their_route() -> None:
    """Unknown paths and ids must not become label values."""
    async with gateway(telemetry=OpenTelemetry("gateway", "0", measures=True)) as running:
        await running.submit({**one_task(), "request_id": "r1"})
        await running.submit({"task_groups": 7}, wait=None)
        await running.get("/v1/runs/r1")
        await running.http.get("/v1/runs/nobody")
        await running.http.get("/made/up")
        text = await scraped(running)

    counted = {line for line in text.splitlines() if line.startswith("anabranch_gateway_requests_total{")}
    assert {line.partition("{")[2].replace("} ", " ") for line in counted} == {
        'route="POST /v1/runs",status="2xx" 1.0',
        'route="POST /v1/runs",status="4xx" 1.0',
        'route="GET /v1/runs/{run}",status="2xx" 1.0',
        'route="GET /v1/runs/{run}",status="4xx" 1.0',
        'route="none",status="4xx" 1.0',
    }
    assert 'anabranch_gateway_request_duration_seconds_count{route="POST /v1/runs"} 2.0' in text


async def test_streams_are_shown_while_they_are_open() -> None:
    async with gateway(telemetry=OpenTelemetry("gateway", "0", measures=True)) as running:
        async with running.http.stream("GET", "/v1/events") as response:
            assert response.status_code == 200
            assert 'anabranch_gateway_streams{kind="sse"} 1.0' in await scraped(running)

        async def closed() -> bool:
            return 'anabranch_gateway_streams{kind="sse"} 0.0' in await scraped(running)

        await eventually_true(closed)
