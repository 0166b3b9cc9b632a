"""Run views as people read them: what `status` and `list` show. The event manager writes them.

A view is a JSON object:

    {"run_id", "request_id", "session_id", "name", "labels", "status",
     "submitted_at", "started_at", "ended_at", "last_fact_at", "paused", "retry_of",
     "project", "events_from", "tasks_total", "share",
     "groups": {group: {"status", "started_at", "ended_at",
                        "tasks": {task: {"status", "started_at", "ended_at", "expanded", "members",
                                         "started", "completed", "failed", "held", "attempts", "attempt",
                                         "lacks_agent", "progress", "share"}}}},
     "workers": [worker],
     "failures": [{"group", "task", "index", "error_type", "message", "attempts", "time", "traceback"}],
     "failure_count"}

Times are seconds since the epoch, or null. `status` of a run: accepted, running, completed, failed, cancelled,
timed_out; of a group: running, completed, failed, cancelled, timed_out; of a task: waiting, running, completed,
failed, skipped, cancelled. `members` is 1 for an ordinary task and null where it is not known yet; `started`,
`completed` and `failed` count members, and `held` those of the failed ones that wait for a redrive or a
dismissal. `attempt` is the latest attempt of an ordinary task, {"number", "started_at", "ended_at", "worker"},
null of an expanded one. `lacks_agent` is the agent that no worker has. `progress` is a list of {"index",
"fraction", "note", "time"}: the latest reports of a few members that have not ended. `workers`
lately started something of the run. `failures` holds the first few; one failure of a task has its `traceback`,
where its exception had one. `events_from` is the offset of its first record in the run's partition of `events`,
null where that is not known: the run is older than this field. `tasks_total` is how many tasks its request has,
null likewise; `groups` has the groups with at least one event. `share` is the completed share of a task or run,
from 0 to 1 (see `anabranch.core.progress`); of a run it is null where the number of its tasks is not known. This
module only reads; a view may trail the run by about a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anabranch.core.names import Names, run_id_for
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import StateStore

View = dict[str, Any]


async def load_view(store: StateStore, names: Names, run_or_request_id: str) -> View | None:
    """The view of a run by its run id or its request id; None where there is none (any more).

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    candidates = (run_or_request_id, run_id_for(run_or_request_id))
    sessions = await store.get([names.run_lookup(run_id) for run_id in candidates])
    keys = [
        names.view(session.decode(), run_id)
        for session, run_id in zip(sessions, candidates, strict=True)
        if session is not None
    ]
    found = await store.get(keys) if keys else []
    return next((orjson.loads(value) for value in found if value is not None), None)


async def list_views(store: StateStore, names: Names, limit: int = 50, offset: int = 0) -> Sequence[View]:
    """Views of recent runs, the latest submitted first. Fewer than `limit` where some have expired.

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    run_ids = await store.index_top(names.run_list, limit, offset)
    if not run_ids:
        return []
    sessions = await store.get([names.run_lookup(run_id) for run_id in run_ids])
    keys = [
        names.view(session.decode(), run_id)
        for run_id, session in zip(run_ids, sessions, strict=True)
        if session is not None
    ]
    found = await store.get(keys) if keys else []
    return [orjson.loads(value) for value in found if value is not None]


async def with_heartbeats(store: StateStore, names: Names, view: View) -> View:
    """The view; for an open run with `alive`, its workers that now have a fresh heartbeat.

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    workers = view.get("workers") or []
    if not workers or view.get("ended_at") is not None:
        return view
    signs = await store.get([names.worker(worker) for worker in workers])
    return view | {"alive": [each for each, sign in zip(workers, signs, strict=True) if sign is not None]}


def view_without_events(run_id: str, record: RunRecord) -> View:
    """View of a run from its record, if its own view is not written yet or has expired. For an ended run it
    also has `executions` and `duration_seconds`."""
    accepted = record.accepted
    ended: Mapping[str, Any] = record.final or {}
    view = {
        "run_id": run_id,
        "request_id": record.request_id,
        "session_id": record.session_id,
        "project": record.project,
        "name": record.name,
        "labels": accepted.get("labels") or {},
        "status": ended.get("status", "accepted"),
        "submitted_at": record.accepted_at,
        "started_at": None,
        "ended_at": record.ended_at,
        "last_fact_at": record.ended_at or record.accepted_at,
        "paused": False,
        "retry_of": record.retry_of,
        "groups": {},
        "workers": [],
        "failures": list(ended.get("failures") or ()),
        "failure_count": ended.get("failure_count", 0),
        "events_from": None,
        "tasks_total": accepted.get("tasks"),
        "share": None,
    }
    return view | {name: ended[name] for name in ("executions", "duration_seconds") if name in ended}
