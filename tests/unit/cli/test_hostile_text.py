"""Every command escapes control characters in texts of agents and requests."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from embedded_commands import system_after_a_run

from anabranch import Task, agent
from anabranch.cli.commands.context import show_context
from anabranch.cli.commands.dlq import list_dead_letters, show_dead_letter
from anabranch.cli.commands.events import LogFilter, show_events, show_logs
from anabranch.cli.commands.list_status_result import list_runs, show_result, show_status
from anabranch.cli.commands.run import summarise
from anabranch.cli.commands.why import why
from anabranch.cli.render.tables import Form
from anabranch.cli.top.command import TopOptions, top
from anabranch.core.visible import visible
from anabranch.embedded import Embedded
from anabranch.runtime.process.settings import Settings

EVIL = "\x1b]0;owned\x07 \x1b[2J \x9b2J \x7f \u202egnp\u2069 \r forged"


class Evil(Exception):
    pass


Evil.__name__ = f"Evil{EVIL}"


@agent("evil")
async def evil(task: Task) -> Any:
    task.log.info("said %s", EVIL, extra={f"field {EVIL}": EVIL})
    await task.progress(0.5, EVIL)
    if task.index:
        raise Evil(f"{EVIL}\nRun x completed in 1 s")
    return {EVIL: EVIL}


def request() -> dict[str, Any]:
    wide = {"type": "array", "array_mapping": {"n": [0, 1]}}
    spec = {"name": "t", "agent": "evil", "result_keys": ["x"], "expansion_config": wide, "tolerated_failures": 1}
    good = {"name": "echo", "agent": "echo", "inputs": EVIL, "result_keys": ["said"]}
    return {"request_id": "evil-1", "labels": {"a": EVIL}, "task_groups": [{"name": "g", "tasks": [spec, good]}]}


@pytest.fixture
async def system(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Embedded]:
    async with system_after_a_run(monkeypatch, evil, request()) as found:
        yield found


def hidden(text: str) -> set[str]:
    """Characters of a text that a terminal would obey or not show."""
    return {each for each in text if visible(each) != each}


async def test_every_command_shows_control_characters(
    system: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings()
    summarise(await (await system.client.run("evil-1")).result())
    summary = capsys.readouterr().err
    calls: dict[str, Callable[[Form], Any]] = {
        "list": lambda form: list_runs(settings, limit=5, status=None, form=form),
        "status": lambda form: show_status(settings, "evil-1", form=form),
        "events": lambda form: show_events(settings, "evil-1", follow=False, form=form),
        "logs": lambda form: show_logs(settings, "evil-1", LogFilter(), follow=False, form=form),
        "context": lambda form: show_context(settings, "evil-1", at=None, between=None, form=form),
        "changes": lambda form: show_context(settings, "evil-1", at=None, between=(0, 1), form=form),
        "why": lambda form: why(settings, "evil-1", heal=False, form=form),
        "dlq": lambda form: list_dead_letters(settings, run=None, signature=None, every=False, form=form),
        "top": lambda form: top(settings, TopOptions(form, once=True)),
        "result": lambda form: show_result(settings, "evil-1", None, timeout=1, json=form is Form.JSON),
    }
    outputs = {"summary": summary}
    for name, call in calls.items():
        for form in Form:
            assert await call(form) == 0
            captured = capsys.readouterr()
            outputs[f"{name} {form}"] = captured.out + captured.err
            if form is Form.JSON:
                json.loads(captured.out)
    await list_dead_letters(settings, run=None, signature=None, every=False, form=Form.JSON)
    [group] = json.loads(capsys.readouterr().out)["groups"]
    for as_json in (False, True):
        assert await show_dead_letter(settings, group["example"], json=as_json) == 0
        outputs[f"dlq show {as_json}"] = capsys.readouterr().out

    assert {name: found for name, text in outputs.items() if (found := hidden(text))} == {}
    for name in (
        "summary",
        "events table",
        "logs table",
        "logs csv",
        "context table",
        "dlq csv",
        "dlq show False",
    ):
        assert r"\x1b]0;owned" in outputs[name] or r"\u001b]0;owned" in outputs[name], name
    assert "\nRun x completed" not in outputs["summary"]


async def test_json_output_keeps_hostile_text_as_escapes(
    system: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    await show_result(Settings(), "evil-1", "said", timeout=1, json=False)

    assert json.loads(capsys.readouterr().out) == EVIL


async def test_cells_of_csv_keep_their_lines(system: Embedded, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    await show_logs(Settings(), "evil-1", LogFilter(), follow=False, form=Form.CSV)
    [first, _] = csv.DictReader(io.StringIO(capsys.readouterr().out))

    assert first["message"] == visible(f"said {EVIL}")


async def test_following_a_run_stops_when_the_output_has_no_reader(
    system: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anabranch.runtime.process.streams import LastingText

    class Gone(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", LastingText(io.TextIOWrapper(Gone()), "output"))

    assert await show_events(Settings(), "evil-1", follow=True, form=None) == 0
