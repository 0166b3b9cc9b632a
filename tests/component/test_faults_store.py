"""A store that restarts empty while runs are open: their data is restored, and no member runs twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from small_requests import alive, array, request, task

from anabranch import Task
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.runtime.ownership.loss_detector import LossDetector
from anabranch.testing import System

Start = Callable[..., System]


def server_of(s: System) -> MemoryServer:
    store = s.embedded.store
    assert isinstance(store, MemoryStore)
    return store._server


async def much(task: Task) -> list[dict[str, Any]]:
    """More than a record holds."""
    return [{"n": n, "pad": "x" * 300} for n in range(4_000)]


WANTED = {"dependencies": ["made"], "external_dependencies": ["go"], "expansion_config": array("made")}
EXPANDED_LATER = request(task("made", "much"), task("out", inputs="{item.n}", **WANTED), session_id="s")


def test_pages_of_an_open_run_are_written_again(anabranch_system: Start) -> None:
    """A large array is produced; half a minute later the store loses it, and only then is it expanded."""
    s = anabranch_system(agents={"much": much})
    run = s.submit(EXPANDED_LATER)
    s.advance(30)

    server_of(s).restart()
    s.advance(10)
    s.publish("s", "go", 1)
    result = run.result(600)

    assert (result.status, result.results["out"]) == ("completed", list(range(4_000)))
    assert len(s.value("s", "made")) == 4_000
    alive(s)


def test_an_expansion_waits_until_its_pages_are_restored(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"much": much})
    run = s.submit(EXPANDED_LATER)
    s.advance(30)

    server_of(s).restart()
    s.publish("s", "go", 1)
    result = run.result(600)

    assert (result.status, result.results["out"]) == ("completed", list(range(4_000)))
    alive(s)


def test_members_that_run_while_the_store_restarts_empty_are_not_called_twice(anabranch_system: Start) -> None:
    calls: Counter[str] = Counter()

    async def slow(task: Task) -> int:
        calls[task.name] += 1
        await asyncio.sleep(40)
        return int(task.inputs)

    s = anabranch_system(agents={"slow": slow})
    run = s.submit(request(task("out", "slow", "{item}", expansion_config=array(list(range(100))))))
    s.advance(10)

    server_of(s).restart()
    result = run.result(3_000)

    assert (result.status, result.results["out"]) == ("completed", list(range(100)))
    assert set(calls.values()) == {1}
    alive(s)


def test_there_is_one_final_record_when_the_store_restarts_empty(anabranch_system: Start) -> None:
    """Owners that restore the store do not repeat what is on the log."""
    s = anabranch_system()
    s.run(request(task("t", inputs=1), session_id="s", request_id="one"), timeout=60)
    open_run = s.submit(request(task("t2", inputs=1, external_dependencies=["go"]), session_id="s"))
    s.advance(20)
    before = len(s.records("results"))

    server_of(s).restart()
    s.advance(20)

    assert len(s.records("results")) == before
    s.publish("s", "go", 1)
    assert open_run.result(60).status == "completed"
    alive(s)


def flush(server: MemoryServer) -> None:
    """Lose all data, and keep the identity."""
    server.restart()
    server._incarnation -= 1


@pytest.mark.parametrize("forget", [MemoryServer.restart, flush], ids=["restarted", "flushed"])
def test_an_emptied_store_gets_the_data_of_ended_runs_again(
    anabranch_system: Start, forget: Callable[[MemoryServer], None]
) -> None:
    """Values, pages of a large one, and the tombstone: the request is not run again."""
    calls: Counter[str] = Counter()

    async def counted(task: Task) -> Any:
        calls[task.name] += 1
        return await much(task)

    s = anabranch_system(agents={"much": counted})
    first = request(task("made", "much"), task("small", inputs=7), session_id="s", request_id="one")
    before = s.run(first, timeout=60)
    s.advance(3_600)

    forget(server_of(s))
    s.advance(10)

    assert server_of(s).get(s.embedded.client.names.tombstone(before.run_id)) is not None

    assert s.value("s", "small") == 7
    assert len(s.value("s", "made")) == 4_000
    again = s.run(first, timeout=60)
    assert (again.run_id, again.results["small"]) == (before.run_id, 7)
    assert calls == {"made": 1}
    alive(s)


@pytest.mark.parametrize("forget", [MemoryServer.restart, flush], ids=["restarted", "flushed"])
def test_a_repeated_request_is_not_admitted_before_the_loss_of_the_store_is_noticed(
    anabranch_system: Start, monkeypatch: pytest.MonkeyPatch, forget: Callable[[MemoryServer], None]
) -> None:
    """Its owner has forgotten it, and queries a store that was just emptied: it must not trust the answer."""
    monkeypatch.setattr("anabranch_agency.run.state.TOMBSTONE_BYTES", 0)
    s = anabranch_system()
    first = request(task("t", inputs=7), session_id="s", request_id="one")
    before = s.run(first, timeout=60)
    s.advance(3_600.3)  # owners look at the store each second

    forget(server_of(s))
    again = s.run(first, timeout=60)
    s.advance(30)

    bodies = [orjson.loads(record.value) for record in s.records("results")]
    accepted = [body["accepted_at"] for body in bodies if "accepted_at" in body]
    assert (again.run_id, again.results) == (before.run_id, {"t": 7})
    assert (len(accepted) > 1, len(set(accepted))) == (True, 1)
    alive(s)


@pytest.mark.parametrize("topic", ["runs", "groups"])
def test_a_store_that_is_emptied_during_its_restoration_is_restored_again(
    anabranch_system: Start, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """It is emptied, with the same identity, just before an owner marks it as restored."""
    s = anabranch_system()
    before = s.run(request(task("t", inputs=7), session_id="s", request_id="one"), timeout=60)
    s.advance(3_600)
    names, noting, times = s.embedded.names, LossDetector.mark_restored, iter([1])
    key, name = (before.run_id, names.runs) if topic == "runs" else ("s", names.groups)
    partition = s.wait(s.embedded.log.partition_for(name, key))

    async def emptied_first(marks: LossDetector, partitions: Sequence[int]) -> None:
        if marks._topic == name and partition in partitions and next(times, None):
            flush(server_of(s))
        await noting(marks, partitions)

    monkeypatch.setattr(LossDetector, "mark_restored", emptied_first)
    flush(server_of(s))
    s.advance(30)

    assert next(times, None) is None
    assert server_of(s).get(names.tombstone(before.run_id)) is not None
    assert s.value("s", "t") == 7
    alive(s)


def test_expired_data_is_not_restored(anabranch_system: Start) -> None:
    s = anabranch_system(result_ttl=600.0)
    short = {"timeout": 60, "session_id": "s"}
    s.run(request(task("old", inputs=1), **short), timeout=60)
    s.advance(700)
    s.run(request(task("new", inputs=2), **short), timeout=60)
    s.advance(60)

    server_of(s).restart()
    s.advance(10)

    assert (s.value("s", "old"), s.value("s", "new")) == (None, 2)
    s.advance(560)
    assert s.value("s", "new") is None, "it lives no longer than it would have"
    alive(s)


def test_a_request_repeated_after_many_others_is_answered_by_the_store(
    anabranch_system: Start,
) -> None:
    """By then its owner has evicted it: tombstones in memory are bounded by their size."""
    calls: Counter[str] = Counter()

    async def counted(task: Task) -> str:
        calls[task.run_id] += 1
        return "x" * 60_000

    s = anabranch_system(agents={"counted": counted}, partitions={"runs": 1})
    documents = [request(task("t", "counted"), request_id=f"r{n}") for n in range(20)]
    first = [s.run(document, timeout=60).run_id for document in documents]

    again = [s.run(document, timeout=60).run_id for document in documents]

    assert again == first
    assert set(calls.values()) == {1}
    alive(s)


# --- a store that comes back as it was minutes ago ---------------------------------------------------------


def snapshot(server: MemoryServer) -> Callable[[], None]:
    """A function that resets the server to its present data."""
    values = dict(server._values)
    expiry = {key: server._expiry.due_at(key) for key in server._expiry}

    def restore() -> None:
        server.restart()
        server._values.update(values)
        for key, at in expiry.items():
            server._expiry.schedule(key, at or 0.0)

    return restore


def test_a_run_that_ended_after_the_snapshot_stays_ended(anabranch_system: Start) -> None:
    """The snapshot has it as open, and as the latest run: its later records are read again from the log."""
    s = anabranch_system()
    body = request(task("t", inputs=1, external_dependencies=["go"]), session_id="s", request_id="q")
    run = s.submit(body)
    s.advance(60)
    restore = snapshot(server_of(s))
    s.publish("s", "go", 1)
    assert run.result(60).status == "completed"
    s.run(request(task("other", inputs=2), session_id="s"), timeout=60)
    s.advance(120)

    restore()
    s.advance(20)
    s.submit(body)
    s.advance(20)

    kinds = [dict(each.headers)["ce_type"] for each in s.records("results") if each.key == run.run_id.encode()]
    assert kinds.count(b"run.completed") == 2, "told once, and once more to whoever asked again"
    assert b"run.failed" not in kinds
    assert (s.value("s", "t"), s.value("s", "other")) == (1, 2)
    alive(s)
