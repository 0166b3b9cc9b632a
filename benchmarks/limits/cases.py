"""Cases at each limit with their expected outcome. A case has a request, or a function that creates one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

REQUEST_BYTES = 1_000_000
"""Default of `request_limit`."""


@dataclass(frozen=True)
class Case:
    """A case at a limit.

    Attributes:
        right: expected status.
        outside: external keys to SET once the run waits for them.
        conflicts: number of requests with the same id and a different body.
    """

    limit: str
    sent: str
    document: Document
    right: str
    outside: tuple[str, ...] = ()
    conflicts: int = 0


def request(*tasks: Document, **more: Any) -> Document:
    return {"request_id": str(uuid.uuid4()), "task_groups": [{"name": "g", "tasks": list(tasks)}], **more}


def task(agent: str, inputs: Any, *keys: str, **more: Any) -> Document:
    return {"name": "t", "agent": agent, "inputs": inputs, "result_keys": list(keys or ("out",)), **more}


def compact(document: Document) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def cases() -> Iterator[Case]:
    """Yield a case for every limit in the documentation, in its order."""
    yield from _records()
    yield from _values()
    yield from _shapes()
    yield from _costs()


def _records() -> Iterator[Case]:
    for over, right in ((0, "completed"), (1, "rejected")):
        yield Case("bytes of a request", f"1,000,000{' + 1' if over else ''}", _sized(REQUEST_BYTES + over), right)
    for count, size in ((1_000, 70_000), (20_000, 2_300)):
        sent = f"{count:,} items of {size:,} bytes, expanded over"
        yield Case("record of an offer", sent, _expanded(count, size), "completed")
    yield Case("record that opens a run", "100 tasks write 100 shared keys: 5 MB", _shared(100), "completed")
    context = {f"c{number}": 9 for number in range(40_000)}
    needs = request(task("echo", "{c39999}", dependencies=list(context)), context=context)
    yield Case("record that starts a group", "a task with 40,000 dependencies", needs, "completed")
    large = task("keys", {"prefix": "k", "count": 3, "size": 390_000}, "k0", "k1", "k2")
    yield Case("record of a group's end", "3 result keys of 390,000 bytes", request(large), "completed")


def _values() -> Iterator[Case]:
    for levels, right in ((200, "completed"), (201, "failed")):
        nested = request(task("nested", levels, retry={"max_attempts": 1}))
        yield Case("levels of a value", f"{levels}, returned by an agent", nested, right)


def _shapes() -> Iterator[Case]:
    groups = [
        {"name": f"g{number}", "tasks": [{"name": "t", "agent": "echo", "result_keys": [f"k{number}"]}]}
        for number in range(10_000)
    ]
    document = {"request_id": str(uuid.uuid4()), "task_groups": groups}
    yield Case("groups of a request", "10,000 of one task", document, "completed")
    names = [f"k{number}" for number in range(50_000)]
    wide = request(task("keys", {"prefix": "k", "count": 50_000, "size": 1}, *names))
    yield Case("result keys of a task", "50,000", wide, "completed")
    chain = [
        {"name": f"t{number}", "agent": "echo", "result_keys": [f"k{number}"], "dependencies": [f"k{number - 1}"]}
        for number in range(1, 10_000)
    ]
    first = {"name": "t0", "agent": "echo", "result_keys": ["k0"]}
    yield Case("tasks in a chain", "10,000", request(first, *chain), "completed")


def _costs() -> Iterator[Case]:
    names = tuple(f"k{number}" for number in range(15_000))
    waits = request(task("echo", "{k14999}", external_dependencies=list(names)), session_id=f"s-{uuid.uuid4()}")
    yield Case("keys from outside of a task", "15,000, set once the run waits", waits, "completed", outside=names)
    used = request(task("echo", 1))
    yield Case("conflicts of a request id", "1,000 other bodies", used, "completed", conflicts=1_000)


def _sized(size: int) -> Document:
    document = request(task("length", ""))
    document["task_groups"][0]["tasks"][0]["inputs"] = "x" * (size - len(compact(document)))
    return document


def _expanded(count: int, size: int) -> Document:
    made = {"name": "make", "agent": "items", "inputs": {"count": count, "size": size}, "result_keys": ["list"]}
    expansion = {"type": "array", "array_mapping": {"item": "list"}}
    return request(made, task("length", "{item}", dependencies=["list"], expansion_config=expansion))


def _shared(count: int) -> Document:
    keys = [f"k{number}" for number in range(count)]
    inputs = {"prefix": "k", "count": count, "size": 1}
    tasks = [task("keys", inputs, *keys) | {"name": f"{number:03d}" + "n" * 197} for number in range(count)]
    return request(*tasks, context_policies=dict.fromkeys(keys, "append"))
