"""The live tree: the states of a fan-out's members, their rate, and its size on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from anabranch.cli.bench.shapes import fanout_request
from anabranch.cli.render.heat import CELLS, Heat
from anabranch.cli.render.live_view import LiveView
from anabranch.cli.render.progress import RunProgress
from anabranch.cli.render.rates import WINDOW_SECONDS, Rate, RateMeter
from anabranch.cli.render.tree import ASCII, Canvas, draw
from anabranch.cli.render.view_progress import progress_of_view
from anabranch.core.request.admission import read_request
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.process.clock import SystemClock


def entry(type_: str, **more: Any) -> dict[str, Any]:
    return {"cause": 0, "time": 1.0, "group": "fanout", "task": "echo", "type": type_, **more}


def updated(progress: RunProgress, *entries: dict[str, Any]) -> RunProgress:
    for number, each in enumerate(entries, 1):
        made = (EventEntry(**{**each, "cause": number}),)
        progress.apply(EventBatch(run_id="r", session_id="s", source="groups", entries=made))
    return progress


def fan_out(members: int = 500, *entries: dict[str, Any]) -> RunProgress:
    progress = RunProgress.of_plan("r", read_request(fanout_request(members)).plan)
    return updated(progress, entry("task.expanded", data={"count": members}), *entries)


def text_of(progress: RunProgress, canvas: Canvas, rates: RateMeter | None = None) -> str:
    console = Console(file=io.StringIO(), width=canvas.width, color_system=None)
    console.print(draw(progress, canvas, rates))
    return console.file.getvalue()  # type: ignore[attr-defined]


@given(
    st.integers(1, 5_000),
    st.lists(st.tuples(st.integers(-5, 5_200), st.integers(0, 800)), max_size=20),
    st.integers(1, 200),
)
def test_every_member_is_counted_in_one_cell(total: int, spans: list[tuple[int, int]], width: int) -> None:
    heat = Heat(total)
    for start, length in spans:
        heat.add("started", start, start + length)

    cells = list(heat.cells(width))

    inside = sum(max(0, min(start + length, total) - max(0, start)) for start, length in spans)
    assert sum(cell.started for cell in cells) == inside
    assert sum(cell.size for cell in cells) == total
    assert len(cells) == min(width, CELLS, total)


def test_a_span_warms_only_the_cells_of_its_members() -> None:
    heat = Heat(1_000_000)
    heat.add("completed", 0, 500_000)

    cells = list(heat.cells(4))

    assert [(cell.done, cell.size) for cell in cells] == [(250_000, 250_000)] * 2 + [(0, 250_000)] * 2


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.per_second is None
    for second in range(11):
        rate.add_sample(second, 100 * second if second <= 5 else 500 + 10 * (second - 5))

    assert rate.per_second == pytest.approx(50 / WINDOW_SECONDS)
    assert rate.remaining(100) == pytest.approx(10.0)


def test_close_samples_replace_each_other() -> None:
    rate = Rate()
    for number in range(10_000):
        rate.add_sample(number / 1_000, number)

    assert len(rate._samples) < 50
    assert rate.per_second == pytest.approx(1_000, rel=0.01)


def test_the_tree_shows_bars_paces_and_failures_where_they_happened() -> None:
    progress = fan_out(
        500,
        entry("task.started", spans=((0, 210),)),
        entry("task.completed", spans=((0, 200),)),
        entry("task.failed", index=203, data={"error_type": "ValueError", "message": "no\nway"}),
    )
    rates = RateMeter()
    draw(progress, Canvas(elapsed=0.0), rates)
    updated(progress, entry("task.completed", spans=((300, 349),)))
    drawn = text_of(progress, Canvas(width=110, elapsed=1.0), rates)

    assert "201 of 500 members, 1 failed" in drawn
    assert "[203] ValueError: no way" in drawn
    assert "!" in drawn, "one of its cell's 4 members failed"
    assert "█" in drawn
    assert "level 1 of 1" in drawn


def test_a_task_that_failed_as_a_whole_has_no_further_failed_member() -> None:
    progress = fan_out(
        20,
        entry("task.started", spans=((0, 10),)),
        entry("task.completed", spans=((0, 10),)),
        entry("task.joined", data={"count": 20, "failed": 0, "status": "failed"}),
        entry("task.failed", data={"error_type": "BudgetExceeded", "message": "the budget of the run is $1"}),
    )
    drawn = text_of(progress, Canvas(width=110))

    assert "10 of 20 members in" in drawn
    assert "BudgetExceeded: the budget of the run is $1" in drawn
    assert "more failure" not in drawn
    assert progress.failed == 1


def test_a_waiting_task_names_its_dependencies() -> None:
    task = {"name": "a", "agent": "echo", "result_keys": ["x"]}
    last = {"name": "b", "agent": "echo", "result_keys": ["y"], "dependencies": ["x"]}
    plan = read_request({"task_groups": [{"name": "g", "tasks": [task, last]}]}).plan

    drawn = text_of(RunProgress.of_plan("r", plan), Canvas())

    assert "b         waits for x" in drawn
    assert "level 1 of 2" in drawn


@pytest.mark.parametrize("width", [30, 54, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    failed = entry("task.failed", index=3, data={"error_type": "E", "message": "long " * 100})
    progress = fan_out(400, entry("task.started", spans=((0, 400),)), failed)

    lines = text_of(progress, Canvas(width=width, elapsed=3.0)).splitlines()

    assert max(len(line) for line in lines) <= width
    assert len(lines) <= 7


def test_a_low_terminal_folds_groups_that_have_ended_or_wait() -> None:
    tasks = [{"name": f"t{n}", "agent": "echo", "result_keys": [f"k{n}"]} for n in range(10)]
    groups = [{"name": f"g{n}", "tasks": [{**tasks[n], "name": "t"}]} for n in range(10)]
    progress = RunProgress.of_plan("r", read_request({"task_groups": groups}).plan)

    high, low = text_of(progress, Canvas(height=50)), text_of(progress, Canvas(height=15))

    assert high.count("waits to start") == 10
    assert "waits to start" not in low
    assert low.count("1 task") == 10


def test_ascii_where_the_terminal_has_no_more() -> None:
    progress = fan_out(50, entry("task.started", spans=((0, 50),)), entry("task.completed", spans=((0, 20),)))
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(draw(progress, Canvas(signs=ASCII)).children[0].children[0].label)

    assert console.file.getvalue().isascii()  # type: ignore[attr-defined]


def test_the_live_view_leaves_the_whole_tree_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=90, height=10)

    with LiveView(SystemClock(), console) as view:
        view.update(fan_out(500, entry("task.started", spans=((0, 10),))))
        view.note("a note")

    assert "a note" in screen.getvalue()
    assert "0 of 500 members" in screen.getvalue()


def test_a_view_is_drawn_like_a_run_that_is_followed() -> None:
    task = {"status": "running", "expanded": True, "members": 8, "started": 5, "completed": 3, "failed": 1}
    view = {
        "run_id": "r",
        "name": "photos",
        "status": "running",
        "paused": True,
        "ended_at": None,
        "groups": {"g": {"status": "running", "tasks": {"t": task}}},
        "failures": [{"group": "g", "task": "t", "index": 2, "error_type": "E", "message": "odd"}],
    }

    drawn = text_of(progress_of_view(RunView.from_document(view)), Canvas())

    assert "photos r  paused" in drawn
    assert "4 of 8 members, 1 failed" in drawn
    assert "[2] E: odd" in drawn
