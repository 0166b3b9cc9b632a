"""The project that owns a session: that of the first request which names the session.

The intake claims the session before it submits a request. The owner that admits the run writes the project again,
with the time to live of the run, so that a rebuilt store has it too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from anabranch.core.errors import Problem
from anabranch.core.names import Names, run_id_for
from anabranch.core.project import (
    DEFAULT_PROJECT,
    is_random_id,
    is_run_id,
    own_session_conflict,
    project_named,
    session_conflict,
)
from anabranch.core.session_owner import SessionOwner
from anabranch.ports import StateStore, Write
from anabranch.runtime.reading.run_records import existing_session_keys, load_run_records


class Sessions:
    """Sessions and their projects in the store.

    Args:
        ttl: seconds that the claim of a request is kept if its run is not admitted.
    """

    def __init__(self, store: StateStore, names: Names, ttl: float) -> None:
        self._store = store
        self._names = names
        self._ttl = ttl

    async def keys_of(self, request: Mapping[str, Any], candidates: Collection[str]) -> Sequence[str]:
        """Those candidates that exist as keys in the session of a request; see `existing_session_keys`."""
        if not candidates:
            return ()
        session_id, project = request.get("session_id"), project_named(request)
        return await existing_session_keys(self._store, self._names, session_id, project, candidates)

    async def claim(self, request: Mapping[str, Any]) -> Problem | None:
        """Claim the session of a valid request for its project. Returns the problem if another project owns it.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        session_id, request_id, project = (
            request.get("session_id"),
            request.get("request_id"),
            project_named(request),
        )
        if session_id is None:
            return await self._check_own(request_id, project)
        # A run id can be computed from a guessed request id, so a session of that form cannot be claimed by
        # naming it.
        if is_run_id(session_id):
            if request_id is not None and session_id == run_id_for(request_id):
                return await self._check_own(request_id, project)
            return (await self._owner(session_id)).problem(project)
        claimed = Write(self._names.session_project(session_id), project.encode(), self._ttl)
        # One atomic command: of two projects that name the session at the same time, one gets it.
        known = await self._store.put_new(claimed)
        return None if known in (None, claimed.value) else session_conflict(session_id)

    async def owns(self, project: str, run_id: str | None, session_id: str | None) -> bool | None:
        """Whether a project owns a run, or a session if `run_id` is None. None for a run that is not known yet.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        if run_id is not None:
            [run] = await load_run_records(self._store, self._names, [run_id])
            return None if run is None else run.project == project
        return (await self._owner(session_id or "")).project == project

    async def _check_own(self, request_id: str | None, project: str) -> Problem | None:
        """Check the session of a request without `session_id`, which is that of its run id.

        Another project owns that session only if it had a run of the same id that has expired, and later runs of
        it used the session. The default project skips the check and its round trip; the gateway checks all
        projects.
        """
        if project == DEFAULT_PROJECT or request_id is None or is_random_id(request_id):
            return None
        run_id = run_id_for(request_id)
        [claim] = await self._store.get([self._names.session_project(run_id)])
        return None if claim in (None, project.encode()) else own_session_conflict(run_id)

    async def _owner(self, session_id: str) -> SessionOwner:
        run, claim = await self._store.get(SessionOwner.keys(self._names, session_id))
        return SessionOwner.of_values(session_id, run, claim)
