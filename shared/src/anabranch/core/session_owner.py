"""Determines which project owns a session, from two values in the store. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.core.errors import Problem
from anabranch.core.names import Names
from anabranch.core.project import is_run_id, session_problem
from anabranch.core.wire.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class SessionOwner:
    """The projects that a session may belong to.

    Attributes:
        claimed_by: the project that claimed the session by an earlier request; None if no project did.
        run_project: the project of the run whose id the session id is; None if there is no such run.
    """

    session_id: str
    claimed_by: str | None
    run_project: str | None

    @staticmethod
    def keys(names: Names, session_id: str) -> tuple[str, str]:
        """The two Redis keys whose values `of_values` takes, in this order."""
        return names.tombstone(session_id), names.session_project(session_id)

    @classmethod
    def of_values(cls, session_id: str, run: bytes | None, claim: bytes | None) -> SessionOwner:
        return cls(
            session_id,
            claimed_by=None if claim is None else claim.decode(),
            run_project=None if run is None else RunRecord.decode(run).project,
        )

    @property
    def project(self) -> str | None:
        """The owner; None if no project has the session yet."""
        return (self.run_project or self.claimed_by) if is_run_id(self.session_id) else self.claimed_by

    def problem(self, project: str) -> Problem | None:
        """Why a request of `project` cannot name the session; None if it can."""
        return session_problem(self.session_id, project, claimed_by=self.claimed_by, run_project=self.run_project)
