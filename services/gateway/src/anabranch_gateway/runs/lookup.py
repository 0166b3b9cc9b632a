"""Looks up the run that a caller names, by run id or request id.

A run that the caller may not see does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from anabranch.core.names import run_id_for
from anabranch.core.wire.run_record import RunRecord
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.runtime.reading.views import load_view
from anabranch.sdk.client import Client
from anabranch_gateway.access.callers import Caller
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.runs.pending import PendingRun, PendingRuns

Document = dict[str, Any]

ID_IS_TAKEN = "a request of another project has this request id"


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run that was looked up.

    Attributes:
        record: the stored record of an admitted run.
        pending: the submission, if the run was just submitted at this gateway and is not known to be admitted.
    """

    run_id: str
    request_id: str | None
    session_id: str
    project: str
    record: RunRecord | None = None
    pending: PendingRun | None = None

    @property
    def final(self) -> Document | None:
        """The body of the run's final record; None while it is open."""
        return None if self.record is None else self.record.final


class RunLookup:
    """Finds runs in the store and among the pending submissions of this gateway."""

    def __init__(self, client: Client, pending: PendingRuns) -> None:
        self._client = client
        self._pending = pending

    async def find(self, caller: Caller, run: str) -> FoundRun:
        """The run with this run id or request id.

        Raises:
            Refusal: 404, there is none, or it belongs to a project that the caller does not see.
            ServerUnavailable: the store does not respond.
        """
        found = await self._find(run)
        if found is None or not caller.sees(found.project):
            raise not_found(f"no such run: {run[:300]}", "give a run id or a request id; the run may have expired")
        return found

    async def view(self, found: FoundRun) -> RunView:
        """The run's view, also before the event manager has written one and after it has expired.

        Raises:
            Refusal: 404, the run has expired, or its view belongs to another project.
            ServerUnavailable: the store does not respond.
        """
        view = await load_view(self._client.store, self._client.names, found.run_id)
        if view is not None:
            await self.confirm(found)
            return replace(view, project=found.project)
        if found.record is not None:
            return RunView.of_record(found.run_id, found.record)
        if found.pending is not None:
            return found.pending.to_view()
        raise not_found(f"no such run: {found.run_id}")

    async def confirm(self, found: FoundRun) -> None:
        """Checks that data just read under a run id belongs to the run that was looked up.

        A run submitted here is known to this gateway before the Agency has admitted it. Another project may have
        submitted the same request id at another gateway and be admitted first: then all data under the run id
        belongs to that project.

        Raises:
            Refusal: 404, the data belongs to another project.
            ServerUnavailable: the store does not respond.
        """
        if found.record is not None:
            return
        [record] = await load_run_records(self._client.store, self._client.names, [found.run_id])
        if record is not None and record.project != found.project:
            raise not_found(f"no such run: {found.run_id}", ID_IS_TAKEN)

    async def _find(self, run: str) -> FoundRun | None:
        client = self._client
        # The text may be a run id or a request id: both are read in one round trip.
        ids = (run, run_id_for(run))
        records = await load_run_records(client.store, client.names, ids)
        for run_id, record in zip(ids, records, strict=True):
            if record is not None:
                return FoundRun(run_id, record.request_id, record.session_id, record.project, record=record)
            # Only without a record: the record of an admitted run may belong to another project than the pending
            # request.
            if (pending := self._pending.get(run_id)) is not None:
                return FoundRun(run_id, pending.request_id, pending.session_id, pending.project, pending=pending)
        view = await load_view(client.store, client.names, run)
        if view is None or view.project is None:
            return None  # the project is unknown until the acceptance event has been read
        return FoundRun(view.run_id, view.request_id, view.session_id, view.project)


def require_open(found: FoundRun) -> None:
    """Raises Refusal 409 if the run has ended."""
    if found.final is not None:
        detail = f"run {found.run_id} has ended: {found.final['status']}"
        raise Refusal(409, "run_ended", detail)
