"""Finds the run that a caller means, by run id or request id. What the caller may not see is not there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from anabranch.core.names import run_id_for
from anabranch.core.wire.run_record import RunRecord
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.runtime.reading.views import load_view
from anabranch_gateway.access.auth import Caller
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.runs.pending import PendingRun

if TYPE_CHECKING:
    from anabranch_gateway.context import GatewayContext

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A run. `tombstone` is what is known of an admitted one, `taken` of one that was just submitted here."""

    run_id: str
    request_id: str | None
    session_id: str
    project: str
    tombstone: RunRecord | None = None
    taken: PendingRun | None = None

    @property
    def final(self) -> Document | None:
        """The body of its final record; None while it is open."""
        return None if self.tombstone is None else self.tombstone.final


async def find(parts: GatewayContext, caller: Caller, run: str) -> Found:
    """The run of this id.

    Raises:
        Refusal: 404, there is none, or it is of a project that the caller does not see.
        ServerUnavailable: the store does not answer.
    """
    found = await _known(parts, run)
    if found is None or not caller.sees(found.project):
        raise not_found(f"no such run: {run[:300]}", "by run id or by request id; it may have expired")
    return found


async def view_of(parts: GatewayContext, found: Found) -> RunView:
    """The run's view, also before the event manager has written one, and after it has expired."""
    view = await load_view(parts.client.store, parts.client.names, found.run_id)
    if view is not None:
        await confirm(parts, found)
        return replace(view, project=found.project)
    if found.tombstone is not None:
        return RunView.of_record(found.run_id, found.tombstone)
    if found.taken is not None:
        return found.taken.to_view()
    raise not_found(f"no such run: {found.run_id}")


async def confirm(parts: GatewayContext, found: Found) -> None:
    """Check that data just read under a run id belongs to the run that was looked up.

    This gateway knows a run submitted here before the Agency has admitted it. Another project may have submitted
    the same request id at another gateway and be admitted first: then all data under the run id belongs to that
    project.

    Raises:
        Refusal: 404, the data belongs to another project.
        ServerUnavailable: the store does not respond.
    """
    if found.tombstone is not None:
        return
    [record] = await load_run_records(parts.client.store, parts.client.names, [found.run_id])
    if record is not None and record.project != found.project:
        raise not_found(f"no such run: {found.run_id}", "a request of another project has this request id")


def require_open(found: Found) -> None:
    """Raises Refusal 409 where the run has ended."""
    if found.final is not None:
        detail = f"run {found.run_id} has ended: {found.final['status']}"
        raise Refusal(409, "run_ended", detail)


async def _known(parts: GatewayContext, run: str) -> Found | None:
    client = parts.client
    ids = (run, run_id_for(run))
    records = await load_run_records(client.store, client.names, ids)
    for run_id, record in zip(ids, records, strict=True):
        if record is not None:
            return Found(run_id, record.request_id, record.session_id, record.project, tombstone=record)
        if (taken := parts.recent.get(run_id)) is not None:
            return Found(run_id, taken.request_id, taken.session_id, taken.project, taken=taken)
    view = await load_view(client.store, client.names, run)
    if view is None or view.project is None:
        return None  # the project is not known before the acceptance event has been read
    return Found(view.run_id, view.request_id, view.session_id, view.project)
