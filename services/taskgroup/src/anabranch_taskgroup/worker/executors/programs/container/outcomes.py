"""Decides what an engine's answers mean for an execution. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from anabranch.sdk.programs.spec import ProgramSpec
from anabranch_taskgroup.worker.executors.programs.engine import ProgramOutcome

_NEVER = "0001-01-01"
_ENDED = ("exited", "dead", "stopped")
_UNSTARTED = ("created", "configured", "initialized")
_SIGNAL_BASE = 128


@dataclass(frozen=True, slots=True)
class ContainerState:
    """The state of a container, as `GET /containers/{id}/json` tells it.

    Attributes:
        is_oom: True if the engine has noticed that memory ran out. Not every engine does, on every kernel.
        started, finished: by the engine's clock.
    """

    status: str
    exit_code: int
    is_oom: bool
    error: str
    started: datetime | None
    finished: datetime | None

    @property
    def has_ended(self) -> bool:
        return self.status in _ENDED

    @property
    def has_started(self) -> bool:
        return self.status not in _UNSTARTED


def read_state(document: Mapping[str, Any]) -> ContainerState:
    """Parse the answer of `GET /containers/{id}/json`."""
    state = document["State"]
    return ContainerState(
        status=str(state.get("Status", "")),
        exit_code=int(state.get("ExitCode") or 0),
        is_oom=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        started=_time(state.get("StartedAt")),
        finished=_time(state.get("FinishedAt")),
    )


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str) or not text or text.startswith(_NEVER):
        return None
    return datetime.fromisoformat(text)


def remaining_seconds(state: ContainerState, timeout: float | None, now: datetime | None) -> float | None:
    """Seconds until the timeout of a running container, at least 0; None if it has none.

    Args:
        now: by the engine's clock, as `started` is; None if it is unknown, which counts from now on.
    """
    if timeout is None:
        return None
    if state.started is None or now is None:
        return timeout
    return max(0.0, timeout - (now - state.started).total_seconds())


def ended_outcome(state: ContainerState, spec: ProgramSpec, *, was_stopped: bool) -> ProgramOutcome:
    """How an execution ended, without its output.

    Args:
        was_stopped: True if this worker has stopped it at its timeout.
    """
    code = state.exit_code
    if not state.has_ended:
        message = f"the container was never started, its state is {state.status!r}: it was created, and then left"
        return ProgramOutcome(None, "NotStarted", message + (f" ({state.error})" if state.error else ""))
    if was_stopped or (code != 0 and _is_over_time(state, spec.timeout)):
        return ProgramOutcome(
            code,
            "DeadlineExceeded",
            f"the container ran for its timeout of {spec.timeout:g} s and was stopped; raise timeout, or give it "
            "less to do",
        )
    if state.is_oom:
        return ProgramOutcome(code, "OOMKilled", f"the container used more than {_memory(spec)}")
    if code == 0:
        return ProgramOutcome(0)
    return _failed(state, spec)


def _is_over_time(state: ContainerState, timeout: float | None) -> bool:
    if timeout is None or state.started is None or state.finished is None:
        return False
    return (state.finished - state.started).total_seconds() >= timeout


def _failed(state: ContainerState, spec: ProgramSpec) -> ProgramOutcome:
    code, program = state.exit_code, _program(spec)
    if code == 127:
        message = f"{program}, or one that it calls, is not in the image {spec.image}: correct it, or install it"
        return ProgramOutcome(code, "CommandNotFound", message, is_permanent=True)
    if code == 126:
        message = (
            f"{program}, or one that it calls, cannot be executed in the image {spec.image}: it is no program, is "
            "of another processor architecture, or its permissions do not allow it"
        )
        return ProgramOutcome(code, "CommandNotExecutable", message, is_permanent=True)
    name = signal_name(code)
    if name == "SIGKILL" and spec.limits.memory is not None:
        return ProgramOutcome(
            code, name, f"the program was killed, most likely because it used more than {_memory(spec)}"
        )
    if name:
        return ProgramOutcome(code, name, f"the program was ended by {name}")
    return ProgramOutcome(code, message=state.error)


def signal_name(exit_code: int) -> str:
    """The signal that an exit code above 128 stands for; "" for any other code."""
    try:
        return signal.Signals(exit_code - _SIGNAL_BASE).name
    except ValueError:
        return ""


def _memory(spec: ProgramSpec) -> str:
    if spec.limits.memory is None:
        return "the memory of the engine's machine; set resources.memory, or give it less to do"
    return f"its {spec.limits.memory / 2**20:,.0f} MiB of memory; raise resources.memory, or give it less to do"


def _program(spec: ProgramSpec) -> str:
    return f"the command {spec.command[0]!r}" if spec.command else "the image's own command"


class StartError(Enum):
    """What an engine's refusal to create or to start a container means."""

    NAME_TAKEN = "name taken"
    NO_IMAGE = "no image"
    NO_CONTAINER = "no container"
    ENGINE_BUSY = "engine busy"
    PERMANENT = "permanent"
    FAILED = "failed"


# Docker answers most of these with 400 or 404, Podman with 500: only the text tells them apart.
_TEXTS = (
    (StartError.NAME_TAKEN, r"already in use|name is in use"),
    (StartError.NO_IMAGE, r"no such image|image not known|image .* not found|unable to find image"),
    (
        StartError.PERMANENT,
        r"executable file not found|command that was not found"
        r"|exec: .*(?:no such file|permission denied|directory)|stat \S+: no such file|exec format error"
        r"|unable to find user|unable to find group|no matching entries|no users found"
        r"|network not found|network \S+ not found|unable to find network|invalid reference format|no command"
        r"|could not select device driver|minimum memory|invalid (?:mount|size|value|argument)|unknown capability",
    ),
    (StartError.NO_CONTAINER, r"no such container|no container with name"),
)
_TEXT_FORMS = tuple((meaning, re.compile(text, re.IGNORECASE)) for meaning, text in _TEXTS)
_BUSY = (429, 502, 503, 504)


def start_error(status: int, message: str) -> StartError:
    """What an engine's answer to the creation or the start of a container means."""
    if status in _BUSY:
        return StartError.ENGINE_BUSY
    for meaning, form in _TEXT_FORMS:
        if form.search(message):
            return meaning
    if status == 404:
        return StartError.NO_CONTAINER
    return StartError.NAME_TAKEN if status == 409 else StartError.PERMANENT if status < 500 else StartError.FAILED


_PULL_REFUSED = re.compile(
    r"unauthorized|authentication required|denied|forbidden|manifest unknown|name unknown|not found|does not exist"
    r"|repository name|no matching manifest|invalid reference|no image found",
    re.IGNORECASE,
)
_PULL_HOST_UNKNOWN = re.compile(r"no such host", re.IGNORECASE)


def pull_is_refused(message: str) -> bool:
    """True if a registry does not have an image or does not give it, and so would not at a later attempt."""
    return _PULL_REFUSED.search(message) is not None and _PULL_HOST_UNKNOWN.search(message) is None
