"""What an engine's answers mean: the end of a container, and refusals to create, start or pull."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from anabranch.sdk.programs.spec import ProgramLimits, ProgramSpec
from anabranch_taskgroup.worker.executors.programs.container.outcomes import (
    ContainerState,
    StartError,
    ended_outcome,
    pull_is_refused,
    read_state,
    remaining_seconds,
    start_error,
)
from anabranch_taskgroup.worker.executors.programs.engine import ProgramOutcome

START = datetime(2026, 11, 30, 22, 0, tzinfo=UTC)


def ended(code: int, seconds: float = 1, **fields: Any) -> ContainerState:
    state = {"status": "exited", "exit_code": code, "is_oom": False, "error": "", "started": START}
    return ContainerState(**{**state, "finished": START + timedelta(seconds=seconds), **fields})


def outcome(state: ContainerState, *, was_stopped: bool = False, **spec: Any) -> ProgramOutcome:
    program = ProgramSpec(kind="container", image="acme/tool", command=("tool",), **spec)
    return ended_outcome(state, program, was_stopped=was_stopped)


def test_an_engines_answer_is_read_with_its_times() -> None:
    state = read_state(
        {
            "State": {
                "Status": "exited",
                "ExitCode": 3,
                "OOMKilled": False,
                "Error": "",
                "StartedAt": "2026-11-30T22:00:00.123456789Z",
                "FinishedAt": "0001-01-01T00:00:00Z",
            }
        }
    )

    assert (state.exit_code, state.has_ended, state.finished) == (3, True, None)
    assert state.started == START.replace(microsecond=123456)


def test_ends_by_itself() -> None:
    assert outcome(ended(0)) == ProgramOutcome(0)
    assert outcome(ended(3)) == ProgramOutcome(3)


@pytest.mark.parametrize(
    ("state", "spec", "reason", "is_permanent", "part"),
    [
        (ended(137, is_oom=True), {"limits": ProgramLimits(memory=64 << 20)}, "OOMKilled", False, "its 64 MiB"),
        (ended(1, is_oom=True), {}, "OOMKilled", False, "set resources.memory"),
        (ended(137), {"limits": ProgramLimits(memory=64 << 20)}, "SIGKILL", False, "most likely"),
        (ended(137), {}, "SIGKILL", False, "ended by SIGKILL"),
        (ended(139), {}, "SIGSEGV", False, "ended by SIGSEGV"),
        (ended(143), {}, "SIGTERM", False, "ended by SIGTERM"),
        (ended(127), {}, "CommandNotFound", True, "'tool', or one that it calls, is not in the image acme/tool"),
        (ended(126), {}, "CommandNotExecutable", True, "cannot be executed"),
        (ended(137, seconds=5), {"timeout": 5.0}, "DeadlineExceeded", False, "its timeout of 5 s"),
        (ended(0, status="created"), {}, "NotStarted", False, "never started"),
    ],
)
def test_other_ends_say_what_happened(
    state: ContainerState, spec: dict[str, Any], reason: str, is_permanent: bool, part: str
) -> None:
    found = outcome(state, **spec)

    assert (found.reason, found.is_permanent) == (reason, is_permanent)
    assert part in found.message


def test_a_program_that_the_worker_stopped_has_not_succeeded() -> None:
    assert outcome(ended(0, seconds=5), timeout=5.0) == ProgramOutcome(0)
    assert outcome(ended(0, seconds=5), timeout=5.0, was_stopped=True).reason == "DeadlineExceeded"


def test_the_timeout_is_counted_by_the_engines_clock() -> None:
    running = ended(0, status="running", finished=None)

    assert remaining_seconds(running, None, START) is None
    assert remaining_seconds(running, 10.0, START + timedelta(seconds=4)) == 6
    assert remaining_seconds(running, 10.0, START + timedelta(seconds=40)) == 0
    assert remaining_seconds(running, 10.0, None) == 10


@pytest.mark.parametrize(
    ("status", "message", "meaning"),
    [
        (409, 'Conflict. The container name "/a" is already in use', StartError.NAME_TAKEN),
        (500, 'the container name "a" is already in use by 27. You have to remove', StartError.NAME_TAKEN),
        (404, "No such image: a:latest", StartError.NO_IMAGE),
        (404, "no such image: localhost/a: image not known", StartError.NO_IMAGE),
        (404, "No such container: a", StartError.NO_CONTAINER),
        (400, 'runc create failed: exec: "a": executable file not found in $PATH: unknown', StartError.PERMANENT),
        (500, 'runc: exec: "/etc/passwd": permission denied: OCI permission denied', StartError.PERMANENT),
        (500, 'exec: "/a": stat /a: no such file or directory', StartError.PERMANENT),
        (500, "unable to find user x: no matching entries in passwd file", StartError.PERMANENT),
        (404, "network jobs not found", StartError.PERMANENT),
        (500, "unable to find network with name or ID jobs: network not found", StartError.PERMANENT),
        (400, "invalid reference format", StartError.PERMANENT),
        (500, "write /var/lib/docker/x: no space left on device", StartError.FAILED),
        (500, "error setting rlimits: operation not permitted", StartError.FAILED),
        (503, "shutting down", StartError.ENGINE_BUSY),
    ],
)
def test_refusals_of_docker_and_podman(status: int, message: str, meaning: StartError) -> None:
    assert start_error(status, message) is meaning


@pytest.mark.parametrize(
    ("message", "is_refused"),
    [
        ("manifest for acme/tool:9 not found: manifest unknown", True),
        ("pull access denied for acme/tool, repository does not exist or may require 'docker login'", True),
        ("unauthorized: authentication required", True),
        ("dial tcp: lookup registry.test on 10.0.0.1:53: no such host", False),
        ("dial tcp 127.0.0.1:443: connect: connection refused", False),
        ("toomanyrequests: You have reached your pull rate limit", False),
        ("net/http: TLS handshake timeout", False),
    ],
)
def test_a_registry_that_refuses_an_image_would_refuse_it_again(message: str, is_refused: bool) -> None:
    assert pull_is_refused(message) is is_refused
