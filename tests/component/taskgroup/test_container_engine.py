"""The engine of containers on a Docker API in this process, and its faults; the contract suite has the rest."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from docker_api import DockerApi, docker_api, only_container
from docker_containers import Refusal
from small_requests import request, task
from waiting import eventually

from anabranch.runtime.process.settings import Settings
from anabranch.sdk.programs.spec import MAX_OUTPUT_BYTES, ProgramSpec
from anabranch.testing import system
from anabranch_taskgroup.worker.executors.programs.container import open_engine
from anabranch_taskgroup.worker.executors.programs.engine import (
    EngineUnavailable,
    Execution,
    ProgramEngine,
    ProgramNotStarted,
    ProgramRefused,
)

Lines = list[tuple[str, str]]


@pytest.fixture(params=["docker", "podman"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DockerApi]:
    async with docker_api(tmp_path, is_podman=request.param == "podman") as api:
        yield api


class Workers:
    """Engines of several workers, on one API."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def one_more(self, **settings: Any) -> ProgramEngine:
        socket = f"unix://{self._folder}/docker.sock"
        engine = open_engine(Settings.load({}, overrides={"container_socket": socket, **settings}))
        self._stack.push_async_callback(engine.close)
        return engine


@pytest.fixture
async def workers(api: DockerApi, tmp_path: Path) -> AsyncIterator[Workers]:
    async with AsyncExitStack() as stack:
        yield Workers(tmp_path, stack)


@pytest.fixture
async def engine(workers: Workers) -> ProgramEngine:
    return workers.one_more()


def execution(script: str, inputs: bytes = b"{}", **spec: Any) -> Execution:
    program = ProgramSpec(**{"kind": "container", "command": ("sh", "-c", script), "image": "tests/shell", **spec})
    return Execution("ab-1", program, inputs, {"installation": "i", "work": "w"})


async def test_stdin_is_what_the_program_reads_to_its_end(engine: ProgramEngine) -> None:
    large = json.dumps("x" * 2_000_000).encode()
    wanted = execution("wc -c", large, input="stdin", output="last-line")

    outcome = await engine.follow(await engine.start(wanted), wanted.spec, lambda *_: None)

    assert int(outcome.output or b"") == len(large)


async def test_a_program_need_not_read_its_stdin(engine: ProgramEngine) -> None:
    wanted = execution("echo 1", b"x" * 2_000_000, input="stdin", output="last-line")

    outcome = await engine.follow(await engine.start(wanted), wanted.spec, lambda *_: None)

    assert outcome.output == b"1"


@pytest.mark.parametrize("mode", ["file", "stdin"])
async def test_a_worker_that_froze_before_the_start_does_not_start_again_what_has_ended(
    api: DockerApi, workers: Workers, mode: str
) -> None:
    """The container has ended and is not removed yet, when the first worker goes on: its start is refused."""
    frozen, other = workers.one_more(), workers.one_more()
    wanted = execution("cat; echo 1", b"[]", input=mode, output="last-line")
    arrived, released = api.hold("/ab-1/start")

    first = asyncio.create_task(frozen.start(wanted))
    await arrived.wait()
    handle = await other.start(wanted)
    outcome = await other.follow(handle, wanted.spec, lambda *_: None)
    released.set()

    assert await first == handle
    assert outcome.output == (b"[]1" if mode == "stdin" else b"1")
    assert only_container(api).starts == 1


async def test_a_worker_that_died_before_the_start_leaves_a_container_that_another_starts(
    api: DockerApi, workers: Workers
) -> None:
    dying, other = workers.one_more(), workers.one_more()
    wanted = execution('cat "$ANABRANCH_INPUT"', b"[1]", output="last-line")
    arrived, released = api.hold("/archive")
    first = asyncio.create_task(dying.start(wanted))
    await arrived.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    released.set()

    assert [each.is_running for each in await other.found("i")] == [True]
    outcome = await other.follow(await other.start(wanted), wanted.spec, lambda *_: None)

    assert (outcome.output, only_container(api).starts) == (b"[1]", 1)


async def test_a_broken_connection_is_an_engine_to_wait_for_and_no_line_comes_twice(
    api: DockerApi, engine: ProgramEngine, tmp_path: Path
) -> None:
    wanted = execution(f'echo one; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; printf "two\\nthree"')
    lines: Lines = []
    seen = asyncio.Event()

    def on_line(stream: str, line: str) -> None:
        lines.append((stream, line))
        seen.set()

    handle = await engine.start(wanted)
    following = asyncio.create_task(engine.follow(handle, wanted.spec, on_line))
    await seen.wait()
    api.break_connections()
    with pytest.raises(EngineUnavailable, match="connection broke"):
        await following
    (tmp_path / "go").touch()
    outcome = await engine.follow(handle, wanted.spec, on_line)

    assert outcome.exit_code == 0
    assert lines == [("stdout", "one"), ("stdout", "two"), ("stdout", "three")]


