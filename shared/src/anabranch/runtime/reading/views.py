"""Loads run views from the store; see `anabranch.core.wire.run_view`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from anabranch.core.names import Names, run_id_for
from anabranch.core.wire.run_view import RunView
from anabranch.ports import StateStore


async def load_view(store: StateStore, names: Names, run_or_request_id: str) -> RunView | None:
    """Load the view of a run by its run id or its request id; None if there is none or it has expired.

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    # Both are looked up at once: an id does not show whether it is a run id or a request id.
    candidates = (run_or_request_id, run_id_for(run_or_request_id))
    sessions = await store.get([names.run_lookup(run_id) for run_id in candidates])
    keys = [
        names.view(session.decode(), run_id)
        for session, run_id in zip(sessions, candidates, strict=True)
        if session is not None
    ]
    found = await store.get(keys) if keys else []
    return next((RunView.from_document(orjson.loads(value)) for value in found if value is not None), None)


async def list_views(store: StateStore, names: Names, limit: int = 50, offset: int = 0) -> Sequence[RunView]:
    """Load the views of recent runs, the latest submitted first. Fewer than `limit` if some have expired.

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    return await load_views(store, names, await store.index_top(names.run_list, limit, offset))


async def load_views(store: StateStore, names: Names, run_ids: Sequence[str]) -> Sequence[RunView]:
    """Load the views of runs in this order, without those that have expired.

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    if not run_ids:
        return []
    sessions = await store.get([names.run_lookup(run_id) for run_id in run_ids])
    keys = [
        names.view(session.decode(), run_id)
        for run_id, session in zip(run_ids, sessions, strict=True)
        if session is not None
    ]
    found = await store.get(keys) if keys else []
    return [RunView.from_document(orjson.loads(value)) for value in found if value is not None]


async def with_heartbeats(store: StateStore, names: Names, view: RunView) -> RunView:
    """Add to the view of an open run, as `alive`, the workers that have a fresh heartbeat.

    Raises:
        ServerUnavailable: the store cannot be reached.
    """
    if not view.workers or view.has_ended:
        return view
    heartbeats = await store.get([names.worker(worker) for worker in view.workers])
    alive = [worker for worker, beat in zip(view.workers, heartbeats, strict=True) if beat is not None]
    return replace(view, alive=alive)
