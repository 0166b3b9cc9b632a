"""Whose a session is: the project of the first request that names it. Asked before a request is passed on.

The owner that admits the run writes the project again, with the time that the run has, so that a rebuilt store has
it too. Decides nothing else about a request.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from anabranch.core.errors import Problem
from anabranch.core.names import Names, run_id_for, session_id_problem, session_key
from anabranch.core.project import (
    DEFAULT_PROJECT,
    is_random_id,
    is_run_id,
    own_session_conflict,
    project_named,
    session_conflict,
    session_problem,
)
from anabranch.ports import StateStore, Write


class Sessions:
    """See the module. `ttl`: seconds that a project is remembered where no run was admitted."""

    def __init__(self, store: StateStore, names: Names, ttl: float) -> None:
        self._store = store
        self._names = names
        self._ttl = ttl

    async def keys_of(self, request: Mapping[str, Any], candidates: Collection[str]) -> Sequence[str]:
        """Those of the candidate keys that the session of a request has from earlier runs.

        A session of another project shows none: a refusal must not tell what is in it.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        session_id, keys = request.get("session_id"), sorted(candidates)
        if not keys or not isinstance(session_id, str) or session_id_problem(session_id):
            return ()
        stored = [session_key(session_id, key) for key in keys]
        run, claim, *found = await self._store.get([*self._owner_keys(session_id), *stored])
        if _problem(session_id, project_named(request), claim, run) is not None:
            return ()
        return [key for key, value in zip(keys, found, strict=True) if value is not None]

    async def take(self, request: Mapping[str, Any]) -> Problem | None:
        """Claim the session of a valid request for its project; why it cannot have the session, None if it has it.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        session_id, request_id, project = (
            request.get("session_id"),
            request.get("request_id"),
            project_named(request),
        )
        own = None if request_id is None else run_id_for(request_id)
        if session_id is None or session_id == own:
            return await self._take_own(request_id, own, project)
        if is_run_id(session_id):
            run, claim = await self._store.get(self._owner_keys(session_id))
            return _problem(session_id, project, claim, run)
        claimed = Write(self._names.session_project(session_id), project.encode(), self._ttl)
        known = await self._store.put_new(claimed)
        return None if known in (None, claimed.value) else session_conflict(session_id)

    async def owns(self, project: str, run_id: str | None, session_id: str | None) -> bool | None:
        """Whether a project has a run, or else a session; None of a run that is not known yet.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        if run_id is not None:
            [run] = await self._store.get([self._names.tombstone(run_id)])
            return None if run is None else _run_project(run) == project
        run, claim = await self._store.get(self._owner_keys(session_id or ""))
        return (_run_project(run) or _text(claim)) == project

    async def _take_own(self, request_id: str | None, run_id: str | None, project: str) -> Problem | None:
        """A run without a named session has the one of its own id. Another project has it only if it had a run of
        the same id, which has expired, and its later runs went on with the session. It is not looked up for the
        default project, whose requests then need no round trip: the gateway looks it up for all."""
        if project == DEFAULT_PROJECT or request_id is None or run_id is None or is_random_id(request_id):
            return None
        [claim] = await self._store.get([self._names.session_project(run_id)])
        return None if claim in (None, project.encode()) else own_session_conflict(run_id)

    def _owner_keys(self, session_id: str) -> tuple[str, str]:
        return self._names.tombstone(session_id), self._names.session_project(session_id)


def _problem(session_id: str, project: str, claim: bytes | None, run: bytes | None) -> Problem | None:
    return session_problem(session_id, project, claimed_by=_text(claim), run_project=_run_project(run))


def _run_project(tombstone: bytes | None) -> str | None:
    if tombstone is None:
        return None
    accepted: dict[str, Any] = orjson.loads(tombstone)["accepted"]
    return accepted.get("project") or DEFAULT_PROJECT


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
