"""A simulated platform, on which work of members goes on when their workers die, and the checks of that work.

For seeds from `OUTSIDE_FROM` on: most tasks run as programs of the kind `kubernetes`. The platform is
unreachable for a while in some seeds, and shows the ends of programs late. The outcome of each run is as if
workers called an agent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.core.errors import ServerUnavailable
from anabranch.ports import Incoming
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import AgentDeclaration, Registry
from anabranch.sdk.programs.agent_files import not_callable
from anabranch.sdk.programs.program import ProgramCall
from anabranch.sdk.programs.spec import ProgramKind, ProgramSpec
from anabranch.sdk.task import Task
from anabranch.testing.simulator.fault_injector import FaultInjector
from anabranch.testing.simulator.loop import OUTSIDE, SimLoop
from anabranch.testing.simulator.servers import Wire
from anabranch.testing.simulator.workload_answers import answer
from anabranch_taskgroup.session.suspects import MAX_SPARED
from anabranch_taskgroup.worker.executors.programs.engine import (
    EngineUnavailable,
    Execution,
    FoundExecution,
    LineSink,
    ProgramOutcome,
)

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected

OUTSIDE_FROM, OUTSIDE_UNTIL = 10_200_000, 10_300_000
AGENT = "outside"
SECONDS = (0.1, 0.5, 3.0, 12.0)
"""How long programs run; some longer than it takes to notice that a worker is dead."""
POLL_SECONDS = 0.5
ORPHAN_SECONDS = 10.0

SettingsOf = Callable[[str, int], Settings]


def is_outside(seed: str) -> bool:
    """True if members of a seed run outside of workers."""
    return seed.isdigit() and OUTSIDE_FROM <= int(seed) < OUTSIDE_UNTIL


def add_outside(seed: str, number: int, expected: Expected) -> None:
    """Let most tasks of a request run outside of workers."""
    random = Random(f"outside {seed} {number}")
    for group in expected.request["task_groups"]:
        for task in group["tasks"]:
            if random.random() < 0.75:
                task["agent"] = AGENT
                # A worker's death is never the fault of such a member.
                task["max_deliveries"] = 1
                if random.random() < 0.6:
                    task["inputs"]["seconds"] = random.choice(SECONDS)


def running_outside(seed: str, settings_of: SettingsOf) -> SettingsOf:
    """The settings of processes, with the platform."""
    if not is_outside(seed):
        return settings_of
    places = Random(f"outside {seed}").choice((1, 4, 64))

    def settings(process: str, number: int) -> Settings:
        found = settings_of(process, number)
        return replace(
            found, executors=("kubernetes",), kubernetes_concurrency=places, orphan_seconds=ORPHAN_SECONDS
        )

    return settings


@dataclass(frozen=True, slots=True)
class _SimulatedProgram:
    """See `sdk.programs.program.Program`. It does what the agent `work` does."""

    started: Callable[[Task], None]
    kind: ProgramKind = "kubernetes"

    @property
    def summary(self) -> None:
        return None

    def call_of(self, task: Task) -> ProgramCall:
        self.started(task)
        inputs = {
            "name": task.task_name,
            "index": task.index,
            "attempt": task.attempt,
            "inputs": task.inputs,
            "context": dict(task.context),
        }
        return ProgramCall(ProgramSpec(kind="kubernetes", image="work"), orjson.dumps(inputs))


def add_outside_agent(seed: str, registry: Registry, started: Callable[[Task], None]) -> Registry:
    """The registry of a process, with the agent whose work runs on the platform."""
    if not is_outside(seed):
        return registry
    return registry.declare(
        AgentDeclaration(
            name=AGENT,
            handler=not_callable,
            is_async=True,
            executor="kubernetes",
            program=_SimulatedProgram(started),
        )
    )


# --- the platform --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Program:
    """One program on the platform."""

    execution: Execution
    ends_at: float
    is_running: bool = True
    outcome: ProgramOutcome | None = None
    """Once the platform shows it."""


class Platform:
    """Runs programs in virtual time, whatever happens to workers.

    Args:
        report: receives a violated promise.
    """

    def __init__(self, seed: str, loop: SimLoop, injector: FaultInjector, report: Callable[[str], None]) -> None:
        self._loop = loop
        self._injector = injector
        self._report = report
        self._random = Random(f"platform {seed}")
        self._programs: dict[str, _Program] = {}
        self._starts: Counter[tuple[str, str]] = Counter()
        self._losses: Counter[tuple[str, str, str]] = Counter()
        self.outages = [
            (self._random.random() * 30, self._random.choice((2.0, 8.0, 20.0)))
            for _ in range(self._random.choice((0, 0, 1, 2)))
        ]
        """(time, seconds) in which no worker reaches the platform."""

    def engine_of(self, process: str) -> SimEngine:
        """The engine with which a process reaches the platform."""
        return SimEngine(self, Wire(self._loop, self._injector, process, "platform"))

    def start(self, execution: Execution) -> str:
        """Start a program, unless there is one of this name."""
        if execution.name not in self._programs:
            labels = execution.labels
            attempt = labels["run_id"], labels["work"]
            self._starts[attempt] += 1
            if self._starts[attempt] > 1:
                self._report(f"the work {attempt} was started {self._starts[attempt]} times")
            inputs = orjson.loads(execution.inputs)
            seconds = inputs["inputs"].get("seconds", 0) * (1 + (inputs["index"] or 0) % 3)
            limit = execution.spec.timeout
            late = limit is not None and seconds > limit
            program = _Program(execution, self._loop.time() + (limit or 0.0 if late else seconds))
            self._programs[execution.name] = program
            self._loop.call_at(program.ends_at, self._end, execution.name, program, late, context=OUTSIDE)
        return execution.name

    def _end(self, name: str, program: _Program, is_late: bool) -> None:
        if self._programs.get(name) is program:
            program.is_running = False
            shown_in = self._random.choice((0.0, 0.0, 0.3, 4.0))
            outcome = ProgramOutcome(None, "DeadlineExceeded") if is_late else _outcome(program.execution)
            self._loop.call_later(shown_in, setattr, program, "outcome", outcome, context=OUTSIDE)

    def outcome(self, name: str) -> ProgramOutcome | None:
        """The outcome of a program; None while the platform shows none."""
        program = self._programs.get(name)
        return ProgramOutcome(None, "Gone", "it is gone") if program is None else program.outcome

    def remove(self, name: str) -> None:
        """End and remove a program."""
        self._programs.pop(name, None)

    def found(self) -> list[FoundExecution]:
        """All programs."""
        return [
            FoundExecution(name, program.execution.labels, program.is_running)
            for name, program in self._programs.items()
        ]

    # --- checks ------------------------------------------------------------------------------------

    def left(self) -> Iterator[str]:
        """Programs that are still there."""
        for name, program in self._programs.items():
            labels = program.execution.labels
            yield f"the platform has the program {name} of {labels['run_id']}: {labels['work']}"

    def appended(self, record: Incoming) -> None:
        """Check the mode of offers: the death of a worker is not the fault of work that runs outside of it."""
        header = record.value.partition(b"\n")[0]
        if b'"lost"' in header:
            lost = orjson.loads(header)
            if lost.get("type") == "lost":
                self._losses[lost["run_id"], lost["group"], lost["task"]] += 1
        elif b'"handles"' in header and b'"offer"' in header:
            self._check(orjson.loads(header))

    def _check(self, offer: Mapping[str, Any]) -> None:
        place = offer["run_id"], offer["group"], offer["task"]
        if offer.get("mode", "fast") != "fast" and self._losses[place] <= MAX_SPARED:
            self._report(f"work of {place} that runs outside is suspected of killing its worker")


def _outcome(execution: Execution) -> ProgramOutcome:
    """What the agent of random workloads does, as a program."""
    given = orjson.loads(execution.inputs)
    inputs, index, attempt = given["inputs"], given["index"] or 0, given["attempt"]
    if index in inputs.get("fails", ()) or attempt <= inputs.get("flaky", {}).get(str(index), 0):
        return ProgramOutcome(1)
    found = answer(given["name"], given["index"], inputs, given["context"])
    return ProgramOutcome(0, output=orjson.dumps(found))


class SimEngine:
    """A `ProgramEngine` of one process."""

    kind: ProgramKind = "kubernetes"
    outlives_worker = True

    def __init__(self, platform: Platform, wire: Wire) -> None:
        self._platform = platform
        self._wire = wire

    async def start(self, execution: Execution) -> str:
        """See `ProgramEngine`."""
        found: str = await self._call("start", lambda: self._platform.start(execution))
        return found

    async def follow(self, handle: str, spec: ProgramSpec, on_line: LineSink) -> ProgramOutcome:
        """See `ProgramEngine`."""
        while True:
            outcome: ProgramOutcome | None = await self._call("look", lambda: self._platform.outcome(handle))
            if outcome is not None:
                return outcome
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, handle: str, grace: float) -> None:
        """See `ProgramEngine`."""
        await self._call("stop", lambda: self._platform.remove(handle))

    async def remove(self, handle: str) -> None:
        """See `ProgramEngine`."""
        await self._call("remove", lambda: self._platform.remove(handle))

    async def found(self, installation: str) -> Sequence[FoundExecution]:
        """See `ProgramEngine`."""
        found: list[FoundExecution] = await self._call("found", self._platform.found)
        return found

    async def close(self) -> None:
        """See `ProgramEngine`."""

    async def _call(self, name: str, action: Callable[[], Any]) -> Any:
        try:
            return await self._wire.call(name, action)
        except ServerUnavailable as error:
            raise EngineUnavailable(str(error)) from error