async def test_a_log_that_breaks_alone_is_read_again(api: DockerApi, engine: ProgramEngine) -> None:
    api.failures["/logs"] = Refusal(500, "cannot read the log now")
    wanted = execution("echo one; echo two >&2")
    lines: Lines = []

    outcome = await engine.follow(await engine.start(wanted), wanted.spec, lambda *line: lines.append(line))

    assert (outcome.exit_code, sorted(lines)) == (0, [("stderr", "two"), ("stdout", "one")])


async def test_a_timeout_ends_the_program(api: DockerApi, engine: ProgramEngine) -> None:
    wanted = execution("trap 'exit 0' TERM; while :; do sleep 0.05; done", timeout=0.2)

    outcome = await engine.follow(await engine.start(wanted), wanted.spec, lambda *_: None)

    assert (outcome.reason, only_container(api).status) == ("DeadlineExceeded", "exited")


async def test_a_timeout_that_was_over_while_no_worker_was_there_is_one(workers: Workers) -> None:
    first, second = workers.one_more(), workers.one_more()
    wanted = execution("sleep 0.3; exit 4", timeout=0.2)
    handle = await first.start(wanted)
    unlimited = execution("").spec
    await first.follow(handle, unlimited, lambda *_: None)

    outcome = await second.follow(handle, wanted.spec, lambda *_: None)

    assert (outcome.exit_code, outcome.reason) == (4, "DeadlineExceeded")


async def test_memory_that_ran_out_is_told(api: DockerApi, engine: ProgramEngine) -> None:
    wanted = execution("kill -9 $$")
    handle = await engine.start(wanted)
    only_container(api).is_oom = True

    outcome = await engine.follow(handle, wanted.spec, lambda *_: None)

    assert (outcome.exit_code, outcome.reason) == (137, "OOMKilled")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f'head -c {MAX_OUTPUT_BYTES + 1} /dev/zero > "$ANABRANCH_OUTPUT"', "OutputTooLarge"),
        ('ln -s /etc/passwd "$ANABRANCH_OUTPUT"', "OutputNotAFile"),
        ('mkdir "$ANABRANCH_OUTPUT"', "OutputNotAFile"),
    ],
)
async def test_an_output_that_is_no_file_of_a_bounded_size_is_not_read(
    engine: ProgramEngine, script: str, reason: str
) -> None:
    wanted = execution(script)

    outcome = await engine.follow(await engine.start(wanted), wanted.spec, lambda *_: None)

    assert (outcome.reason, outcome.output, outcome.is_permanent) == (reason, None, True)


async def test_a_program_without_output_has_none(engine: ProgramEngine) -> None:
    wanted = execution("true")

    outcome = await engine.follow(await engine.start(wanted), wanted.spec, lambda *_: None)

    assert (outcome.exit_code, outcome.output) == (0, None)


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ({"command": ("/no/such",)}, "executable file not found"),
        ({"command": ("/etc/passwd",)}, "permission denied"),
        ({"image": "Not An Image"}, "not the name of an image"),
        ({"options": {"network": "missing"}}, "network missing not found"),
        ({"options": {"unknown": "1"}}, "no option 'unknown'"),
        ({"image": "acme/absent", "options": {"pull": "never"}}, "options.pull is never"),
    ],
)
async def test_what_cannot_be_started_is_refused_and_leaves_nothing(
    api: DockerApi, engine: ProgramEngine, spec: dict[str, Any], part: str
) -> None:
    with pytest.raises(ProgramRefused, match=part):
        await engine.start(execution("true", **spec))

    assert api.host.containers == {}


async def test_a_start_that_fails_for_now_leaves_nothing(api: DockerApi, engine: ProgramEngine) -> None:
    api.failures["/start"] = Refusal(500, "no space left on device")

    with pytest.raises(ProgramNotStarted, match="no space left"):
        await engine.start(execution("true"))

    assert api.host.containers == {}


