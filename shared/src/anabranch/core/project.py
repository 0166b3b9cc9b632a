"""Projects own runs and sessions: a request names its project, a session belongs to the project of its first run.
Pure.

A run that names no session has the session of its own run id. Run ids are UUIDs of version 5 that are made from
the request id, so a caller who guesses a request id knows the run id before the run exists. A request therefore
cannot claim a session id of that form by naming it: it belongs to the project of the run with that id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from anabranch.core.errors import Code, Problem

DEFAULT_PROJECT = "default"
PATTERN = "[A-Za-z0-9._~-]{1,128}"

_PROJECT = re.compile(PATTERN)


def project_problem(value: str) -> str | None:
    """Why `value` cannot name a project; None if it can."""
    if _PROJECT.fullmatch(value):
        return None
    shown = repr(value if len(value) <= 60 else value[:57] + "...")
    return f"{shown} is no project: 1 to 128 of the characters A-Z a-z 0-9 . _ ~ -"


def project_named(request: Mapping[str, Any]) -> str:
    """The project of a request, even of an invalid one; `default` if it names no valid project."""
    named = request.get("project")
    return named if isinstance(named, str) and project_problem(named) is None else DEFAULT_PROJECT


def project_of(accepted: Mapping[str, Any]) -> str:
    """The project of an accepted run, from its event or view; runs from before projects existed have none."""
    return str(accepted.get("project") or DEFAULT_PROJECT)


def is_run_id(session_id: str) -> bool:
    """True if a session id has the form of a run id, a UUID of version 5."""
    return _uuid_version(session_id) == 5


def is_random_id(request_id: str) -> bool:
    """True if a request id cannot be guessed: clients generate UUIDs of version 4 or 7."""
    return _uuid_version(request_id) in (4, 7)


def session_problem(
    session_id: str, project: str, *, claimed_by: str | None, run_project: str | None
) -> Problem | None:
    """Why a request of `project` cannot name a session; None if it can.

    Args:
        claimed_by: the project that claimed the session by an earlier request; None if no project did.
        run_project: the project of the run whose id the session id is; None if there is no such run.
    """
    # A session without an owner goes to the project that names it, except under an id that a run may get.
    owner = (run_project or claimed_by) if is_run_id(session_id) else (claimed_by or project)
    return None if owner == project else session_conflict(session_id)


def session_conflict(session_id: str) -> Problem:
    """The problem of a request that names another project's session or run id."""
    message, hint = f"the session {session_id!r} belongs to another project", "take a session id of your own"
    if is_run_id(session_id):
        message = f"the session id {session_id!r} has the form of a run id, and the project has no run of that id"
        hint = "take a session id of another form; the session of a run can be named once the run is accepted"
    return Problem(Code.SESSION_OF_ANOTHER_PROJECT, "/session_id", message, hint)


def own_session_conflict(run_id: str) -> Problem:
    """The problem of a request without a session id if another project has the session named after its run id."""
    message = f"the session {run_id}, named after this run's id, belongs to another project"
    return Problem(Code.SESSION_OF_ANOTHER_PROJECT, "/request_id", message, "take another request id")


def _uuid_version(text: str) -> int | None:
    try:
        return UUID(text).version
    except ValueError:
        return None
