"""A store that begins again empty while runs are open: what they need is written again, nobody runs twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from anabranch import Task
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.testing import System
from small_requests import alive, array, request, task

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
    """A large array is made; half a minute later the store forgets it, and only then is it expanded."""
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


def test_an_expansion_that_is_met_before_the_pages_are_back_waits_for_them(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"much": much})
    run = s.submit(EXPANDED_LATER)
    s.advance(30)

    server_of(s).restart()
    s.publish("s", "go", 1)
    result = run.result(600)

    assert (result.status, result.results["out"]) == ("completed", list(range(4_000)))
    alive(s)


def test_members_that_run_while_the_store_begins_again_are_not_called_twice(anabranch_system: Start) -> None:
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


def test_the_final_record_stays_one_when_the_store_begins_again(anabranch_system: Start) -> None:
    """What is on the log is not told again by the owners that write the store's part again."""
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
