"""Pause stops members from starting, wherever they wait; running ones end, and resume starts the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import orjson
import pytest

from anabranch import Task
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.run_view import RunView
from anabranch.ports import Outgoing, Write
from anabranch.runtime.reading.views import load_view
from anabranch.testing import System, SystemRun, system


class Naps:
    """An agent that takes a second, and records which members were called and which ended."""

    def __init__(self) -> None:
        self.called: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    async def __call__(self, task: Task) -> Any:
        self.called[f"{task.run_id}/{task.name}"] += 1
        await asyncio.sleep(1)
        self.ended[f"{task.run_id}/{task.name}"] += 1
        return task.inputs

    def of(self, run: SystemRun) -> int:
        return sum(count for name, count in self.called.items() if name.startswith(run.run_id))


@pytest.fixture
def naps() -> Naps:
    return Naps()


def agents(naps: Naps) -> dict[str, Any]:
    async def nap(task: Task) -> Any:
        return await naps(task)

    return {"nap": nap}


def wide(count: int, **more: Any) -> dict[str, Any]:
    rules = {"sequence": {"n": {"start": 0, "end": count - 1}}}
    task = {"name": "t", "agent": "nap", "inputs": "{n}", "result_keys": ["out"]}
    expansion = {"type": "custom", "transform_rules": rules}
    return {"task_groups": [{"name": "g", "tasks": [{**task, "expansion_config": expansion, **more}]}]}


def view_of(s: System, run: SystemRun) -> RunView:
    view = s.wait(load_view(s.embedded.store, s.embedded.names, run.run_id))
    assert view is not None
    return view


@pytest.mark.parametrize("more", [{}, {"max_concurrency": 3}], ids=["unbounded", "bounded"])
def test_no_member_starts_a_second_after_a_pause_and_each_runs_once(naps: Naps, more: dict[str, Any]) -> None:
    with system(agents=agents(naps), concurrency=8) as s:
        run = s.submit(wide(200, **more))
        s.advance(5.5)
        run.pause()
        s.advance(1)
        started = naps.of(run)
        s.advance(600)
        assert 0 < naps.of(run) == started < 200
        assert naps.ended == naps.called

        run.resume()
        result = run.result()

    assert result.results["out"] == list(range(200))
    assert set(naps.called.values()) == {1}


def test_other_runs_continue_meanwhile(naps: Naps) -> None:
    with system(agents=agents(naps), concurrency=4) as s:
        paused, other = s.submit(wide(50)), s.submit(wide(50))
        s.advance(2.5)
        paused.pause()
        assert other.result(timeout=60).completed
        assert naps.of(paused) < 50
        paused.resume()
        assert paused.result(timeout=60).completed


def test_status_and_events_say_what_is_paused(naps: Naps) -> None:
    with system(agents=agents(naps), concurrency=4) as s:
        run = s.submit(wide(50))
        s.advance(2)
        assert view_of(s, run).paused is False
        run.pause()
        run.pause()
        s.advance(5)
        assert view_of(s, run).paused is True
        run.resume()
        s.advance(3)
        assert view_of(s, run).paused is False
        run.result()
        types = [event["type"] for event in run.events() if event["type"].startswith("run.")]

    assert types == ["run.accepted", "run.paused", "run.resumed", "run.completed"]


def test_a_paused_run_can_be_cancelled(naps: Naps) -> None:
    with system(agents=agents(naps), concurrency=4) as s:
        run = s.submit(wide(50))
        s.advance(2.5)
        run.pause()
        s.advance(5)
        run.cancel()
        result = run.result(timeout=5)
        s.advance(3)
        assert view_of(s, run).paused is False

    assert result.status == "cancelled"
    assert result.executions["completed"] == naps.of(run)


@pytest.mark.parametrize("key", ["request_id", "run_id"])
def test_control_records_pause_and_resume(naps: Naps, key: str) -> None:
    def control(s: System, run: SystemRun, kind: str) -> None:
        named = run.request_id if key == "request_id" else run.run_id
        record = Outgoing(s.embedded.names.requests, None, orjson.dumps({"type": kind, key: named}))
        s.wait(s.embedded.log.publish([record]))

    with system(agents=agents(naps), concurrency=4) as s:
        run = s.submit(wide(40))
        s.advance(2.5)
        control(s, run, "pause")
        s.advance(600)
        assert naps.of(run) < 40
        control(s, run, "resume")
        assert run.result(timeout=60).completed


def test_a_worker_that_learns_of_a_pause_late_starts_no_waiting_chunk(naps: Naps) -> None:
    """The worker misses the message of the pause, and finds the flag at its next poll."""
    with system(agents=agents(naps), concurrency=4) as s:
        run = s.submit(wide(400))
        s.advance(3.5)

        async def lost(messages: Any) -> None:
            return None

        publish, s.embedded.notifier.publish = s.embedded.notifier.publish, lost  # type: ignore[method-assign]
        run.pause()
        s.advance(4)
        s.embedded.notifier.publish = publish  # type: ignore[method-assign]
        started = naps.of(run)
        s.advance(600)
        assert naps.of(run) == started < 400
        run.resume()
        assert run.result(timeout=600).completed

    assert set(naps.called.values()) == {1}


def test_a_leftover_pause_flag_delays_nothing(naps: Naps) -> None:
    with system(agents=agents(naps), concurrency=4) as s:
        run = s.submit(wide(100))
        s.advance(1.5)
        flag = s.embedded.names.pause_flag(run.session_id or "", run.run_id)
        s.wait(s.embedded.store.put([Write(flag, b"1", 3_600.0)]))
        assert run.result(timeout=120).completed
        returned = [GROUPS.decode(record.value).message for record in s.records("groups")]

    assert any(getattr(message, "reason", None) == "paused" for message in returned)
    assert set(naps.called.values()) == {1}
