"""Log lines of an agent are shown in its run, within limits, from any thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from small_requests import array, request, task

from anabranch import Task
from anabranch.runtime.reading.views import load_view
from anabranch.sdk.task_log import MAX_CHARACTERS, MAX_LINES, Line, LogBook, TaskLog
from anabranch.testing import System, SystemRun

Start = Callable[..., System]


def logs(run: SystemRun) -> list[dict[str, Any]]:
    return [event for event in run.events() if event["type"] == "task.log"]


def logged(write: Callable[[TaskLog], None]) -> list[Line | None]:
    """The events with log lines of a run."""
    lines: list[Line | None] = []
    write(TaskLog({"run": "r"}, lambda line, book: lines.append(line)))
    return lines


def test_each_member_shows_what_it_logged_before_its_end(anabranch_system: Start) -> None:
    async def chatty(task: Task) -> int:
        task.log.debug("not shown")
        task.log.info("at %s", task.variables["item"], extra={"half": task.variables["item"] / 2})
        await asyncio.sleep(1)
        task.log.error("done")
        return 1

    s = anabranch_system(agents={"chatty": chatty})
    run = s.submit(request(task("t", "chatty", expansion_config=array([10, 20]))))
    result = run.result(60)

    events = run.events()
    shown = logs(run)
    assert result.status == "completed"
    lines = [(each["level"], each["index"], each["attempt"], each["message"], each["fields"]) for each in shown]
    assert sorted(lines) == [
        ("error", 0, 1, "done", {}),
        ("error", 1, 1, "done", {}),
        ("info", 0, 1, "at 10", {"half": 5.0}),
        ("info", 1, 1, "at 20", {"half": 10.0}),
    ]
    early, late = (datetime.fromisoformat(each["time"]) for each in (shown[0], shown[2]))
    assert (late - early).total_seconds() == pytest.approx(1.0, abs=0.01)
    assert {(each["group"], each["task"], each["run_id"]) for each in shown} == {("g", "t", run.run_id)}
    for index in (0, 1):
        mine = [event["type"] for event in events if event["index"] == index]
        assert mine == ["task.started", "task.log", "task.log", "task.completed"]


def test_lines_of_a_thread_come_before_its_members_end_and_of_an_ordinary_task_have_no_index(
    anabranch_system: Start,
) -> None:
    def plain(task: Task) -> str:
        task.log.warning("from a thread")
        other = threading.Thread(target=task.log.info, args=("from another",))
        other.start()
        other.join()
        return "ok"

    s = anabranch_system(agents={"plain": plain})
    run = s.submit(request(task("t", "plain")))
    run.result(60)

    assert [(each["message"], each["index"]) for each in logs(run)] == [
        ("from a thread", None),
        ("from another", None),
    ]
    assert [event["type"] for event in run.events()][-4:] == [
        "task.log",
        "task.completed",
        "group.completed",
        "run.completed",
    ]


@pytest.mark.parametrize("is_async", [True, False])
def test_a_flood_of_lines_is_cut_for_each_attempt_and_counted(anabranch_system: Start, is_async: bool) -> None:
    def flood(task: Task) -> None:
        for number in range(MAX_LINES + 50):
            task.log.info("line %d", number)
        if task.attempt == 1:
            raise ValueError("once more")

    async def later(task: Task) -> None:
        flood(task)

    s = anabranch_system(agents={"flood": later if is_async else flood})
    run = s.submit(request(task("t", "flood", retry={"strategy": "fixed", "max_attempts": 2, "delay": 0.1})))

    assert run.result(60).status == "completed"
    for attempt in (1, 2):
        mine = [each for each in logs(run) if each["attempt"] == attempt]
        assert [each["message"] for each in mine[:-1]] == [f"line {number}" for number in range(MAX_LINES)]
        assert (mine[-1]["level"], mine[-1]["fields"]) == ("warning", {"left_out": 50})


def test_lines_of_many_members_at_once_are_bounded_together(anabranch_system: Start) -> None:
    """A chunk of 500 members that each log 100 lines: one report has as many as fit, the rest is counted."""

    async def noisy(task: Task) -> None:
        for _ in range(MAX_LINES):
            task.log.info("x")

    s = anabranch_system(agents={"noisy": noisy})
    run = s.submit(request(task("t", "noisy", expansion_config=array(list(range(500))))))

    assert run.result(60).status == "completed"
    shown = logs(run)
    counted = sum(each["fields"].get("left_out", 0) for each in shown)
    lines = sum(1 for each in shown if each["message"] == "x")
    assert lines + counted == 500 * MAX_LINES
    assert {each["index"] for each in shown} == set(range(500))


def test_a_view_is_not_changed_by_log_lines(anabranch_system: Start) -> None:
    async def chatty(task: Task) -> None:
        task.log.info("hello")

    s = anabranch_system(agents={"chatty": chatty})
    run = s.submit(request(task("t", "chatty")))
    run.result(60)
    s.advance(5)

    view = s.wait(load_view(s.embedded.store, s.embedded.names, run.run_id))
    assert view is not None
    shown = view.groups["g"].tasks["t"].to_document()
    assert (shown["members"], shown["completed"], shown["status"]) == (1, 1, "completed")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_line_harms_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(logging.getLogger("anabranch.agent"), "propagate", False)  # nor the reporter of the tests
    deep: Any = []
    for _ in range(2_000):
        deep = [deep]

    def write(log: TaskLog) -> None:
        log.info("%d of %d", 1)
        log.info(Unprintable())
        log.info("\ud800" + "x" * 3 * MAX_CHARACTERS)
        log.info("fields", extra={"o": Unprintable(), "big": 2**70, "deep": deep, "s": {1, 2}, "n": 1})
        log.info("wide", extra={"first": 1, "wide": "w" * MAX_CHARACTERS, "last": 2})

    odd, unprintable, long, fields, wide = (line for line in logged(write) if line is not None)
    assert odd.message == "a line that cannot be formatted (TypeError): %d of %d"
    assert unprintable.message.startswith("a line that cannot be formatted (RuntimeError): <Unprintable")
    assert (long.message[:2], len(long.message)) == ("?x", MAX_CHARACTERS)
    assert fields.fields["o"] == "<Unprintable that cannot be shown: RuntimeError>"
    assert (fields.fields["big"], fields.fields["s"], fields.fields["n"]) == (str(2**70), "{1, 2}", 1)
    assert wide.fields == {"first": 1, "last": 2, "fields_left_out": 1}


def test_an_exception_is_a_field_and_a_record_names_the_agents_own_code(caplog: pytest.LogCaptureFixture) -> None:
    def write(log: TaskLog) -> None:
        try:
            raise ValueError("no rows")
        except ValueError as error:
            log.exception("it failed")
            log.error("again", exc_info=error)

    first, second = (line for line in logged(write) if line is not None)

    assert first.fields["error"] == second.fields["error"]
    assert first.fields["error"].endswith("ValueError: no rows\n")
    assert {(record.filename, record.funcName) for record in caplog.records} == {("test_task_logs.py", "write")}


def test_dropped_lines_are_reported_once_and_counted_in_any_thread() -> None:
    book = LogBook()
    threads = [threading.Thread(target=lambda: [book.admit() for _ in range(1_000)]) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    lines = logged(lambda log: [log.info("x") for _ in range(MAX_LINES + 20)] and None)
    assert (book.published, book.left_out) == (MAX_LINES, 4_000 - MAX_LINES)
    assert lines[MAX_LINES:] == [None]
