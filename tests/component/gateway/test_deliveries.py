"""Webhook deliveries next to unavailable endpoints: shares of queues and threads, and circuit breakers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_keys import Keys
from gateways import HELLO, Running, gateway, one_task
from waiting import eventually, eventually_true
from webhook_receiver import Receiver

from anabranch.core.names import run_id_for
from anabranch.ports import Outgoing
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.settings import Settings
from anabranch_gateway.webhooks import circuit_breaker, dispatcher, fair_shares
from anabranch_gateway.webhooks.circuit_breaker import FAILURES_TO_OPEN, CircuitBreaker
from anabranch_gateway.webhooks.fair_shares import (
    ENDPOINT_THREADS,
    MAX_PENDING_OF_ENDPOINT,
    PROJECT_UNPROVEN_THREADS,
    Endpoint,
    PendingShares,
    ThreadShares,
)
from anabranch_gateway.webhooks.subscription import Subscription

SOON = 5.0
"""Far below the ten seconds that an attempt waits for a response."""


class Silent:
    """An endpoint that accepts connections and never responds; `stop` resets them."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)

    def url(self, name: object) -> str:
        """One of any number of URLs of it."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/{name}"

    def stop(self) -> None:
        self._socket.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    endpoint = Silent()
    yield endpoint
    endpoint.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_HTTP_ALLOW", "127.0.0.0/8")


async def _subscribe(running: Running, url: str, headers: dict[str, str] | None = None) -> None:
    made = await running.http.post(
        "/v1/subscriptions", json={"kind": "webhook", "url": url, "types": ["*"]}, headers=headers
    )
    assert made.status_code == 201


# --- the whole ---------------------------------------------------------------------------------------


async def test_six_silent_endpoints_do_not_delay_others(silent: Silent, receiver: Receiver) -> None:
    async with gateway() as running:
        for number in range(6):
            await _subscribe(running, silent.url(number))
        await _subscribe(running, receiver.url)

        for name in ("r1", "r2", "r3"):
            await running.submit({**HELLO, "request_id": name})
            await eventually(lambda name=name: run_id_for(name) in _ended(receiver), SOON)
        silent.stop()


async def test_many_endpoints_of_one_project_do_not_delay_another_project(
    silent: Silent, receiver: Receiver, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys.yaml")
    async with gateway(Settings(gateway_keys=str(keys.path))) as running:
        for number in range(80):
            await _subscribe(running, silent.url(number), keys.of("bank"))
        await _subscribe(running, receiver.url, keys.of("submitter"))

        await running.submit({**HELLO, "request_id": "theirs"}, **keys.of("bank"))
        await running.submit({**HELLO, "request_id": "ours"}, **keys.of("submitter"))
        await eventually(lambda: run_id_for("ours") in _ended(receiver), SOON)
        silent.stop()


async def test_a_delivery_that_hits_a_bug_becomes_a_dead_letter_and_the_next_one_is_sent(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its offset is committed too: otherwise it would be delivered again after each start."""
    monkeypatch.setattr(dispatcher, "RETRY_SECONDS", ())
    spoilt = Subscription("s1", "webhook", receiver.url, ("run.completed",), "default", "o", 1.0, secret="whsec_x")
    async with gateway() as running:
        log, topic = running.system.client.log, running.system.client.names.webhooks
        await log.publish([Outgoing(topic, spoilt.id, spoilt.encode())])
        wanted = {"kind": "webhook", "url": receiver.url, "types": ["run.completed"]}
        await running.http.post("/v1/subscriptions", json=wanted)
        await running.submit(one_task())
        await eventually(lambda: len(receiver.got) == 1)

        async def has_dead_letter() -> bool:
            return bool((await running.get("/v1/dead-letters"))["letters"])

        await eventually_true(has_dead_letter)
        [dead_letter] = (await running.get("/v1/dead-letters"))["letters"]

    assert dead_letter["code"] == "webhook_failed"
    assert "internal error of the gateway" in dead_letter["reason"]


def _ended(receiver: Receiver) -> set[str]:
    return {event["run_id"] for event in receiver.events if event["type"] == "run.completed"}


# --- waiting -----------------------------------------------------------------------------------------


def test_pending_deliveries_of_one_endpoint_are_bounded_without_limiting_others() -> None:
    shares = PendingShares()
    one, other = Endpoint("shop", "http://one"), Endpoint("shop", "http://two")
    for _ in range(MAX_PENDING_OF_ENDPOINT):
        assert shares.refusal(one) is None
        shares.add(one)

    assert shares.refusal(one) == "500 deliveries are pending for http://one"
    assert shares.refusal(other) is None
    shares.remove(one)
    assert shares.refusal(one) is None


def test_when_all_is_full_the_project_with_more_than_its_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_shares, "MAX_PENDING", 100)
    shares = PendingShares()
    for number in range(100):
        shares.add(Endpoint("bank", f"http://{number}"))
    shares.add(Endpoint("shop", "http://x"))

    assert "100 of them of bank" in (shares.refusal(Endpoint("bank", "http://new")) or "")
    assert shares.refusal(Endpoint("shop", "http://x")) is None
    assert shares.refusal(Endpoint("new", "http://x")) is None


