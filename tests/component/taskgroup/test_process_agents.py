"""Agents that are processes: what they get, what becomes of their output, and how they end."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from small_requests import array, request, task

from anabranch.sdk.programs.spec import ProgramLimits, ProgramSpec
from anabranch.testing import system
from anabranch_taskgroup.worker.executors.programs.engine import Execution, ProgramOutcome, ProgramRefused
from anabranch_taskgroup.worker.executors.programs.process.engine import ProcessEngine

SHELL = {"executors": ("process",), "executor_commands": ("sh", "python3")}
WAIT_SECONDS = 30.0


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"command": ["sh", "-c", script], **more}


async def outcome_of(inputs: dict[str, Any], **more: Any) -> Any:
    """The result of a request with one process, else its failure."""
    async with system(**SHELL) as running:
        result = await running.run(request(task("t", "process", inputs, **more)))
        return result.results["t"] if result.status == "completed" else result.failures[0]


@pytest.mark.parametrize(
    ("inputs", "value"),
    [
        (shell('cat "$ANABRANCH_INPUT" > "$ANABRANCH_OUTPUT"', inputs={"a": [1, "ü"]}), {"a": [1, "ü"]}),
        (shell("cat", input="stdin", output="stdout-json", inputs=[1, 2]), [1, 2]),
        (shell('echo "$0"', input="args", output="last-line", inputs={"b": 1}), {"b": 1}),
        (shell("echo one; echo two words; echo", output="last-line"), "two words"),
        (shell("true"), None),
        (shell('echo "$ANABRANCH_TASK $ANABRANCH_MEMBER $ANABRANCH_ATTEMPT"', output="last-line"), "t t 1"),
    ],
)
async def test_a_process_gets_its_inputs_and_gives_its_result(inputs: dict[str, Any], value: Any) -> None:
    assert await outcome_of(inputs) == value


@pytest.mark.parametrize(
    ("inputs", "error_type", "said"),
    [
        (shell("echo one; echo two >&2; exit 3"), "ProgramFailed", "exit code 3; its last lines:"),
        (shell("kill -SEGV $$"), "SIGSEGV", "was ended by SIGSEGV"),
        ({"command": ["python3", "-c", "print('no json')"], "output": "stdout-json"}, "ResultError", "no JSON"),
        ({"command": ["rm", "-r", "/"]}, "GiveUp", "'rm' is not allowed"),
    ],
)
async def test_a_failed_process_says_how_it_ended(inputs: dict[str, Any], error_type: str, said: str) -> None:
    failure = await outcome_of(inputs)

    assert failure["error_type"] == error_type
    assert said in failure["message"]


async def test_a_process_does_not_inherit_the_secrets_of_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_REDIS_PASSWORD", "secret")

    assert "secret" not in await outcome_of(shell("env | tr '\\n' ' '", output="last-line"))


async def test_what_a_process_prints_is_in_the_run() -> None:
    async with system(**SHELL) as running:
        run = await running.submit(request(task("t", "process", shell("echo first; echo second >&2"))))
        await run.result()
        lines = [each["message"] async for each in run.events() if each["type"] == "task.log"]

    assert sorted(lines) == ["first", "second"]


async def test_a_process_ends_with_its_timeout_and_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 300 & echo $! $$ > {pids}; wait"

    failure = await outcome_of(shell(script), timeout=1.0)

    assert failure["error_type"] == "AttemptTimeout"
    assert failure.get("traceback") is None, "frames of the worker tell nothing about a program"
    assert [pid for pid in pids.read_text().split() if _is_alive(int(pid))] == []


async def test_only_so_many_processes_run_at_once(tmp_path: Path) -> None:
    script = f"mkdir {tmp_path}/one && rmdir {tmp_path}/one"
    expanded = task("t", "process", shell(script), expansion_config=array(list(range(20))))
    async with system(**SHELL, process_concurrency=1) as running:
        result = await running.run(request(expanded))

    assert result.status == "completed"


# --- the engine ----------------------------------------------------------------------------------


def execution(script: str, **spec: Any) -> Execution:
    return Execution("ab-1", ProgramSpec("process", ("sh", "-c", script), **spec), b"{}", {})


async def followed(engine: ProcessEngine, started: Execution) -> tuple[ProgramOutcome, list[str]]:
    lines: list[str] = []
    handle = await engine.start(started)
    outcome = await engine.follow(handle, started.spec, lambda stream, line: lines.append(line))
    await engine.remove(handle)
    return outcome, lines


async def test_a_second_start_finds_the_first(tmp_path: Path) -> None:
    engine, started = ProcessEngine(), execution(f"echo x >> {tmp_path}/starts; sleep 1")

    assert await engine.start(started) == await engine.start(started)
    await engine.follow("ab-1", started.spec, lambda stream, line: None)
    await engine.close()

    assert (tmp_path / "starts").read_text() == "x\n"


async def test_long_lines_are_cut_and_a_flood_is_read() -> None:
    script = f"{sys.executable} -c \"print('x' * 1000000); [print(n) for n in range(50000)]\""

    outcome, lines = await followed(ProcessEngine(), execution(script))

    assert outcome.exit_code == 0
    assert (len(lines[0]) < 20_000, len(lines)) == (True, 50_001)


async def test_memory_is_limited() -> None:
    script = f"{sys.executable} -c \"x = 'x' * 2_000_000_000\""

    outcome, lines = await followed(ProcessEngine(), execution(script, limits=ProgramLimits(memory=300_000_000)))

    assert outcome.exit_code == 1
    assert any("MemoryError" in line for line in lines)


async def test_a_program_that_does_not_exist_says_so() -> None:
    spec = ProgramSpec("process", ("no-such-program",))
    outcome, _ = await followed(ProcessEngine(), Execution("ab-1", spec, b"{}", {}))

    assert outcome.exit_code == 127
    assert "'no-such-program' was not found" in outcome.message


async def test_a_folder_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ProgramRefused, match="cannot be started"):
        await ProcessEngine().start(execution("true", options={"cwd": "/no/such/folder"}))


async def test_a_process_is_killed_with_its_worker(tmp_path: Path) -> None:
    """The worker is a process of its own here, which is killed."""
    pids = tmp_path / "pids"
    code = f"""
import asyncio
from anabranch.sdk.programs.spec import ProgramSpec
from anabranch_taskgroup.worker.executors.programs.engine import Execution
from anabranch_taskgroup.worker.executors.programs.process.engine import ProcessEngine
async def main():
    spec = ProgramSpec("process", ("sh", "-c", "trap '' TERM; sleep 300 & echo $! $$ > {pids}; wait"))
    await ProcessEngine().start(Execution("ab-1", spec, b"", {{}}))
    await asyncio.Event().wait()
asyncio.run(main())
"""
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    async with asyncio.timeout(WAIT_SECONDS):
        while not (pids.is_file() and pids.read_text().endswith("\n")):
            await asyncio.sleep(0.01)
        worker.kill()
        await worker.wait()
        while any(_is_alive(int(pid)) for pid in pids.read_text().split()):
            await asyncio.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" and os.path.exists(f"/proc/{pid}")
