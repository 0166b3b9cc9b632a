"""Records of runs of nine tasks, as the owners publish them when the runs are short."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from eventmanager_records import batch, entry

from anabranch.core.wire.events import decode_batch

TASKS = [f"task-{number}" for number in range(9)]
WIDTH = 3
"""Tasks that run side by side."""
_SPACE = uuid.UUID(int=7)


def run_of_nine(number: int) -> Iterator[tuple[str, bytes]]:
    """(run id, value) of each record of one run, of which one in ten has a failed attempt."""
    run_id, at = str(uuid.uuid5(_SPACE, str(number))), 1_000.0 + number
    data = {"name": f"job {number % 9}", "labels": {"team": "abc"[number % 3]}, "groups": {"g": TASKS}}
    session, request = f"s-{number % 50}", f"order {number}"
    accepted = entry("run.accepted", at, **data, tasks=9)
    yield run_id, batch(run_id, "runs", 1, accepted, session_id=session, request_id=request)
    for wave in range(0, 9, WIDTH):
        tasks, cause = TASKS[wave : wave + WIDTH], 10 + wave
        begun = [
            entry("task.started", at + wave, "g", name, attempt=1, worker=f"w-{number % 8}") for name in tasks
        ]
        yield run_id, batch(run_id, "groups", cause, *begun, session_id=session)
        ended = [entry("task.completed", at + wave + 1, "g", name, attempt=1) for name in tasks]
        if number % 10 == 0 and wave == 0:
            again = {"error_type": "TimeoutError", "message": f"the host db-{number % 7} timed out"}
            ended.insert(0, entry("task.retrying", at + wave + 0.5, "g", tasks[0], attempt=1, **again))
        yield run_id, batch(run_id, "groups", cause + 1, *ended, session_id=session)
    yield run_id, batch(run_id, "groups", 30, entry("group.completed", at + 9, "g"), session_id=session)
    yield run_id, batch(run_id, "runs", 2, entry("run.completed", at + 9.5), session_id=session)


def events_of(value: bytes) -> int:
    """The single events of a record."""
    spans = [entry.spans or ((0, 1),) for entry in decode_batch(value).entries]
    return sum(stop - start for each in spans for start, stop in each)
