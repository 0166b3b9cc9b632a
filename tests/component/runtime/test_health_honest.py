"""Health of a service that makes no progress: work without decisions, a blocked loop, a dead thread."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest
from small_requests import alive, array, request, task

from anabranch import Task
from anabranch.adapters.kafka.polling import PollingThread
from anabranch.core.errors import ServerUnavailable
from anabranch.ports import Standing
from anabranch.runtime.ownership.watchdog import Progress, Watchdog
from anabranch.runtime.process.health import Health, HealthServer
from anabranch.testing import ServiceStopped, System, VirtualClock, VirtualLoop

Start = Callable[..., System]


def health(s: System, name: str) -> Health:
    return next(service.health() for service in s.embedded.services if service.name == name)


def handler_of(s: System, name: str) -> Any:
    service: Any = next(service for service in s.embedded.services if service.name == name)
    return service._owner._handler


def test_an_owner_whose_turn_never_ends_is_not_live(anabranch_system: Start, monkeypatch: Any) -> None:
    s = anabranch_system(stall_after=30.0)

    async def stuck(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(handler_of(s, "taskgroup"), "prepare", stuck)
    s.submit(request(task("t")))
    s.advance(20)
    early = health(s, "taskgroup")
    with pytest.raises(ServiceStopped, match="none was decided"):
        s.advance(40)

    found = health(s, "taskgroup")
    assert (early.live, found.live, found.ready) == (True, False, False)
    assert "groups/" in found.detail
    assert health(s, "agency").live


def test_missing_records_are_detected_by_the_logs_lag(anabranch_system: Start, monkeypatch: Any) -> None:
    s = anabranch_system(stall_after=30.0)
    service: Any = next(each for each in s.embedded.services if each.name == "taskgroup")
    monkeypatch.setattr(service._owner, "deliver", lambda *_: None)
    for membership in service._resources.log._inner._memberships:
        monkeypatch.setattr(membership._listener, "deliver", lambda *_: None)
    s.submit(request(task("t")))

    with pytest.raises(ServiceStopped, match="none was decided"):
        s.advance(90)


@pytest.mark.parametrize(("handled", "stands"), [(0, True), (1, False)])
def test_a_lag_counts_until_it_is_gone_however_rarely_the_log_is_queried(handled: int, stands: bool) -> None:
    """The log reported a record that had not arrived. It arrives during the delayed answer; none follows."""

    class Behind:
        asked = 0

        async def group_standing(self, group: str, topic: str) -> dict[int, Standing]:
            self.asked += 1
            return {3: Standing(None, 0, 1, "me")}

    async def watched() -> tuple[int, str | None]:
        progress, log = Progress(()), Behind()
        clock = VirtualClock(asyncio.get_running_loop())
        watch = Watchdog(cast(Any, log), "g", "t", clock, lambda: {3: progress}, patience=4.0)
        running = asyncio.create_task(watch.run())
        await asyncio.sleep(1.5)
        for offset in range(handled):
            progress.advance(1, offset)
        await asyncio.sleep(9)
        running.cancel()
        return log.asked, watch.unhealthy_reason

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        asked, unhealthy_reason = runner.run(watched())

    assert asked == 1
    assert (unhealthy_reason is not None) == stands


def test_an_event_manager_that_handles_nothing_is_not_live(anabranch_system: Start, monkeypatch: Any) -> None:
    s = anabranch_system(stall_after=30.0)
    service: Any = next(each for each in s.embedded.services if each.name == "eventmanager")
    monkeypatch.setattr(service.projector, "handle", lambda *_, **__: None)
    s.submit(request(task("t")))

    with pytest.raises(ServiceStopped, match=r"eventmanager .*none was decided"):
        s.advance(90)


def test_an_unavailable_store_makes_a_service_not_ready_but_leaves_it_live(
    anabranch_system: Start, monkeypatch: Any
) -> None:
    s = anabranch_system(stall_after=30.0)
    parts = handler_of(s, "taskgroup")
    prepare, away = parts.prepare, [True]

    async def refused(*given: Any) -> None:
        if away:
            raise ServerUnavailable("Redis", "here", "no answer")
        await prepare(*given)

    monkeypatch.setattr(parts, "prepare", refused)
    run = s.submit(request(task("t")))
    s.advance(300)
    found = health(s, "taskgroup")
    away.clear()

    assert (found.live, found.ready) == (True, False)
    assert "Redis" in found.detail
    assert run.result(60).status == "completed"
    s.advance(5)
    assert health(s, "taskgroup").ready


def test_busy_workers_and_idle_owners_are_healthy(anabranch_system: Start) -> None:
    async def long(task: Task) -> int:
        await asyncio.sleep(7_200)
        return 1

    s = anabranch_system(agents={"long": long}, concurrency=2, stall_after=30.0)
    run = s.submit(request(task("t", "long", expansion_config=array(list(range(4))))))
    s.advance(3_600)

    assert {each.name: each.health().ready for each in s.embedded.services} == dict.fromkeys(
        ("agency", "taskgroup", "eventmanager"), True
    )
    assert run.result(30_000).status == "completed"
    alive(s)


def test_time_in_which_the_whole_process_was_suspended_does_not_count() -> None:
    progress = Progress(deque([1]))
    progress.check(1.0, unread=False)
    for _ in range(10):
        progress.check(1.0, unread=False)
    stood = progress.stalled_for
    progress.advance(1, 0)
    progress.check(1.0, unread=True)

    assert (stood, progress.stalled_for, progress.following) == (10.0, 0.0, 1)


def test_a_wait_for_a_server_is_no_stall() -> None:
    progress = Progress(deque([1]))
    progress.waits[1] = "Redis is away"
    for _ in range(10):
        progress.check(1.0, unread=True)

    assert progress.stalled_for == 0.0


async def test_a_blocked_loop_is_reported_by_another_thread() -> None:
    """The loop is blocked by a thread's event; meanwhile the server's own thread answers the probe."""
    server = HealthServer(lambda: Health(True, True), "taskgroup", patience=0.2)
    port = await server.start(0, "127.0.0.1")
    answers: list[tuple[int, dict[str, Any]]] = []
    done = threading.Event()

    def probe() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (answers and answers[-1][0] == 503):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/livez")
            response = connection.getresponse()
            answers.append((response.status, json.loads(response.read())))
            connection.close()
        done.set()

    thread = threading.Thread(target=probe)
    thread.start()
    done.wait(30)  # holds the loop up, as an agent would that blocks
    thread.join()
    await server.stop()

    assert answers[-1][0] == 503
    assert "busy" in answers[-1][1]["detail"]
    assert answers[-1][1]["live"] is False


async def test_a_polling_thread_that_ended_by_itself_is_unhealthy() -> None:
    thread = PollingThread("poller", lambda: None, lambda: None)
    thread._thread = threading.Thread(target=lambda: None, name="poller")
    before = thread.unhealthy_reason()
    thread.start()
    await asyncio.to_thread(thread._thread.join, 10)

    assert before is None
    assert "poller" in (thread.unhealthy_reason() or "")
