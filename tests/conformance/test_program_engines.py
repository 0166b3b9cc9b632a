"""What every engine of programs does that outlives its worker: one contract for containers and Jobs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from program_engines import ENGINES, EngineUnderTest, Lines, Workers

from anabranch_taskgroup.worker.executors.programs.engine import ProgramEngine, ProgramRefused

LONG = "while :; do sleep 1; done"


@pytest.fixture(params=ENGINES)
async def under_test(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EngineUnderTest]:
    opened = ENGINES[request.param]
    # A label of its own: what other tests left is not found.
    installation = f"t{os.getpid()}{request.node.name.__hash__() % 10_000}"
    async with opened(tmp_path, installation) as engine:
        yield engine


@pytest.fixture
async def workers(under_test: EngineUnderTest) -> AsyncIterator[Workers]:
    async with AsyncExitStack() as stack:
        yield Workers(under_test, stack)


@pytest.fixture
async def engine(under_test: EngineUnderTest, workers: Workers) -> AsyncIterator[ProgramEngine]:
    """The engine of one worker; what is left of its executions is stopped."""
    engine = workers.one_more()
    yield engine
    for each in await engine.found(under_test.installation):
        await engine.stop(each.handle, 0)


async def test_a_program_gets_its_inputs_and_returns_a_file(
    under_test: EngineUnderTest, engine: ProgramEngine
) -> None:
    execution = under_test.execution(
        'echo "first $WHO $(date +%Y | wc -c)"; echo second; cat "$ANABRANCH_INPUT" > "$ANABRANCH_OUTPUT"',
        inputs={"text": "a $(b) $$ \\ ü"},
        env={"WHO": "$(HOME)"},
    )
    lines = Lines()

    handle = await engine.start(execution)
    outcome = await engine.follow(handle, execution.spec, lines)

    assert (outcome.exit_code, outcome.reason, outcome.message) == (0, "", "")
    assert json.loads(outcome.output or b"") == {"text": "a $(b) $$ \\ ü"}
    assert lines.stdout == ["first $(HOME) 5", "second"]
    assert len(handle.encode()) <= 512


async def test_large_inputs_are_a_file_too(under_test: EngineUnderTest, engine: ProgramEngine) -> None:
    execution = under_test.execution('wc -c < "$ANABRANCH_INPUT"', inputs="x" * 300_000, output="last-line")

    outcome = await engine.follow(await engine.start(execution), execution.spec, Lines())

    assert int(outcome.output or b"") == 300_002


async def test_inputs_may_be_the_last_argument(under_test: EngineUnderTest, engine: ProgramEngine) -> None:
    command = ["/bin/sh", "-c", 'printf "%s\\n" "$1" > "$ANABRANCH_OUTPUT"', "program"]
    execution = under_test.command(command, inputs={"cost": "$(5) $$"}, input="args")

    outcome = await engine.follow(await engine.start(execution), execution.spec, Lines())

    assert json.loads(outcome.output or b"") == {"cost": "$(5) $$"}


async def test_the_result_may_be_the_last_line_or_all_of_stdout(
    under_test: EngineUnderTest, engine: ProgramEngine
) -> None:
    last = under_test.execution("echo working; echo '{\"n\": 1}'", output="last-line")
    everything = under_test.execution("echo '{'; echo '\"n\": 2}'", output="stdout-json")

    handles = [await engine.start(last), await engine.start(everything)]
    ended = await engine.follow(handles[0], last.spec, Lines())
    whole = await engine.follow(handles[1], everything.spec, Lines())

    assert json.loads((ended.output or b"").splitlines()[-1]) == {"n": 1}
    assert json.loads(whole.output or b"") == {"n": 2}


async def test_an_exit_code_is_the_outcome(under_test: EngineUnderTest, engine: ProgramEngine) -> None:
    execution = under_test.execution("echo broken; exit 3")
    lines = Lines()

    outcome = await engine.follow(await engine.start(execution), execution.spec, lines)

    assert (outcome.exit_code, outcome.reason, outcome.output) == (3, "", None)
    assert not outcome.is_permanent
    assert lines.stdout == ["broken"]


async def test_a_command_that_does_not_exist_fails_for_good(
    under_test: EngineUnderTest, engine: ProgramEngine
) -> None:
    execution = under_test.command(["/no/such/program"])

    try:
        outcome = await engine.follow(await engine.start(execution), execution.spec, Lines())
        is_permanent, message = outcome.is_permanent, outcome.message
    except ProgramRefused as refused:
        is_permanent, message = True, str(refused)

    assert is_permanent
    assert "/no/such/program" in message


async def test_starts_of_one_name_are_one_execution(under_test: EngineUnderTest, workers: Workers) -> None:
    one, other = workers.one_more(), workers.one_more()
    execution = under_test.execution('echo started; echo 1 > "$ANABRANCH_OUTPUT"')
    lines = Lines()

    handles = await asyncio.gather(*(each.start(execution) for each in (one, other, one, other)))
    outcome = await other.follow(handles[0], execution.spec, lines)

    assert len(set(handles)) == 1
    assert (outcome.exit_code, lines.stdout) == (0, ["started"])
    assert await one.start(execution) == handles[0]
    await one.remove(handles[0])


async def test_another_worker_follows_what_the_first_one_left(
    under_test: EngineUnderTest, workers: Workers
) -> None:
    first, second = under_test.connect(), workers.one_more()
    execution = under_test.execution('echo one; sleep 2; echo two; echo 7 > "$ANABRANCH_OUTPUT"')
    seen, lines = asyncio.Event(), Lines()

    handle = await first.start(execution)
    following = asyncio.create_task(first.follow(handle, execution.spec, lambda *_: seen.set()))
    await seen.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await first.close()
    outcome = await second.follow(handle, execution.spec, lines)

    assert json.loads(outcome.output or b"") == 7
    assert lines.stdout[-1] == "two"
    await second.remove(handle)


async def test_an_execution_that_has_ended_is_followed_until_it_is_removed(
    under_test: EngineUnderTest, engine: ProgramEngine
) -> None:
    execution = under_test.execution('echo 1 > "$ANABRANCH_OUTPUT"')
    handle = await engine.start(execution)
    outcome = await engine.follow(handle, execution.spec, Lines())

    assert await engine.follow(handle, execution.spec, Lines()) == outcome
    await engine.remove(handle)
    await engine.remove(handle)
    gone = await engine.follow(handle, execution.spec, Lines())

    assert (gone.exit_code, gone.reason) == (None, "Gone")
    assert execution.name in gone.message
    assert await engine.found(under_test.installation) == []


async def test_a_stop_ends_a_program_and_leaves_nothing(
    under_test: EngineUnderTest, engine: ProgramEngine
) -> None:
    execution = under_test.execution(
        "trap 'echo asked to stop; exit 0' TERM; echo up; " + LONG.replace("sleep 1", "sleep 0.1")
    )
    up, lines = asyncio.Event(), Lines()

    def on_line(stream: str, text: str) -> None:
        lines(stream, text)
        up.set()

    handle = await engine.start(execution)
    following = asyncio.create_task(engine.follow(handle, execution.spec, on_line))
    await up.wait()
    await engine.stop(handle, 10)
    await following

    assert "asked to stop" in lines.stdout
    assert await engine.found(under_test.installation) == []
    await engine.stop(handle, 10)


async def test_a_program_that_ignores_term_is_killed(under_test: EngineUnderTest, engine: ProgramEngine) -> None:
    execution = under_test.execution("trap '' TERM; " + LONG)
    handle = await engine.start(execution)
    following = asyncio.create_task(engine.follow(handle, execution.spec, Lines()))
    await asyncio.sleep(0)

    await engine.stop(handle, 0.5)

    assert (await following).exit_code != 0
    assert await engine.found(under_test.installation) == []


async def test_found_tells_the_labels_as_they_were(under_test: EngineUnderTest, engine: ProgramEngine) -> None:
    odd = {"task": "a task/with: ümlauts and " + "x" * 80, "group": "", "member": "7"}
    running, ended = under_test.execution(LONG, labels=odd), under_test.execution("exit 1")
    handles = [await engine.start(running), await engine.start(ended)]
    await engine.follow(handles[1], ended.spec, Lines())

    # A platform may take a moment to notice the end that its node has told.
    async with asyncio.timeout(30):
        while True:
            found = {each.handle: each for each in await engine.found(under_test.installation)}
            if not found[handles[1]].is_running:
                break

    assert dict(found[handles[0]].labels) == dict(running.labels)
    assert [found[each].is_running for each in handles] == [True, False]
    assert await engine.found("another") == []
