"""The engine of processes: an execution is a program in a process group of its own, which ends with the worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import orjson

from anabranch.sdk.programs.spec import MAX_OUTPUT_BYTES, ProgramKind, ProgramSpec
from anabranch_taskgroup.worker.executors.programs.engine import (
    Execution,
    FoundExecution,
    LineSink,
    ProgramOutcome,
    ProgramRefused,
    Stream,
)
from anabranch_taskgroup.worker.executors.programs.lines import LineSplitter
from anabranch_taskgroup.worker.executors.programs.process import supervisor

KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""What a program inherits of the worker's environment. Everything else may be a secret."""
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
READ_BYTES = 65_536
DRAIN_SECONDS = 2.0
"""How long a program that has ended may leave its streams open, in processes that have left its group."""
FIRST_KILL_SECONDS = 5.0
"""How long `close` waits for a killed program to be gone."""


@dataclass(slots=True)
class _Running:
    """One execution: its supervisor, the pipe that controls it, and its private folder."""

    process: asyncio.subprocess.Process
    control: int
    folder: Path
    inputs: bytes | None
    lines: list[tuple[Stream, str]] = field(default_factory=list)
    sink: LineSink | None = None
    stdout: bytearray = field(default_factory=bytearray)
    has_too_much: bool = False
    stopped_by: str = ""
    ended: asyncio.Task[int] | None = None

    def add(self, stream: Stream, line: str) -> None:
        if self.sink is not None:
            self.sink(stream, line)


class ProcessEngine:
    """A `ProgramEngine`. The handle of an execution is its name."""

    kind: ProgramKind = "process"
    outlives_worker = False

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    async def start(self, execution: Execution) -> str:
        """See `ProgramEngine.start`."""
        if execution.name in self._running:
            return execution.name
        spec = execution.spec
        folder = Path(tempfile.mkdtemp(prefix="anabranch-"))
        try:
            self._running[execution.name] = await self._spawn(spec, execution.inputs, folder)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, (OSError, ValueError)):
                raise ProgramRefused(f"the process {spec.command[0]!r} cannot be started: {error}") from error
            raise
        return execution.name

    async def _spawn(self, spec: ProgramSpec, inputs: bytes, folder: Path) -> _Running:
        (folder / "input.json").write_bytes(inputs)
        command = [*spec.command, inputs.decode()] if spec.input == "args" else list(spec.command)
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                supervisor.__file__,
                orjson.dumps(_supervised(spec, command, reading)).decode(),
                stdin=asyncio.subprocess.PIPE if spec.input == "stdin" else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(spec, folder),
                cwd=spec.options.get("cwd"),
                pass_fds=(reading,),
                start_new_session=True,
            )
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        running = _Running(process, writing, folder, inputs if spec.input == "stdin" else None)
        running.ended = asyncio.ensure_future(_run(running, spec))
        return running

    async def follow(self, handle: str, spec: ProgramSpec, on_line: LineSink) -> ProgramOutcome:
        """See `ProgramEngine.follow`."""
        running = self._running.get(handle)
        if running is None or running.ended is None:
            return ProgramOutcome(None, "Gone", "the process no longer exists")
        running.sink = on_line
        try:
            async with asyncio.timeout(spec.timeout):
                code = await asyncio.shield(running.ended)
        except TimeoutError:
            await self.stop(handle, 0.0)
            return ProgramOutcome(None, "DeadlineExceeded")
        return _outcome(running, spec, code)

    async def stop(self, handle: str, grace: float) -> None:
        """See `ProgramEngine.stop`."""
        running = self._running.get(handle)
        if running is None or running.ended is None:
            return
        if not running.ended.done() and grace > 0:
            _ask(running, b"T")
            await asyncio.wait((running.ended,), timeout=grace)
        if not running.ended.done():
            _ask(running, b"K")
            await asyncio.wait((running.ended,))
        await self.remove(handle)

    async def remove(self, handle: str) -> None:
        """See `ProgramEngine.remove`."""
        running = self._running.pop(handle, None)
        if running is not None:
            os.close(running.control)
            await asyncio.to_thread(shutil.rmtree, running.folder, True)

    async def found(self, installation: str) -> Sequence[FoundExecution]:
        """See `ProgramEngine.found`. None: no process outlives its worker."""
        return ()

    async def close(self) -> None:
        """See `ProgramEngine.close`."""
        async with asyncio.timeout(FIRST_KILL_SECONDS):
            await asyncio.gather(*(self.stop(handle, 0.0) for handle in list(self._running)))