async def test_a_missing_image_is_pulled_once_with_its_registrys_credentials(
    api: DockerApi, workers: Workers, tmp_path: Path
) -> None:
    config = {"auths": {"registry.test": {"auth": base64.b64encode(b"me:secret").decode()}}}
    (tmp_path / "auth.json").write_text(json.dumps(config))
    engine = workers.one_more(container_auth_file=str(tmp_path / "auth.json"))
    wanted = execution("true", image="registry.test/acme/tool:2")

    await engine.follow(await engine.start(wanted), wanted.spec, lambda *_: None)

    ((image, tag, credentials),) = api.host.pulled
    assert (image, tag) == ("registry.test/acme/tool", "2")
    assert json.loads(base64.urlsafe_b64decode(credentials or ""))["password"] == "secret"


async def test_a_pull_that_is_refused_is_final_and_another_failure_is_not(
    api: DockerApi, engine: ProgramEngine, workers: Workers, tmp_path: Path
) -> None:
    wanted = execution("true", image="registry.test/acme/tool")
    api.host.pull_error = "unauthorized: authentication required"
    with pytest.raises(ProgramRefused, match="ANABRANCH_CONTAINER_AUTH_FILE"):
        await engine.start(wanted)

    api.host.pull_error = "dial tcp: connection refused"
    with pytest.raises(ProgramNotStarted, match=r"has to reach registry\.test"):
        await engine.start(wanted)

    with pytest.raises(ProgramNotStarted, match="ANABRANCH_CONTAINER_AUTH_FILE"):
        await workers.one_more(container_auth_file=str(tmp_path / "missing")).start(wanted)


async def test_an_engine_that_is_away_is_waited_for(api: DockerApi, workers: Workers, tmp_path: Path) -> None:
    absent = workers.one_more(container_socket=f"unix://{tmp_path}/absent.sock")

    with pytest.raises(EngineUnavailable, match="there is no such socket"):
        await absent.start(execution("true"))
    with pytest.raises(EngineUnavailable, match="there is no such socket"):
        await absent.found("i")

    api.version = "1.24"
    with pytest.raises(EngineUnavailable, match=r"needs|is needed: update the engine"):
        await workers.one_more().start(execution("true"))


async def test_a_container_of_somebody_else_with_the_name_is_left_alone(
    api: DockerApi, engine: ProgramEngine
) -> None:
    api.host.create("ab-1", {"Image": "tests/shell", "Labels": {}})

    with pytest.raises(ProgramNotStarted, match="remove that one"):
        await engine.start(execution("true"))

    assert only_container(api).status == "created"


async def test_a_container_that_was_removed_is_gone(api: DockerApi, engine: ProgramEngine) -> None:
    wanted = execution("sleep 60")
    handle = await engine.start(wanted)
    following = asyncio.create_task(engine.follow(handle, wanted.spec, lambda *_: None))
    await asyncio.sleep(0)

    await api.host.remove(only_container(api), is_forced=True)

    assert (await following).reason == "Gone"
    assert "machine-1" in (await engine.follow(handle, wanted.spec, lambda *_: None)).message
    await engine.stop(handle, 1)
    await engine.remove(handle)


async def test_a_member_that_is_over_its_timeout_shows_no_frames_of_the_worker(
    api: DockerApi, tmp_path: Path
) -> None:
    program = {"image": "tests/shell", "command": ["sleep", "60"]}
    socket = f"unix://{tmp_path}/docker.sock"
    async with system(executors=("container",), executor_images=("tests/*",), container_socket=socket) as running:
        result = await running.run(request(task("t", "container", program, timeout=1.0)))

    (failure,) = result.failures
    assert failure["error_type"] == "AttemptTimeout"
    assert failure.get("traceback") is None


async def test_a_system_does_not_stop_the_containers_of_another_on_the_same_engine(
    api: DockerApi, tmp_path: Path
) -> None:
    settings = {
        "executors": ("container",),
        "executor_images": ("tests/*",),
        "container_socket": f"unix://{tmp_path}/docker.sock",
        "orphan_seconds": 1.0,
    }

    def sleeper(file: str) -> dict[str, Any]:
        script = f"while [ ! -e {tmp_path}/{file} ]; do sleep 0.1; done"
        return request(task("t", "container", {"image": "tests/shell", "command": ["sh", "-c", script]}))

    async with system(**settings) as first, system(**settings) as second:
        run = await first.submit(sleeper("first"))
        await eventually(lambda: len(api.host.containers) == 1)
        other = await second.submit(sleeper("never"))
        await eventually(lambda: len(api.host.containers) == 2)
        await other.cancel()
        searches = sum("/containers/json" in each for each in api.requests)
        await eventually(lambda: len(api.host.containers) == 1)
        await eventually(lambda: sum("/containers/json" in each for each in api.requests) > searches + 2)
        (tmp_path / "first").touch()
        result = await run.result()

    assert (result.status, result.failures) == ("completed", ())
