"""Whose a session is: the project of the first request that names it. Asked before a request is passed on.

Who admits the run writes it again, with the time that the run has, so that a rebuilt store has it too. Decides
nothing else about a request.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import orjson

from anabranch.core.names import Names, run_id_for
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.ports import StateStore, Write


class Sessions:
    """See the module. `ttl`: seconds that a project is remembered where no run was admitted."""

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
        names, mine = self._names, project.encode()
        known, [run] = await asyncio.gather(
            self._store.put_new(Write(names.session_project(session_id), mine, self._ttl)),
            self._store.get([names.tombstone(session_id)]),
        )
        if known is not None:
            return known == mine
        if _is_of(run, project) if run is not None else project == DEFAULT_PROJECT or not _is_run_id(session_id):
            return True
        await self._store.delete([names.session_project(session_id)])
        return False

    async def _own(self, request_id: str | None, project: str) -> bool:
        """A run without a named session has the one of its own id, which who can guess the request id could have
        named before. Other projects may not name what looks like a run of the default one: see `take`."""
        if project == DEFAULT_PROJECT or request_id is None or _is_fresh(request_id):
            return True
        [known] = await self._store.get([self._names.session_project(run_id_for(request_id))])
        return known in (None, project.encode())


def _is_of(tombstone: bytes, project: str) -> bool:
    accepted: dict[str, Any] = orjson.loads(tombstone)["accepted"]
    return (accepted.get("project") or DEFAULT_PROJECT) == project


def _is_run_id(text: str) -> bool:
    """Run ids are UUIDs made from a name; a session of somebody's own is hardly one."""
    return _version(text) == 5


def _is_fresh(request_id: str) -> bool:
    """Ids that clients make are random; those that people choose can be guessed."""
    return _version(request_id) in (4, 7)


def _version(text: str) -> int | None:
    try:
        return UUID(text).version
    except ValueError:
        return None