def test_ended_deliveries_are_no_longer_counted() -> None:
    shares = PendingShares()
    endpoint = Endpoint("shop", "http://x")
    shares.add(endpoint)
    shares.remove(endpoint)

    assert not shares.has(endpoint)
    assert (len(shares._projects), len(shares._endpoints)) == (0, 0)


# --- threads -----------------------------------------------------------------------------------------


class Attempts:
    """Attempts that hold their thread until they are released."""

    def __init__(self, *proven: Endpoint) -> None:
        self.shares = ThreadShares(lambda endpoint: endpoint in proven)
        self.running: list[Endpoint] = []
        self._ends: dict[Endpoint, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, endpoint: Endpoint, count: int = 1) -> None:
        self._ends.setdefault(endpoint, asyncio.Event())
        self._tasks += [asyncio.create_task(self._attempt(endpoint)) for _ in range(count)]
        await self.settled()

    async def settled(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def end(self, endpoint: Endpoint) -> None:
        self._ends[endpoint].set()
        await self.settled()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _attempt(self, endpoint: Endpoint) -> None:
        async with self.shares.thread(endpoint):
            self.running.append(endpoint)
            await self._ends[endpoint].wait()
        self.running.remove(endpoint)


async def test_an_endpoint_has_one_thread_until_it_has_answered_and_then_a_few() -> None:
    new, proven = Endpoint("shop", "http://new"), Endpoint("shop", "http://proven")
    attempts = Attempts(proven)

    await attempts.start(new, 10)
    await attempts.start(proven, 10)

    assert attempts.running.count(new) == 1
    assert attempts.running.count(proven) == ENDPOINT_THREADS
    await attempts.stop()


async def test_a_project_with_many_silent_endpoints_leaves_threads_for_others() -> None:
    attempts = Attempts(Endpoint("bank", "http://proven"))
    for number in range(100):
        await attempts.start(Endpoint("bank", f"http://{number}"))
    await attempts.start(Endpoint("bank", "http://proven"), 10)
    await attempts.start(Endpoint("shop", "http://new"))

    assert len(attempts.running) == PROJECT_UNPROVEN_THREADS + ENDPOINT_THREADS + 1
    assert attempts.running[-1] == Endpoint("shop", "http://new")
    await attempts.stop()


async def test_free_threads_are_assigned_to_projects_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_shares, "THREADS", 1)
    first = Endpoint("bank", "http://0")
    attempts = Attempts()
    await attempts.start(first)
    for number in range(1, 50):
        await attempts.start(Endpoint("bank", f"http://{number}"))
    await attempts.start(Endpoint("shop", "http://x"))

    await attempts.end(first)
    second = attempts.running[0]
    await attempts.end(second)

    assert Endpoint("shop", "http://x") in (second, attempts.running[0])
    await attempts.stop()


async def test_a_cancelled_attempt_leaves_the_queue() -> None:
    attempts = Attempts()
    await attempts.start(Endpoint("shop", "http://x"), 3)

    await attempts.stop()

    assert attempts.shares._waiting == {}
    assert attempts.shares._used == attempts.shares._unproven == {}


# --- breakers ----------------------------------------------------------------------------------------


def _opened() -> CircuitBreaker:
    breaker = CircuitBreaker(SystemClock())
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed("no answer")
    return breaker


async def test_a_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = CircuitBreaker(SystemClock())
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.failed("no answer")
    breaker.succeeded()
    breaker.failed("no answer")

    assert not breaker.is_open
    assert await breaker.admission() is None
    assert _opened().is_open


@pytest.mark.parametrize(("reason", "shared"), [(None, None), ("still away", "still away")])
async def test_one_attempt_probes_and_the_others_share_its_outcome(
    monkeypatch: pytest.MonkeyPatch, reason: str | None, shared: str | None
) -> None:
    monkeypatch.setattr(circuit_breaker, "OPEN_SECONDS", 0.0)
    breaker = _opened()

    probe = await breaker.admission()
    waiting = [asyncio.create_task(breaker.admission()) for _ in range(10)]
    await asyncio.sleep(0)
    assert probe is None
    assert not any(each.done() for each in waiting)
    breaker.succeeded() if reason is None else breaker.failed(reason)

    assert await asyncio.gather(*waiting) == [shared] * 10
    assert breaker.is_open is (reason is not None)


async def test_an_open_breaker_keeps_attempts_waiting_and_a_late_success_closes_it() -> None:
    breaker = _opened()
    waiting: asyncio.Task[Any] = asyncio.create_task(breaker.admission())
    await asyncio.sleep(0)

    breaker.failed("one that was under way")
    assert not waiting.done()
    breaker.succeeded()

    assert await waiting is None
