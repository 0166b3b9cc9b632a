"""However an agent ends, its member ends, and nothing else is affected."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agent_endings
import pytest
from agent_endings import ENDINGS, RELEASED, Ending, catches_cancellations, never_looks, released, row_of, table
from small_requests import alive, array, request, task
from source_tree import ROOT

from anabranch import Task
from anabranch.runtime.process.loops import is_interrupt
from anabranch.testing import System
from anabranch_taskgroup.worker import chunk_opening, report_buffer
from anabranch_taskgroup.worker.executors.agent_threads import AgentThreads
from anabranch_taskgroup.worker.executors.in_process import GRACE_SECONDS

Start = Callable[..., System]


def rows_in_docs() -> dict[str, str]:
    """The rows of the table in the docs by their first column."""
    text = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    lines = text[text.index(table([]).split("\n", 1)[0]) :].split("\n\n", 1)[0].splitlines()[2:]
    return {line.split("|")[1].strip(): line for line in lines}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.words)
def test_an_agent_ends_as_the_docs_say(ending: Ending) -> None:
    assert row_of(ending) == rows_in_docs().get(ending.words), "python -m agent_endings prints the table"


def test_the_docs_list_every_ending() -> None:
    assert list(rows_in_docs()) == [ending.words for ending in ENDINGS]


def test_a_not_retryable_type_within_an_exception_group_is_not_retried(anabranch_system: Start) -> None:
    fails = agent_endings.raises(
        lambda: ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [KeyError("b")])])
    )
    s = anabranch_system(agents={"fails": fails})
    result = s.run(request(task("out", "fails", retry={"strategy": "immediate", "non_retryable": ["KeyError"]})))

    assert [(each["message"], each["attempts"]) for each in result.failures] == [
        ("ValueError: a; KeyError: 'b'", 1)
    ]


def test_an_agent_that_catches_every_cancellation_loses_its_slot(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"stuck": catches_cancellations}, concurrency=1)
    with released():
        result = s.run(request(task("stuck", "stuck", timeout=5), task("after", inputs=1)))

        assert result.results == {"after": 1}
        assert s.elapsed == pytest.approx(5 + GRACE_SECONDS, abs=1)


def test_a_run_with_an_agent_that_catches_every_cancellation_can_be_cancelled(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"stuck": catches_cancellations}, concurrency=1)
    with released():
        run = s.submit(request(task("stuck", "stuck")))
        s.advance(1)
        run.cancel()
        assert run.result(timeout=5).status == "cancelled"

        assert s.run(request(task("after", inputs=1)), timeout=2 * GRACE_SECONDS).results == {"after": 1}


def test_threads_that_do_not_end_occupy_no_slot(anabranch_system: Start) -> None:
    def stays_or_returns(task: Task) -> str:
        return "fine" if task.inputs else str(never_looks(task))

    s = anabranch_system(agents={"t": stays_or_returns}, concurrency=1)
    with released():
        result = s.run(request(task("stuck", "t", timeout=0.1), task("after", "t", inputs=1)))

        assert result.results == {"after": "fine"}


def test_abandoned_agents_are_reported(anabranch_system: Start, caplog: pytest.LogCaptureFixture) -> None:
    s = anabranch_system(agents={"stuck": catches_cancellations})
    with released():
        result = s.run(request(task("stuck", "stuck", timeout=5)))

    messages = [record.getMessage() for record in caplog.records if record.name.endswith("worker.runner")]
    assert [text.split(",")[0] for text in messages] == [
        f"taskgroup worker: abandoned attempt 1 of member stuck of g in run {result.run_id}"
    ]


# --- outside of agents ------------------------------------------------------------------------------


def test_an_error_outside_an_agent_fails_the_members_that_have_not_ended(
    anabranch_system: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, called = report_buffer.ReportBuffer.note_start, []

    def breaks(self: Any, index: int) -> None:
        if index == 2:
            raise ZeroDivisionError("a fault of the worker")
        start(self, index)

    async def notes(task: Task) -> int:
        called.append(task.index)
        return task.inputs

    monkeypatch.setattr(report_buffer.ReportBuffer, "note_start", breaks)
    s = anabranch_system(agents={"notes": notes})
    result = s.run(request(task("out", "notes", "{item}", expansion_config=array([1, 2, 3, 4]))))

    assert {(each["error_type"], each["message"]) for each in result.failures} == {
        ("ZeroDivisionError", "a fault of the worker")
    }
    assert sorted(called) == sorted(set(called)), "nobody is called twice"
    alive(s)


def test_a_chunk_that_cannot_be_opened_fails_its_members_once(
    anabranch_system: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise LookupError("a fault of the worker")

    monkeypatch.setattr(chunk_opening, "members_of", breaks)
    s = anabranch_system()
    result = s.run(request(task("out", inputs=1)))

    assert [(each["error_type"], each["message"]) for each in result.failures] == [
        ("LookupError", "a fault of the worker")
    ]
    alive(s)


async def notes_on_the_loop(task: Task) -> int:
    await task.progress(0.5, "a\udc80\0b")
    return 1


def notes_in_a_thread(task: Task) -> int:
    task.report_progress(0.5, 7)  # type: ignore[arg-type]
    return 1


@pytest.mark.parametrize(("agent", "note"), [(notes_on_the_loop, "a\\udc80\\x00b"), (notes_in_a_thread, "7")])
def test_a_note_with_characters_that_cannot_be_stored_fails_no_member(
    anabranch_system: Start, agent: Callable[[Task], Any], note: str
) -> None:
    s = anabranch_system(agents={"notes": agent})
    run = s.submit(request(task("out", "notes")))

    assert run.result().results == {"out": 1}
    assert [each["note"] for each in run.events() if each["type"] == "task.progress"] == [note]


# --- processes --------------------------------------------------------------------------------------

MODULE = """
import asyncio, os, sys, threading, time
from anabranch import agent