def _supervised(spec: ProgramSpec, command: list[str], control: int) -> dict[str, object]:
    cpus = None if spec.limits.cpu is None else max(1, ceil(spec.limits.cpu))
    has_cpu_time = spec.timeout is not None and spec.limits.cpu is not None
    seconds = ceil((spec.timeout or 0) * (spec.limits.cpu or 0)) + 1 if has_cpu_time else None
    memory = spec.limits.memory
    return {"command": command, "control": control, "memory": memory, "cpu_seconds": seconds, "cpus": cpus}


def _environment(spec: ProgramSpec, folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    own = {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "ANABRANCH_INPUT": str(folder / "input.json"),
        "ANABRANCH_OUTPUT": str(folder / "output.json"),
    }
    return {"PATH": DEFAULT_PATH, **kept, **own, **spec.env}


def _ask(running: _Running, what: bytes) -> None:
    with contextlib.suppress(OSError):  # the supervisor has ended
        os.write(running.control, what)


# --- streams -------------------------------------------------------------------------------------


async def _run(running: _Running, spec: ProgramSpec) -> int:
    """Read the streams of a program until it has ended; returns its exit code, or a negated signal."""
    process = running.process
    readers = [
        asyncio.ensure_future(_read(running, spec, "stdout", process.stdout)),
        asyncio.ensure_future(_read(running, spec, "stderr", process.stderr)),
        asyncio.ensure_future(_write(process.stdin, running.inputs)),
    ]
    code = await process.wait()
    _, open_streams = await asyncio.wait(readers, timeout=DRAIN_SECONDS)
    for each in open_streams:
        each.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return code


async def _read(running: _Running, spec: ProgramSpec, stream: Stream, reader: asyncio.StreamReader | None) -> None:
    assert reader is not None, "the stream is a pipe"
    keeps = stream == "stdout" and spec.output != "file"
    lines = LineSplitter(lambda line: running.add(stream, line))
    while data := await reader.read(READ_BYTES):
        lines.feed(data)
        if keeps:
            _keep(running, spec, data)
    lines.close()


def _keep(running: _Running, spec: ProgramSpec, data: bytes) -> None:
    running.stdout += data
    if spec.output == "last-line" and len(running.stdout) > READ_BYTES:
        # All but the last line that is not empty, and what may follow it.
        end = running.stdout.rfind(b"\n", 0, len(running.stdout.rstrip()))
        del running.stdout[: end + 1]
    if len(running.stdout) > MAX_OUTPUT_BYTES:
        running.has_too_much = True
        running.stdout.clear()


async def _write(writer: asyncio.StreamWriter | None, inputs: bytes | None) -> None:
    if writer is None or inputs is None:
        return
    with contextlib.suppress(OSError):  # the program does not read its inputs
        writer.write(inputs)
        await writer.drain()
    writer.close()


def _outcome(running: _Running, spec: ProgramSpec, code: int) -> ProgramOutcome:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return ProgramOutcome(None, name, f"the program was ended by {name}")
    if code == supervisor.NOT_FOUND and not running.stdout:
        return ProgramOutcome(
            code, "", f"the program ended with exit code {code}: {spec.command[0]!r} was not found"
        )
    if code:
        return ProgramOutcome(code)
    if spec.output != "file":
        too_large = ProgramOutcome(code, "OutputTooLarge", is_permanent=True)
        return too_large if running.has_too_much else ProgramOutcome(code, output=bytes(running.stdout))
    path = running.folder / "output.json"
    try:
        if path.stat().st_size > MAX_OUTPUT_BYTES:
            return ProgramOutcome(code, "OutputTooLarge", is_permanent=True)
        return ProgramOutcome(code, output=path.read_bytes())
    except FileNotFoundError:
        return ProgramOutcome(code)
