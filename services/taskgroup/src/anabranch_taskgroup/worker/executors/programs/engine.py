"""What the executor of programs needs of an engine: the process table, a container engine or a Kubernetes API.

Each engine is a package beside this module, named after its kind, with `open_engine(settings) -> ProgramEngine` in
its `__init__`. It is imported and opened when a worker first needs it, on the running event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from anabranch.sdk.programs.spec import ProgramKind, ProgramSpec

Stream = Literal["stdout", "stderr"]
LineSink = Callable[[Stream, str], None]
"""Called with each line that a program prints, without its line break, in the order of its stream."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a program: one attempt of one member.

    Attributes:
        name: derived from installation, run, admission, group, task, member and attempt: the same for every
            worker that starts or adopts this execution. A DNS label of at most 63 characters.
        spec: has the identity of the attempt in its environment (`ANABRANCH_RUN_ID` and others). The engine adds
            `ANABRANCH_INPUT` and `ANABRANCH_OUTPUT`, whose paths only it knows. Its timeout ends at the deadline
            of the attempt at the latest.
        inputs: the inputs as JSON text.
        labels: what people and the clean-up find it by: `installation`, `session_id`, `run_id`, `group`, `task`,
            `member`, `attempt`, and `work`, which identifies the attempt for its owner. Values are any text. An
            engine may shorten or encode them for its platform's labels, and `found` returns them as they were: so
            an engine keeps the originals where its platform has room for them, such as in annotations.
    """

    name: str
    spec: ProgramSpec
    inputs: bytes
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProgramOutcome:
    """How an execution ended.

    Attributes:
        exit_code: None if the program never ran or its code is unknown.
        reason: "" if it exited by itself; else the cause in the platform's own term, such as `OOMKilled`,
            `Evicted`, `ImagePullBackOff`, `DeadlineExceeded`, `SIGKILL` or `Gone` (it no longer exists).
        message: a sentence that says what happened, where, and what to do about it; "" for an exit code of 0, and
            where the exit code says everything. The executor adds the last lines itself.
        output: bytes of the output file or of stdout, as the spec's output mode asks; None if there is none. An
            output of more than `MAX_OUTPUT_BYTES` is not read: it is a `reason` of `OutputTooLarge`. For
            `last-line` the last bytes of stdout are enough.
        is_permanent: True if a further attempt cannot succeed, such as for a command that does not exist.
    """

    exit_code: int | None
    reason: str = ""
    message: str = ""
    output: bytes | None = None
    is_permanent: bool = False


@dataclass(frozen=True, slots=True)
class FoundExecution:
    """An execution that an engine has, for the clean-up of orphans."""

    handle: str
    labels: Mapping[str, str]
    is_running: bool


class ProgramEngine(Protocol):
    """Runs executions. Every operation may be repeated, by this worker or another one.

    Raises:
        EngineUnavailable: from any operation, if the platform does not answer now. The caller retries.
        ProgramRefused: from `start`, if the platform or the worker's configuration refuses the execution.
        ProgramNotStarted: from `start`, if this attempt has failed: a later one may be started.
    """

    @property
    def kind(self) -> ProgramKind: ...

    @property
    def outlives_worker(self) -> bool:
        """True if executions go on when the worker ends and another worker can adopt them."""
        ...

    async def start(self, execution: Execution) -> str:
        """Start an execution, or find the one that was started under this name.

        Returns:
            Its handle: text of at most 512 bytes with which every worker of the installation finds it.
        """
        ...

    async def follow(self, handle: str, spec: ProgramSpec, on_line: LineSink) -> ProgramOutcome:
        """Wait until an execution has ended, and pass on its lines meanwhile. A caller may cancel this, which
        leaves the execution alone. After an adoption, lines that an earlier worker passed on may come again. A
        line of more than `MAX_LINE_BYTES` is cut. An execution that no longer exists has the reason `Gone`."""
        ...

    async def stop(self, handle: str, grace: float) -> None:
        """End an execution: TERM, after `grace` seconds KILL; then remove it. Returns once nothing of it runs, at
        once if it is gone."""
        ...

    async def remove(self, handle: str) -> None:
        """Remove what is left of an execution that has ended and whose outcome is on the log; nothing if it is
        gone."""
        ...

    async def found(self, installation: str) -> Sequence[FoundExecution]:
        """The executions of an installation that the platform has, running or ended."""
        ...

    async def close(self) -> None:
        """Release connections. Executions that outlive the worker go on, others are killed."""
        ...


class EngineUnavailable(Exception):
    """The platform does not answer, or asks to try again later."""


class ProgramRefused(Exception):
    """The execution cannot be started, and a further attempt would be refused again."""


class ProgramNotStarted(Exception):
    """The execution could not be started, and nothing of it is left. A further attempt may succeed, such as for a
    registry that did not give the image: the attempt has failed."""
