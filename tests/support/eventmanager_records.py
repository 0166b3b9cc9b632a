"""A recording of the events topic as owners write it: two runs, subscriptions, duplicates and invalid records."""

from __future__ import annotations

import orjson

from anabranch.core.wire.events import EventBatch, EventEntry, Source, decode_batch, encode_batch

WIDE = 1_000
CHANNEL = "t.sub:run"


def batch(
    run_id: str, source: Source, cause: int, *entries: EventEntry, session_id: str = "s-1", request_id: str = ""
) -> bytes:
    """A record value: entries with the same cause, at second `cause`."""
    caused = tuple(entry.model_copy(update={"cause": cause}) for entry in entries)
    return encode_batch(
        EventBatch(run_id=run_id, request_id=request_id, session_id=session_id, source=source, entries=caused)
    )


def entry(kind: str, time: float, group: str | None = None, task: str | None = None, **more: object) -> EventEntry:
    """An event; fields that EventEntry lacks go into `data`."""
    fields = {name: more.pop(name) for name in ("index", "spans", "attempt") if name in more}
    return EventEntry.model_validate(
        {"type": kind, "cause": 0, "time": time, "group": group, "task": task, "data": more, **fields}
    )


def subscribe(channel: str, *types: str, **subject: str) -> bytes:
    """A subscription as it is forwarded to the events topic."""
    return orjson.dumps({"type": "subscribe", "channel": channel, "types": types, **subject})


def unsubscribe(channel: str, **subject: str) -> bytes:
    """The end of a subscription."""
    return orjson.dumps({"type": "unsubscribe", "channel": channel, **subject})


def wide_run(run_id: str = "run-1", request_id: str = "order 1", base: float = 0.0) -> list[bytes]:
    """A run of a plain task and a task of a thousand members, of which three fail; its records in order.

    `base` is added to the times, which otherwise are the first seconds of 1970.
    """
    return [_later(value, base) for value in _wide_run(run_id, request_id)]


def _later(value: bytes, seconds: float) -> bytes:
    batch = decode_batch(value)
    entries = tuple(each.model_copy(update={"time": each.time + seconds}) for each in batch.entries)
    return encode_batch(batch.model_copy(update={"entries": entries}))


def _wide_run(run_id: str, request_id: str) -> list[bytes]:
    last = WIDE // 2
    middle = batch(
        run_id,
        "groups",
        12,
        entry("task.completed", 12, "g", "wide", spans=[[0, 7], [8, last]]),
        entry("task.failed", 12, "g", "wide", index=7, attempt=2, error_type="ValueError", message="seven"),
    )
    return [
        batch(
            run_id,
            "runs",
            1,
            entry("run.accepted", 1, name="demo", labels={"team": "a"}, groups={"g": ["plain", "wide"]}),
            request_id=request_id,
        ),
        batch(
            run_id,
            "groups",
            10,
            entry("group.started", 10, "g"),
            entry("task.started", 10, "g", "plain", attempt=1),
        ),
        batch(
            run_id,
            "groups",
            11,
            entry("task.completed", 11, "g", "plain", attempt=1, result_keys=["a"]),
            entry("task.expanded", 11, "g", "wide", count=WIDE),
            entry("task.started", 11, "g", "wide", spans=[[0, WIDE]], attempt=1),
        ),
        middle,
        middle,  # published again by a new owner: same cause
        batch(
            run_id,
            "groups",
            13,
            entry("task.completed", 13, "g", "wide", spans=[[last, WIDE - 2]]),
            entry("task.failed", 13, "g", "wide", index=WIDE - 2, attempt=1, error_type="OSError", message="disk"),
            entry("task.failed", 13, "g", "wide", index=WIDE - 1, attempt=1, error_type="OSError", message="disk"),
            entry("task.joined", 13, "g", "wide", status="failed"),
            entry("group.failed", 13, "g"),
        ),
        batch(run_id, "runs", 2, entry("run.failed", 14)),
    ]


def cancelled_run(run_id: str = "run-2") -> list[bytes]:
    """A run that was cancelled while its task was running."""
    return [
        batch(run_id, "runs", 3, entry("run.accepted", 20), session_id="s-2", request_id="order 2"),
        batch(
            run_id,
            "groups",
            30,
            entry("group.started", 21, "g"),
            entry("task.started", 21, "g", "t", attempt=1),
            session_id="s-2",
        ),
        batch(run_id, "runs", 4, entry("run.cancelled", 22), session_id="s-2"),
    ]


def recording() -> list[tuple[str, bytes]]:
    """(key, value) of records in the order of publication."""
    first, second = wide_run(), cancelled_run()
    return [
        ("run-1", subscribe(CHANNEL, "run.*", "task.failed", run_id="run-1")),
        *(("run-1", value) for value in first[:4]),
        ("run-2", second[0]),
        ("run-2", b"\xff no record"),
        *(("run-1", value) for value in first[4:]),
        *(("run-2", value) for value in second[1:]),
    ]
