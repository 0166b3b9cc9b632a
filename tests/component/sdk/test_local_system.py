"""A client without arguments inside an embedded system works on that system, from wherever an agent makes it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import dev_agents
import pytest

from anabranch import Client, Misconfigured, SyncClient, Task, agent
from anabranch.embedded import embedded
from anabranch.sdk.local_system import local_system
from anabranch.testing import system


def one_task(agent_name: str, **task: Any) -> dict[str, Any]:
    return {
        "task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": agent_name, "result_keys": ["k"], **task}]}]
    }


@pytest.fixture(autouse=True)
def _no_servers_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BROKERS", "BOOTSTRAP_SERVERS", "REDIS_URL", "CONFIG"):
        monkeypatch.delenv(f"ANABRANCH_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


ASKING = {
    "asks": "asks",
    "asks_in_a_thread": "a thread",
    "asks_on_a_loop_of_its_own": "asks",
    "asks_in_a_thread_of_its_own": "a thread",
}


@pytest.mark.parametrize("name", ASKING)
def test_the_client_of_an_agent_uses_its_own_system_in_virtual_time(name: str) -> None:
    with system(agents=[dev_agents]) as s:
        assert s.run(one_task(name)).results == {"k": ASKING[name]}


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("store", ["auto", "memory"])
async def test_the_client_of_an_agent_uses_its_own_system(name: str, store: Any) -> None:
    from anabranch import Registry

    async with embedded(Registry.builtin().add(dev_agents), store=store) as running:
        run = await running.client.submit(one_task(name))

        result = await run.result(20)

    assert (result.results, result.failures) == ({"k": ASKING[name]}, ())


@agent("events")
def events(task: Task) -> list[str]:
    """Uses a run from a thread: its events, its results one by one, and a cancel."""
    with SyncClient() as client:
        run = client.submit(one_task("echo", inputs=[1, 2]))
        seen = [event["type"] for event in run.events()]
        published = [each.value for each in run.results()]
        assert client.run(run.run_id).result(10).results == {"k": [1, 2]}
        return [seen[0], seen[-1], *map(str, published)]


def test_a_thread_follows_a_run() -> None:
    with system(agents=[events]) as s:
        assert s.run(one_task("events"), check=True).results == {"k": ["run.accepted", "run.completed", "[1, 2]"]}


async def test_two_systems_of_one_process_are_separate() -> None:
    from anabranch import Registry

    found: list[str] = []

    @agent("name")
    async def name(task: Task) -> str:
        async with Client() as client:
            found.append(client.names.prefix)
        return "named"

    from anabranch.runtime.process.settings import Settings

    registry = Registry.builtin().add(name)
    async with (
        embedded(registry, Settings(prefix="one."), store="memory") as one,
        embedded(registry, Settings(prefix="two."), store="memory") as two,
    ):
        for each in (one, two, one):
            await (await each.client.submit(one_task("name"))).result(20, check=True)

    assert found == ["one.", "two.", "one."]
    assert local_system() is None


@agent("blocks")
async def blocks(task: Task) -> None:
    with SyncClient():
        pass


def test_a_sync_client_on_the_systems_own_loop_says_what_to_use() -> None:
    with system(agents=[blocks]) as s:
        [failure] = s.run(one_task("blocks")).failures

    assert failure["error_type"] == "Misconfigured"
    assert "use `async with Client()`" in failure["message"]


async def test_named_servers_take_precedence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with embedded(store="memory"):
        assert Client().local() is not None
        assert Client(brokers="h:1").local() is None
        assert Client(prefix="other.").local() is None
        assert Client(result_ttl=5).local() is None
        (tmp_path / "anabranch.yaml").write_text("brokers: h:1")
        assert Client().local() is not None
        with monkeypatch.context() as patch:
            patch.setenv("ANABRANCH_CONFIG", str(tmp_path / "anabranch.yaml"))
            assert Client().local() is None
        for variable in ("ANABRANCH_BROKERS", "ANABRANCH_BOOTSTRAP_SERVERS", "ANABRANCH_REDIS_URL"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, "redis://h" if "REDIS" in variable else "h:1")
                assert Client().local() is None
    assert Client().local() is None


async def test_a_system_that_has_ended_is_not_waited_for() -> None:
    loops: list[Any] = []

    def of_another_loop() -> None:
        async def run() -> None:
            async with embedded(store="memory"):
                loops.append(local_system())

        asyncio.run(run())

    thread = threading.Thread(target=of_another_loop)
    thread.start()
    thread.join()
    links = loops[0].links_here()

    with pytest.raises(Exception, match="it has ended"):
        await links.store.get(["k"])


def test_a_client_is_open_again_after_it_was_closed() -> None:
    async def twice() -> list[str]:
        client = Client()
        names = []
        async with embedded(store="memory"):
            for _ in range(2):
                async with client:
                    names.append(client.names.prefix)
        with pytest.raises(Misconfigured):
            _ = client.names
        return names

    assert asyncio.run(twice()) == ["anabranch.", "anabranch."]
