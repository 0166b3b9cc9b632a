"""What people see of limits that runs share: `limits`, `breaker`, `why` and `plan`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from embedded_commands import connect_commands
from gateways import Running, gateway
from waiting import eventually_true

import anabranch
from anabranch import Registry, Task
from anabranch.cli.commands.limits import NOTHING, set_breaker, show_limits
from anabranch.cli.commands.plan import plan_document
from anabranch.cli.commands.why import why
from anabranch.cli.main import main
from anabranch.cli.render.tables import Form
from anabranch.cli.said import Said
from anabranch.core.names import run_id_for
from anabranch.core.request.configured_limits import ConfiguredLimits
from anabranch.operations.limits import listed
from anabranch.operations.why.answer import explain
from anabranch.runtime.process.settings import Settings

EXPANDED = {"type": "custom", "transform_rules": {"sequence": {"n": {"start": 1, "end": 4}}}}
DATABASE = {"key": "db", "limit": 2}


@anabranch.agent("forever")
async def forever(task: Task) -> None:
    await asyncio.Event().wait()


@anabranch.agent("calm", breaker={"failures": 5, "window": "1m", "cooldown": "30s"})
async def calm(task: Task) -> str:
    return "done"


def one_task(request_id: str, agent: str = "forever", **task: Any) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": agent, **task}]}],
    }


class Shown:
    """A system with a gateway, and its limits as each way shows them."""

    def __init__(self, running: Running, capsys: pytest.CaptureFixture[str]) -> None:
        self.client = running.system.client
        self.ways = {"direct": Settings(), "through": Settings(url=running.service.url)}
        self._capsys = capsys

    async def until(self, **wanted: Any) -> None:
        """Submit nothing more before a limit has these fields."""

        async def is_so() -> bool:
            return any(wanted.items() <= each.items() for each in await listed(self.client, Settings()))

        await eventually_true(is_so)

    async def printed(self, call: Any) -> str:
        """What a command prints, which is the same by both ways."""
        texts = []
        for settings in self.ways.values():
            self._capsys.readouterr()
            await call(settings)
            captured = self._capsys.readouterr()
            texts.append(captured.out + captured.err)
        assert _without_ages(texts[0]) == _without_ages(texts[1])
        return texts[0]

    async def reason(self, run: str) -> str:
        """The reason that `why` has for the only thing that a run waits for."""

        async def is_one() -> bool:
            explained = await explain(self.client, Settings(), run, heal=False)
            return len({each.get("detail") for each in explained["missing"]}) == 1

        await eventually_true(is_one)
        printed = await self.printed(lambda settings: why(settings, run, heal=False, form=Form.JSON))
        [detail] = {each["detail"] for each in orjson.loads(printed)["missing"]}
        return str(detail)


def _without_ages(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if " ago" not in line)


@pytest.fixture
async def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shown]:
    async with gateway(registry=Registry.builtin().add(forever).add(calm)) as running:
        connect_commands(monkeypatch, running.system.client)
        yield Shown(running, capsys)


async def test_limits_and_why_say_who_holds_a_key_and_how_many_are_ahead(shown: Shown) -> None:
    assert NOTHING in await shown.printed(lambda settings: show_limits(settings, form=Form.TABLE))
    held = {"kind": "concurrency", "key": "db", "held": 2}
    members = {"concurrency": DATABASE, "expansion_config": EXPANDED}
    await shown.client.submit(one_task("first", **members))
    await shown.until(**held, waiting=1)
    await shown.client.submit(one_task("second", **members))
    await shown.until(**held, waiting=3)
    await shown.client.submit(one_task("third", concurrency=DATABASE))
    await shown.until(**held, waiting=4)

    holder = f"{run_id_for('first')}/g/t"
    assert await shown.reason("second") == f"the concurrency key 'db': 2 of 2 held by {holder}; 1 ahead"
    assert await shown.reason("third") == f"the concurrency key 'db': 2 of 2 held by {holder}; 3 ahead"
    table = await shown.printed(lambda settings: show_limits(settings, form=Form.CSV))
    assert table.splitlines() == [
        "kind,project,key,limit,held,waiting,held_by",
        f"concurrency,default,db,2,2,4,{holder}",
    ]
    printed = await shown.printed(lambda settings: show_limits(settings, form=Form.JSON))
    [limit] = orjson.loads(printed)["limits"]
    assert [(each["run_id"], each["members"]) for each in limit["holders"]] == [(run_id_for("first"), 2)]
    waiting = [(each["run_id"], each["members"]) for each in limit["queue"]]
    assert waiting == [(run_id_for("first"), 1), (run_id_for("second"), 2), (run_id_for("third"), 1)]


async def test_limits_and_why_show_rates_and_keys_of_runs(shown: Shown) -> None:
    rate = {"key": "llm", "limit": 1, "per": "1m"}
    await shown.client.submit(one_task("rated", "echo", rate_limit=rate, expansion_config=EXPANDED))
    await shown.client.submit({**one_task("holding"), "concurrency": {"key": "import"}})
    await shown.until(kind="run_concurrency", held=1)
    await shown.client.submit({**one_task("queued"), "concurrency": {"key": "import"}})
    await shown.until(kind="run_concurrency", waiting=1)
    await shown.until(kind="rate", waiting=3)

    assert await shown.reason("rated") == "the rate 'llm': 1 in 1m; next in turn"
    held = f"1 of 1 held by {run_id_for('holding')}"
    assert await shown.reason("queued") == f"the concurrency key 'import': {held}; next in turn"
    table = await shown.printed(lambda settings: show_limits(settings, form=Form.CSV))
    assert table.splitlines()[1:] == [
        "rate,default,llm,1 in 1m,0,3,",
        f"run_concurrency,default,import,1,1,1,{run_id_for('holding')}",
    ]


async def test_a_breaker_is_opened_by_a_person_with_a_reason_and_closed(shown: Shown) -> None:
    said = Said("ann", "maintenance")
    opened = await shown.printed(lambda settings: set_breaker(settings, "open", "calm", said, json=False))
    assert opened.startswith("The breaker of the agent calm is to open: its members wait until it is closed.")
    await shown.until(kind="breaker", state="open", until=None, by="ann", reason="maintenance")
    run = await shown.client.submit(one_task("stopped", "calm"))
    await shown.until(kind="breaker", waiting=1)

    wanted = "the breaker of the agent 'calm', which is open, by ann: maintenance; next in turn"
    assert await shown.reason("stopped") == wanted
    table = await shown.printed(lambda settings: show_limits(settings, form=Form.CSV))
    assert 'breaker,*,calm,"open, by ann: maintenance",0,1,' in table.splitlines()
    await set_breaker(shown.ways["through"], "close", "calm", Said(None, None), json=True)
    assert (await run.result(timeout=20)).status == "completed"


async def test_configured_limits_are_shown_with_what_they_are_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ConfiguredLimits.model_validate(
        {
            "agents": {
                "forever": {"concurrency": {"limit": 1}},
                "echo": {"rate_limit": {"limit": 1, "per": "1m"}},
            },
            "projects": {"shop": {"concurrency": {"limit": 1}}},
        }
    )
    async with gateway(Settings(limits=limits), Registry.builtin().add(forever)) as running:
        connect_commands(monkeypatch, running.system.client)
        shown = Shown(running, capsys)
        await shown.client.submit(one_task("rated", "echo", expansion_config=EXPANDED))
        await shown.client.submit(one_task("first"))
        await shown.until(key="forever", held=1)
        await shown.client.submit(one_task("second"))
        await shown.until(kind="rate", scope="agent", project="*", key="echo", waiting=3)
        await shown.until(kind="concurrency", scope="agent", project="*", key="forever", waiting=1)
        assert await shown.reason("rated") == "the rate of 'echo', configured for agents: 1 in 1m; next in turn"
        held = f"1 of 1 held by {run_id_for('first')}/g/t; next in turn"
        assert await shown.reason("second") == f"the places of 'forever', configured for agents: {held}"
        await shown.client.submit({**one_task("third"), "project": "shop"})
        await shown.until(kind="concurrency", scope="project", project="shop", key="shop", held=1)


def test_plan_shows_configured_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, limits = tmp_path / "r.json", tmp_path / "limits.yaml"
    file.write_bytes(orjson.dumps(one_task("r", "calm")))
    limits.write_text(
        "agents: {calm: {rate_limit: {limit: 9, burst: 3}, breaker: {rate: 0.5}}}\n"
        "projects: {default: {concurrency: {limit: 20}}}\n"
    )

    assert main(["plan", str(file), "--agents", __name__, "--set", f"limits={limits}"]) == 0

    printed = " ".join("".join(capsys.readouterr()).split())
    assert "rate of the agent: 9 in 1s, 3 at once" in printed
    assert "breaker: 50% failures in 1m open it for 30s" in printed
    assert "20 at once of the project" in printed


def test_plan_shows_the_limits_of_each_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = one_task(
        "r", "calm", concurrency={**DATABASE, "on_full": "reject"}, rate_limit={"limit": 9, "burst": 3}
    )
    file = tmp_path / "r.json"
    file.write_bytes(orjson.dumps({**request, "concurrency": {"key": "import-{run_id}"}}))

    assert main(["plan", str(file), "--agents", __name__]) == 0

    printed = " ".join("".join(capsys.readouterr()).split())
    assert "rate 'calm': 9 in 1s, 3 at once" in printed
    assert "breaker: 5 failures in 1m open it for 30s" in printed
    assert "key 'db': 2 at once, reject if full" in printed
    assert "the run holds a place of 'import-{run_id}': 1 at once" in printed
    [task] = plan_document(str(file), Settings(agents=(__name__,)), expand=False)["tasks"]
    assert (task["breaker"]["failures"], task["rate_limit"]["burst"]) == (5, 3)
    assert "breaker" not in plan_document(str(file), Settings(), expand=False)["tasks"][0]
