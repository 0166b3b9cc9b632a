"""Commands that reach a system through a gateway print the same, and end with the same code, as over Kafka."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from embedded_commands import connect_commands
from gateways import Running, gateway
from waiting import eventually_true

from anabranch import Registry, Task, agent
from anabranch.cli.commands.context import show_context
from anabranch.cli.commands.control import control
from anabranch.cli.commands.dlq import list_dead_letters, show_dead_letter
from anabranch.cli.commands.dlq_decisions import decide_on
from anabranch.cli.commands.events import LogFilter, show_events, show_logs
from anabranch.cli.commands.list_status_result import list_runs, show_result, show_status
from anabranch.cli.commands.registry import show_agents, show_workers
from anabranch.cli.commands.retry import retry
from anabranch.cli.commands.run import RunOptions, run_on_this_loop
from anabranch.cli.commands.why import why
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.render.tables import Form
from anabranch.cli.said import Said
from anabranch.cli.top.command import TopOptions, top
from anabranch.core.names import run_id_for
from anabranch.dead_letters.decisions import DeadLetterSelection
from anabranch.runtime.process.settings import Settings

ROWS = 12_000
"""More than one page of a value has."""


@agent("talk")
def talk(task: Task) -> int:
    task.log.info("at %d", task.inputs["n"], extra={"table": "orders"})
    if task.index == 1:
        raise ValueError("not this one")
    return 1


@agent("many")
def many(task: Task) -> dict[str, Any]:
    return {"rows": list(range(ROWS)), "text": "x" * 100_000}


@agent("forever")
async def forever(task: Task) -> None:
    await asyncio.Event().wait()


def one_task(request_id: str, **task: Any) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "name": f"name of {request_id}",
        "task_groups": [{"name": "g", "tasks": [{"name": "t", "result_keys": ["x"], **task}]}],
    }


TALK = one_task(
    "talk-1",
    agent="talk",
    inputs={"n": "{n}"},
    tolerated_failures=1,
    expansion_config={"type": "array", "array_mapping": {"n": [0, 1, 2]}},
)
FAILS = one_task("fails-1", agent="fail")
OPEN = one_task("open-1", agent="forever")
MANY = one_task("many-1", agent="many", result_keys=["rows", "text"])

RETRY: dict[str, Any] = {"failed": True, "request_id": None, "detach": False, "json": True}
Call = Callable[[Settings], Awaitable[int]]


class Both:
    """Calls a command on the system itself and through its gateway."""

    def __init__(self, running: Running, capsys: pytest.CaptureFixture[str]) -> None:
        self.running = running
        self._capsys = capsys

    async def direct(self, call: Call) -> tuple[int, str, str]:
        return await self._called(call, Settings())

    async def through(self, call: Call) -> tuple[int, str, str]:
        return await self._called(call, Settings(url=self.running.service.url))

    async def _called(self, call: Call, settings: Settings) -> tuple[int, str, str]:
        self._capsys.readouterr()
        try:
            with errors_as_exit(json=False):
                code = await call(settings)
        except BaseException as ended:
            code = getattr(ended, "exit_code", None)
            if code is None:
                raise
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
async def both(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Both]:
    registry = Registry.builtin().add(talk).add(many).add(forever)
    async with gateway(registry=registry) as running:
        connect_commands(monkeypatch, running.system.client)
        for request in (TALK, FAILS, MANY):
            run = await running.system.client.submit(request)
            await run.result()
        await running.system.client.submit(OPEN)

        async def all_seen() -> bool:
            page = await running.get("/v1/runs")
            at_work = {run["request_id"] for run in page["runs"] if run["counts"]["running"]}
            ended = {run["request_id"] for run in page["runs"] if run["ended_at"] is not None}
            return (at_work, len(ended)) == ({"open-1"}, 3)

        await eventually_true(all_seen)
        yield Both(running, capsys)


LOOKS: dict[str, Call] = {
    "list": lambda s: list_runs(s, limit=2, status=None, form=Form.JSON),
    "list, a table": lambda s: list_runs(s, limit=9, status="completed", form=Form.TABLE),
    "list, none": lambda s: list_runs(s, limit=9, status="timed_out", form=Form.TABLE),
    "status": lambda s: show_status(s, "talk-1", form=Form.JSON),
    "status for people": lambda s: show_status(s, "talk-1", form=Form.TABLE),
    "status of an open run": lambda s: show_status(s, "open-1", form=Form.TABLE),
    "status as CSV": lambda s: show_status(s, "fails-1", form=Form.CSV),
    "status, unknown": lambda s: show_status(s, "nobody", form=Form.JSON),
    "agents": lambda s: show_agents(s, form=Form.JSON),
    "workers, a table": lambda s: show_workers(s, form=Form.TABLE),
    "result": lambda s: show_result(s, "talk-1", None, timeout=None, json=True),
    "result for people": lambda s: show_result(s, "talk-1", None, timeout=None, json=False),
    "result, failed": lambda s: show_result(s, "fails-1", None, timeout=None, json=True),
    "result, large": lambda s: show_result(s, "many-1", "rows", timeout=None, json=True),
    "result, no such key": lambda s: show_result(s, "talk-1", "nothing", timeout=None, json=True),
    "result, open": lambda s: show_result(s, "open-1", None, timeout=None, json=True),
    "result, unknown": lambda s: show_result(s, "nobody", None, timeout=None, json=True),
    "events": lambda s: show_events(s, "talk-1", follow=False, form=None),
    "events, followed": lambda s: show_events(s, "talk-1", follow=True, form=Form.JSON),
    "events, unknown": lambda s: show_events(s, "nobody", follow=False, form=None),
    "logs": lambda s: show_logs(s, "talk-1", LogFilter(), follow=False, form=Form.TABLE),
    "logs, none": lambda s: show_logs(s, "talk-1", LogFilter(level="critical"), follow=True, form=Form.TABLE),
    "context": lambda s: show_context(s, "talk-1", at=None, between=None, form=Form.JSON),
    "context, a table": lambda s: show_context(s, "talk-1", at=0, between=None, form=Form.TABLE),
    "context, no such version": lambda s: show_context(s, "talk-1", at=77, between=None, form=Form.JSON),
    "context, unknown": lambda s: show_context(s, "nobody", at=None, between=None, form=Form.JSON),
    "context, two versions": lambda s: show_context(s, "talk-1", at=None, between=(0, 1), form=Form.JSON),
    "context, no such two": lambda s: show_context(s, "talk-1", at=None, between=(0, 99), form=Form.JSON),
    "why, ended": lambda s: why(s, "talk-1", heal=False, form=Form.TABLE),
    "why": lambda s: why(s, "open-1", heal=False, form=Form.JSON),
    "why, unknown": lambda s: why(s, "nobody", heal=False, form=Form.TABLE),
    "dlq list": lambda s: list_dead_letters(s, run=None, signature=None, every=False, form=Form.JSON),
    "dlq list of a run": lambda s: list_dead_letters(
        s, run="fails-1", signature=None, every=False, form=Form.TABLE
    ),
    "dlq list, all": lambda s: list_dead_letters(s, run=None, signature=None, every=True, form=Form.CSV),
    "dlq list, none": lambda s: list_dead_letters(s, run="nobody", signature=None, every=False, form=Form.TABLE),
    "dlq show, unknown": lambda s: show_dead_letter(s, "0:99", json=True),
    "dlq redrive, ended": lambda s: decide_on(s, "redrive", DeadLetterSelection(run="fails-1"), json=True),
    "dlq redrive, no letter": lambda s: decide_on(s, "redrive", DeadLetterSelection(), json=False),
    "dlq redrive, unknown id": lambda s: decide_on(s, "redrive", DeadLetterSelection(("0:99",)), json=False),
    "dlq dismiss, unknown run": lambda s: decide_on(s, "dismiss", DeadLetterSelection(run="nobody"), json=False),
    "retry, completed": lambda s: retry(s, run_id_for("talk-1"), **RETRY),
    "retry, open": lambda s: retry(s, run_id_for("open-1"), **RETRY),
    "cancel, ended": lambda s: control(s, "cancel", run_id_for("talk-1"), json=True),
    "pause, unknown": lambda s: control(s, "pause", "nobody", json=True),
    "retry, unknown": lambda s: retry(s, "nobody", **RETRY),
}
"""Commands that change nothing: they may be called twice."""


async def test_queries_have_the_same_output_and_exit_code(both: Both) -> None:
    for name, call in LOOKS.items():
        assert (name, *await both.through(call)) == (name, *await both.direct(call))


async def test_a_run_whose_view_is_gone_is_still_shown(both: Both) -> None:
    client = both.running.system.client
    views = [client.names.view(run_id_for(each), run_id_for(each)) for each in ("fails-1", "open-1")]
    assert await client.store.delete(views) == 2

    for form in (Form.JSON, Form.TABLE):
        for run in ("fails-1", "open-1"):
            call: Call = lambda s: show_status(s, run, form=form)  # noqa: B023, E731
            code, out, err = await both.through(call)
            assert (code, out, err) == await both.direct(call)
            assert ("failed" in out + err) == (run == "fails-1")


async def test_large_values_are_read_page_by_page(both: Both) -> None:
    call: Call = lambda s: show_result(s, "many-1", None, timeout=None, json=True)  # noqa: E731
    through, direct = await both.through(call), await both.direct(call)

    assert json.loads(through[1])["results"] == {"rows": list(range(ROWS)), "text": "x" * 100_000}
    assert through == direct


async def test_top_shows_the_same_but_the_time(both: Both) -> None:
    def timeless(printed: tuple[int, str, str]) -> Any:
        document = json.loads(printed[1])
        del document["time"]
        for run in document["runs"]:
            del run["seconds"], run["rate"]
        for row in document["lag"]:
            del row["lag"]
        return printed[0], document, printed[2]

    call: Call = lambda s: top(s, TopOptions(Form.JSON, once=True))  # noqa: E731

    through, direct = timeless(await both.through(call)), timeless(await both.direct(call))
    assert through == direct
    assert [run["request_id"] for run in through[1]["runs"]][:1] == ["open-1"]
    assert len(through[1]["lag"]) == 5


async def test_a_dead_letter_is_shown_and_dismissed(both: Both) -> None:
    _, listed, _ = await both.direct(LOOKS["dlq list"])
    [group] = [each for each in json.loads(listed)["groups"] if each["agent"] == "fail"]
    show: Call = lambda s: show_dead_letter(s, group["example"], json=True)  # noqa: E731

    assert await both.through(show) == await both.direct(show)
    code, out, _ = await both.through(
        lambda s: decide_on(s, "dismiss", DeadLetterSelection(tuple(group["ids"])), json=True)
    )
    assert (code, [each["id"] for each in json.loads(out)["dismissed"]]) == (0, group["ids"])
    again = await both.through(
        lambda s: decide_on(s, "dismiss", DeadLetterSelection(tuple(group["ids"])), json=False)
    )
    assert again == (2, "", f"{group['example']}: not dismissed: it was dismissed\n")
    _, _, err = await both.through(
        lambda s: list_dead_letters(s, run="fails-1", signature=None, every=False, form=Form.TABLE)
    )
    assert "1 dead letter already redriven or dismissed: show them with --all." in err


async def test_a_run_is_submitted_followed_and_paused_and_cancelled(both: Both, tmp_path: Path) -> None:
    file, events = tmp_path / "request.json", tmp_path / "events"
    request = TALK | {"request_id": "talk-2"}
    file.write_text(json.dumps(request))

    code, out, err = await both.through(
        lambda s: run_on_this_loop(RunOptions(str(file), json=True, events_file=events), s)
    )
    printed = json.loads(out)
    assert (code, printed["status"], printed["results"]) == (0, "completed", {"x": [1, 1]})
    assert "g/t: completed 3 of 3 members, 1 failed" in err
    _, kept, _ = await both.direct(lambda s: show_events(s, "talk-2", follow=False, form=Form.JSON))
    assert [json.loads(line) for line in events.read_text().splitlines()] == json.loads(kept)

    for action in ("pause", "resume", "cancel"):
        said = Said("somebody else", f"to {action} it")
        code, out, _ = await both.through(lambda s: control(s, action, "open-1", said, json=True))  # noqa: B023
        assert (code, json.loads(out)["action"], json.loads(out)["known"]) == (0, action, True)
    code, out, _ = await both.through(lambda s: show_result(s, "open-1", None, timeout=20, json=True))
    assert (code, json.loads(out)["status"]) == (3, "cancelled")
    # This gateway does not know its caller.
    stopped = json.loads(out)["stopped_by"]
    assert (stopped["action"], stopped["by"], stopped["reason"]) == ("cancel", "somebody else", "to cancel it")


async def test_a_retry_takes_over_through_a_gateway(both: Both) -> None:
    code, out, err = await both.through(
        lambda s: retry(s, "fails-1", failed=True, request_id="fails-2", detach=False, json=True)
    )

    printed = json.loads(out)
    assert (code, printed["status"], printed["request_id"], printed["taken_over"]) == (1, "failed", "fails-2", 0)
    assert "g/t: failed" in err


async def test_a_request_that_the_system_refuses_has_its_reasons_and_code_2(both: Both, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(one_task("never", agent="nobody has this")))

    code, out, err = await both.through(lambda s: run_on_this_loop(RunOptions(str(file), json=True), s))

    printed = json.loads(out)
    assert (code, printed["status"]) == (2, "rejected")
    assert [error["code"] for error in printed["errors"]] == ["unknown_agent"]
    assert re.search(r"The request was rejected, 1 error:\n  /task_groups/0/tasks/0/agent: ", err)


async def test_a_detached_run_continues(both: Both, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(TALK | {"request_id": "talk-3"}))

    code, out, _ = await both.through(lambda s: run_on_this_loop(RunOptions(str(file), json=True, detach=True), s))

    printed = json.loads(out)
    assert (code, printed["request_id"], printed["status"]) == (0, "talk-3", "submitted")
    run = await both.running.system.client.run("talk-3")
    assert (await run.result(20)).status == "completed"