@agent("exits")
def exits(task):
    exit()

@agent("leaves_exit")
async def leaves_exit(task):
    asyncio.get_running_loop().call_soon(sys.exit, 7)
    await asyncio.sleep(0.05)
    return 1

@agent("leaves_stubborn_task")
async def leaves_stubborn_task(task):
    async def stays():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    asyncio.create_task(stays())
    await asyncio.sleep(0)
    return 1

@agent("leaves_thread")
def leaves_thread(task):
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return 1

@agent("stops_loop")
async def stops_loop(task):
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return 1

@agent("cancels_all")
async def cancels_all(task):
    for each in asyncio.all_tasks():
        each.cancel()
    await asyncio.sleep(3600)

@agent("exits_in_a_fork")
def exits_in_a_fork(task):
    child = os.fork()
    if child == 0:
        sys.exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

@agent("returns_in_a_fork")
def returns_in_a_fork(task):
    child = os.fork()
    return os.waitpid(child, 0)[1] if child else "this is the child"

@agent("leaves_call")
async def leaves_call(task):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    return 1
"""


@pytest.mark.parametrize(
    ("agent", "code"),
    [
        ("exits", 1),
        ("leaves_exit", 0),
        ("leaves_stubborn_task", 0),
        ("leaves_thread", 0),
        ("leaves_call", 0),
        ("stops_loop", 0),
        ("cancels_all", 1),
        ("exits_in_a_fork", 0),
        ("returns_in_a_fork", 0),
    ],
)
def test_the_command_ends_with_its_run_and_the_runs_exit_code(tmp_path: Path, agent: str, code: int) -> None:
    (tmp_path / "ending_agents.py").write_text(MODULE)
    (tmp_path / "run.yaml").write_text(
        f"task_groups: [{{name: g, tasks: [{{name: t, agent: {agent}, result_keys: [r]}}]}}]"
    )
    command = [sys.executable, "-m", "anabranch", "run", "run.yaml", "--embedded", "--agents", "ending_agents"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == code, ended.stderr
    if agent == "cancels_all":
        assert "code in this process cancelled the main task" in ended.stderr
        assert "Traceback" not in ended.stderr


STUBBORN = """
import asyncio, signal
from anabranch.runtime.process.loops import run

async def stays():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def interrupted():
    left = asyncio.create_task(stays())
    await asyncio.sleep(0)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    await left

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
try:
    run(interrupted())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_second_interrupt_ends_a_process_with_a_task_that_catches_cancellations() -> None:
    command = [sys.executable, "-c", STUBBORN]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n"), ended.stderr


def test_an_interrupt_by_a_signal_is_distinguished_from_one_that_code_raises() -> None:
    def raised(call: Callable[[], Any]) -> BaseException:
        with pytest.raises(KeyboardInterrupt) as found:
            call()
        return found.value

    def by_code() -> None:
        raise KeyboardInterrupt

    def by_signal() -> None:
        import signal

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            signal.raise_signal(signal.SIGINT)
            RELEASED.is_set()
        finally:
            signal.signal(signal.SIGINT, before)

    assert not is_interrupt(raised(by_code))
    assert is_interrupt(raised(by_signal))


# --- threads ----------------------------------------------------------------------------------------


def test_a_thread_is_used_again_and_a_busy_one_is_not_waited_for() -> None:
    threads, held = AgentThreads(max_idle=1), threading.Event()
    first = threads.submit(threading.get_ident).result(5)
    busy = threads.submit(held.wait)
    names = [threads.submit(lambda: threading.current_thread().daemon).result(5) for _ in range(3)]
    held.set()

    assert busy.result(5) is True
    assert names == [True] * 3
    assert isinstance(first, int)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(int)


def test_threads_raise_what_is_raised_in_them() -> None:
    threads = AgentThreads(max_idle=1)
    with pytest.raises(SystemExit):
        threads.submit(sys.exit, 3).result(5)
    threads.shutdown()


def test_a_pool_of_a_loop_is_not_waited_for_without_end() -> None:
    from anabranch.runtime.process.loops import run

    async def leaves_a_thread() -> int:
        asyncio.get_running_loop().run_in_executor(None, RELEASED.wait)
        return 5

    with released():
        assert run(leaves_a_thread()) == 5
