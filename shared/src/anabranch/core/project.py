"""Projects: whose a run is. A name in the request; every session belongs to the project of its first run. Pure."""

from __future__ import annotations

import re

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


def session_conflict(session_id: str) -> Problem:
    """The refusal of a request that names a session of another project."""
    message = f"the session {session_id!r} belongs to another project"
    return Problem(
        Code.SESSION_OF_ANOTHER_PROJECT, "/session_id", message, "take a session id that no other project uses"
    )
