"""Runs as a small process between the worker and a program: starts the program in a process group of its own, and
kills the group once the worker asks for it, or is gone. Uses the standard library only, and is executed as a file.

Arguments: a JSON object `{command, control, memory, cpu_seconds, cpus}`. The worker writes `T` or `K` to the pipe
`control` to have the group get SIGTERM or SIGKILL; the end of the pipe means that the worker is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
NOT_FOUND, NOT_EXECUTABLE = 127, 126


def main() -> None:
    """Run the program, and end as it ends."""
    spec = json.loads(sys.argv[1])
    control = spec["control"]
    os.set_inheritable(control, False)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        run(spec, parent)
    with contextlib.suppress(OSError):  # the child does it, too: one of the two is first
        os.setpgid(child, child)
    # The program has these streams. As long as the supervisor has them too, their readers see no end.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    status = wait(child, control, wake)
    signal_group(child, signal.SIGKILL)  # what the program has left in its group
    end_as(status)


def run(spec: dict[str, Any], parent: int) -> NoReturn:
    """The child: becomes the program."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    limit(spec)
    with contextlib.suppress(OSError, AttributeError):  # not Linux: only the supervisor kills the group
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the supervisor died before the line above
        os._exit(1)
    command = spec["command"]
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        fail(NOT_FOUND, f"{command[0]}: there is no such program")
    except OSError as error:
        fail(NOT_EXECUTABLE, f"{command[0]}: cannot be executed: {error.strerror}")


def fail(code: int, message: str) -> NoReturn:
    os.write(2, (message + "\n").encode("utf-8", "replace"))
    os._exit(code)


def limit(spec: dict[str, Any]) -> None:
    set_limit(resource.RLIMIT_CORE, 0)
    if spec["memory"]:
        set_limit(resource.RLIMIT_AS, spec["memory"])
    if spec["cpu_seconds"]:
        set_limit(resource.RLIMIT_CPU, spec["cpu_seconds"])
    if spec["cpus"] and hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        first = os.getpid() % len(allowed)
        os.sched_setaffinity(0, (allowed[first:] + allowed[:first])[: spec["cpus"]])


def set_limit(kind: int, amount: int) -> None:
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        amount = min(amount, hard)
    resource.setrlimit(kind, (amount, amount))


def wait(child: int, control: int, wake: int) -> int:
    """Returns the status of the program once it has ended; passes on what the worker asks for meanwhile."""
    watched = [control, wake]
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid == child:
            return status
        for ready in select.select(watched, [], [])[0]:
            data = os.read(ready, 64)
            if ready == wake:
                continue
            if b"T" in data:
                signal_group(child, signal.SIGTERM)
            if b"K" in data or not data:
                signal_group(child, signal.SIGKILL)
            if not data:
                watched = [wake]


def signal_group(group: int, number: int) -> None:
    with contextlib.suppress(OSError):  # it has no process any more
        os.killpg(group, number)


def end_as(status: int) -> NoReturn:
    """End as the program has ended: with its code, or by its signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
