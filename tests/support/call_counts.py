"""`python -m call_counts` (with tests/support on the path): Python calls of a request, by component.

Counted with `sys.setprofile` in the system of `work_counts`: each call of a Python function and each resumption of
a coroutine, from the request's record until all services are idle again. A request of the same shape has run
before, as most have; `--first` counts the first one of its shape. Calls of C functions are not counted.
Neither are those of the simulated servers, the loop and the counters, which no installation has, nor what these
call in the core. A call within a library belongs to the project's function that led to it.

In a new process the counts depend only on the code and the versions of Python and of the libraries, never on the
machine's speed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from functools import cache
from types import FrameType, TracebackType

from source_tree import ROOT
from work_counts import SHAPES, counts_of

TASKS: Mapping[str, int] = {"one task": 1, "three by three": 9, "chain of four": 4}
"""Shapes whose calls are counted, with the number of their tasks."""

_SIMULATED = ("/testing/", "/adapters/memory/", "/tests/support/")


@cache
def component_of(path: str) -> str | None:
    """The component of a source file, such as `taskgroup/session`; empty for the simulated servers; None outside
    the project."""
    if not path.startswith(str(ROOT)) or "/site-packages/" in path or "/.venv/" in path:
        return None
    if any(part in path for part in _SIMULATED):
        return ""
    within = path.removeprefix(str(ROOT)).strip("/").split("/")
    within = [part for part in within if part not in ("services", "shared", "src", "anabranch")]
    names = [part.removeprefix("anabranch_") for part in within[:-1]]
    return "/".join(dict.fromkeys(names[:3])) or "anabranch"


class CallCounter:
    """Counts Python calls by component while it is entered."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()

    def __enter__(self) -> CallCounter:
        sys.setprofile(self._on_event)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call":
            return
        component, at = _component_at(frame)
        # The simulated servers use helpers, too: a call belongs to them if one of them led to it.
        user = component
        while at is not None and (user == "adapters" or user.startswith("core")):
            user, at = _component_at(at.f_back)
        if component and (user or at is None):
            self.calls[component] += 1
            self.functions[f"{component} {frame.f_code.co_qualname}"] += 1


def _component_at(frame: FrameType | None) -> tuple[str, FrameType | None]:
    """The component of the nearest frame of the project, from this one outwards, and that frame. It is empty for
    the simulated servers, and where there is no such frame."""
    while frame is not None:
        component = component_of(frame.f_code.co_filename)
        if component is not None:
            return component, frame
        frame = frame.f_back
    return "", None


def calls_of(shape: str, *, first: bool = False) -> CallCounter:
    """Count the calls of one request of a shape of `work_counts`. Raises as `counts_of` does.

    Args:
        first: it is the first of its shape; otherwise one of the same shape has run before.
    """
    counter = CallCounter()
    counts_of(SHAPES[shape], counter, before=None if first else SHAPES[shape])
    return counter


def calls_in_new_process(shape: str, *, first: bool = False) -> Counter[str]:
    """The calls of `calls_of` by component, counted in a process of its own.

    What ran before in a process changes the counts: its caches, and the finalizers that its collections of garbage
    call.

    Raises:
        subprocess.CalledProcessError: the count failed; its message is on this process's stderr.
    """
    command = [sys.executable, "-m", "call_counts", "--json", "--shape", shape, *(["--first"] if first else [])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "support"), "PYTHONHASHSEED": "0"}
    found = subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    return Counter(json.loads(found.stdout))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m call_counts", description=__doc__)
    parser.add_argument("--shape", choices=tuple(TASKS), default="three by three")
    parser.add_argument("--first", action="store_true", help="count the first request of its shape")
    parser.add_argument("--json", action="store_true", help="print the calls by component as JSON")
    parser.add_argument("--component", help="print the most called functions of the components with this prefix")
    parser.add_argument("--most", type=int, default=40, help="the number of functions to print (default: 40)")
    arguments = parser.parse_args()
    counter = calls_of(arguments.shape, first=arguments.first)
    if arguments.json:
        print(json.dumps(counter.calls))
        return 0
    if arguments.component is not None:
        chosen = {name: n for name, n in counter.functions.items() if name.startswith(arguments.component)}
        for name, count in Counter(chosen).most_common(arguments.most):
            print(f"{count:8,} {name}")
        return 0
    for component, count in counter.calls.most_common():
        print(f"{count:8,} {component}")
    total = counter.calls.total()
    print(f"{total:8,} in all, {total / TASKS[arguments.shape]:,.0f} for each task")
    return 0


if __name__ == "__main__":
    sys.exit(main())
