"""Whose a session is: the project of the first request that names it. Asked before a request is passed on.

The store is where it stands, so a store that forgot everything has it said anew by the next request. Decides
nothing else about a request.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson

from anabranch.core.names import Names, run_id_for
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.ports import StateStore, Write


class Sessions:
    """See the module. `ttl`: seconds that a project is remembered after the last request of its session."""

    def __init__(self, store: StateStore, names: Names, ttl: float) -> None:
        self._store = store
        self._names = names
        self._ttl = ttl

    async def take(self, request_id: str | None, session_id: str | None, project: str) -> bool:
        """Whether a valid request may have its session; one that nobody had is its project's from here on.

        Raises:
            ServerUnavailable, StoreRefused: it cannot be found out.
        """
        if session_id is None:
            return await self._own(request_id, project)
        key = self._names.session_project(session_id)
        known = await self._store.put_new(Write(key, project.encode(), self._ttl))
        if known is None:
            return await self._is_no_others_run(key, session_id, project)
        await self._store.expire([key], self._ttl)
        return known == project.encode()

    async def _own(self, request_id: str | None, project: str) -> bool:
        """A run without a named session has the one of its own id, which somebody could have taken before: not
        where nobody can have known the request id."""
        if request_id is None or _is_fresh(request_id):
            return True
        [known] = await self._store.get([self._names.session_project(run_id_for(request_id))])
        return known in (None, project.encode())

    async def _is_no_others_run(self, key: str, session_id: str, project: str) -> bool:
        """A session that nobody named may be that of a run that named none."""
        [found] = await self._store.get([self._names.tombstone(session_id)])
        if found is None:
            return True
        accepted: dict[str, Any] = orjson.loads(found)["accepted"]
        if (accepted.get("project") or DEFAULT_PROJECT) == project:
            return True
        await self._store.delete([key])
        return False


def _is_fresh(request_id: str) -> bool:
    """Ids that clients make are random; those that people choose can be guessed."""
    try:
        return UUID(request_id).version in (4, 7)
    except ValueError:
        return False
