"""`status` and `top` of a run with control flow, which waits for an approval."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator

import pytest
from embedded_commands import connect_commands
from flow_requests import release
from rich.console import Console
from waiting import eventually_true

from anabranch.cli.commands.list_status_result import show_status
from anabranch.cli.render.rates import RateMeter
from anabranch.cli.render.tables import Form
from anabranch.cli.render.tree import UNICODE
from anabranch.cli.top.drawing import Frame, draw_frame
from anabranch.cli.top.screen import Screen
from anabranch.cli.top.snapshot import Snapshot, row_of
from anabranch.core.wire.run_view import RunView
from anabranch.embedded import embedded
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.reading.views import list_views


@pytest.fixture
async def waiting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunView]:
    """The view of `release` as run "q", once it waits only for the approval; commands use its system."""
    async with embedded() as system:
        connect_commands(monkeypatch, system.client)
        await system.client.submit({**release(), "request_id": "q"})
        found: list[RunView] = []

        async def waits() -> bool:
            # Of the parent and its sub-runs
            views = [view for view in await list_views(system.store, system.names, 10) if view.request_id == "q"]
            ended = [view.task("release", name) for view in views for name in ("greet", "cool down")]
            found[:] = [view for view in views if all(task and task.ended_at for task in ended)]
            return bool(found)

        await eventually_true(waits)
        yield found[0]


async def test_the_status_of_a_run_says_what_controls_it(
    waiting: RunView, capsys: pytest.CaptureFixture[str]
) -> None:
    await show_status(Settings(), "q", form=Form.TABLE)
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]

    assert "(loop): completed, 30 iterations, ended by condition" in lines
    assert "writing[29]/draft: completed" in lines
    assert "careful: skipped: route/(switch) chose case 0" in lines
    assert "cool down: completed, ended by time" in lines
    [asked] = [line for line in lines if line.startswith("sign-off")]
    assert asked.startswith("sign-off: awaiting, waits for the decision of ann: Release draft 29? since 20")
    assert len([line for line in lines if line.startswith("sub-run") and line.endswith(": completed")]) == 3


async def test_the_tasks_of_a_loop_have_their_path_as_rows(
    waiting: RunView, capsys: pytest.CaptureFixture[str]
) -> None:
    await show_status(Settings(), "q", form=Form.CSV)

    paths = {row["task"]: row["path"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert (paths["draft"], paths["quick"]) == ("writing[29]/draft", "quick")


async def test_top_shows_a_wait_as_waiting(waiting: RunView) -> None:
    snapshot = Snapshot(100.0, [row_of(waiting, 100.0, RateMeter())])
    console = Console(file=io.StringIO(), width=140, color_system=None)
    for screen in (Screen(), Screen(shows_details=True, selected_id=waiting.run_id)):
        console.print(draw_frame(snapshot, screen, Frame(140, 40, UNICODE, "here")))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]

    assert "the decision of ann about release/sign-off" in drawn
    assert "◌ sign-off" in drawn
    assert "waits for the decision of ann: Release draft 29?" in drawn
    assert "writing[29]/draft" in drawn
