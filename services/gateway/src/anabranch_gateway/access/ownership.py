"""Checks that a session belongs to the caller's project, before any data of the session is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anabranch.core.errors import Problem
from anabranch.core.names import Names, run_id_for, session_id_problem
from anabranch.core.project import is_random_id, own_session_conflict, project_problem
from anabranch.core.session_owner import SessionOwner
from anabranch.ports import StateStore
from anabranch_gateway.access.callers import Caller
from anabranch_gateway.http.problems import Refusal


def project_for(caller: Caller, request: Mapping[str, Any]) -> str:
    """The project of a request: the one that it names, or the caller's default if it names none or an invalid one.

    Raises:
        Refusal: 403, the caller cannot see that project.
    """
    named = request.get("project")
    is_valid = isinstance(named, str) and project_problem(named) is None
    project = str(named) if is_valid else caller.default_project()
    if not caller.sees(project):
        raise Refusal(403, "forbidden", f"{caller.actor} may not submit to the project {project}")
    return project


@dataclass(frozen=True, slots=True)
class SessionClaim:
    """The session that a request would use. `is_own`: the session has the id of the run itself."""

    session_id: str
    is_own: bool

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> SessionClaim | None:
        """The session to look up; None if the request has no valid session id.

        None also for a run's own session if the request id is random: nobody else can have guessed it.
        """
        session_id, request_id = request.get("session_id"), request.get("request_id")
        own = run_id_for(request_id) if isinstance(request_id, str) else None
        if own is not None and session_id in (None, own):
            return None if is_random_id(str(request_id)) else cls(own, is_own=True)
        if not isinstance(session_id, str) or session_id_problem(session_id):
            return None
        return cls(session_id, is_own=False)

    def keys(self, names: Names) -> tuple[str, str]:
        """The store keys whose values `problem` needs."""
        return SessionOwner.keys(names, self.session_id)

    def problem(self, project: str, values: Sequence[bytes | None]) -> Problem | None:
        """Why a request of a project cannot use the session; None if it can."""
        run, claim = values
        if self.is_own:
            is_free = claim is None or claim.decode() == project
            return None if is_free else own_session_conflict(self.session_id)
        return SessionOwner.of_values(self.session_id, run, claim).problem(project)


async def session_refusal(
    store: StateStore, names: Names, request: Mapping[str, Any], project: str
) -> Problem | None:
    """Why a request of a project cannot use its session; None if it can. Raises ServerUnavailable."""
    claim = SessionClaim.of(request)
    return None if claim is None else claim.problem(project, await store.get(claim.keys(names)))


async def owns(store: StateStore, names: Names, session_id: str, project: str) -> bool:
    """True if a session belongs to a project: a request of the project named it first, or its run has the id.

    Raises:
        ServerUnavailable: the store does not respond.
    """
    run, claim = await store.get(SessionOwner.keys(names, session_id))
    return SessionOwner.of_values(session_id, run, claim).project == project
