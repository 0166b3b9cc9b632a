"""What a program is and how it exchanges values with the worker: data only, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ProgramKind = Literal["process", "container", "kubernetes"]
"""The engine that runs a program."""

InputMode = Literal["file", "stdin", "args"]
"""How a program gets its inputs: a JSON file named by `$ANABRANCH_INPUT`, the same text on stdin, or as its last
argument."""

OutputMode = Literal["file", "stdout-json", "last-line"]
"""Where the result is read: a JSON file that the program writes to `$ANABRANCH_OUTPUT`, its whole stdout, or the
last line of its stdout, as JSON if it parses and as text otherwise."""

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
"""Maximum bytes of the result of an execution."""
MAX_LINE_BYTES = 16 * 1024
"""Bytes after which a line of stdout or stderr is cut."""


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """Resources of one execution. None: no limit of its own.

    Attributes:
        cpu: in cores; 0.5 is half of one core.
        memory: in bytes.
        gpu: number of whole devices.
    """

    cpu: float | None = None
    memory: int | None = None
    gpu: int | None = None


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A program with all templates rendered.

    Attributes:
        command: program and arguments; empty: the image's own entry point.
        timeout: of one execution, in seconds; None for none of its own.
        image: container image; None for a process.
        namespace, service_account: of a Kubernetes Job; None for the worker's defaults.
        options: further options of one engine by name, such as `network` of a container.
    """

    kind: ProgramKind
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    limits: ProgramLimits = field(default_factory=ProgramLimits)
    timeout: float | None = None
    input: InputMode = "file"
    output: OutputMode = "file"
    namespace: str | None = None
    service_account: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
