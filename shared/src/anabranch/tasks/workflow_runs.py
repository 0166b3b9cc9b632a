"""Workflows of `TaskAPI`: each is a run, and nothing of it is in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from anabranch.core.names import run_id_for
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.runtime.reading.views import load_view
from anabranch.sdk.run import Run
from anabranch.tasks.system import TaskSystem
from anabranch.tasks.workflow import Workflow, WorkflowStatus

WorkflowId = Workflow | UUID | str

_STATUS = {
    "scheduled": WorkflowStatus.PENDING,
    "running": WorkflowStatus.RUNNING,
    "paused": WorkflowStatus.PAUSED,
    "completed": WorkflowStatus.COMPLETED,
    "cancelled": WorkflowStatus.CANCELLED,
    "failed": WorkflowStatus.FAILED,
    "timed_out": WorkflowStatus.FAILED,
    "rejected": WorkflowStatus.FAILED,
}


class WorkflowRuns:
    """The part of `TaskAPI` that runs workflows."""

    system: TaskSystem

    async def execute_workflow(
        self, workflow: Workflow | Mapping[str, Any], *, wait: bool = False, timeout: float | None = None
    ) -> dict[str, Any]:
        """Start a workflow; started again, it does not run twice. Returns at once, with `wait` at its end.

        Returns:
            `{workflow_id, run_id, name, status, results, failures, steps}`, as `get_workflow_status`.

        Raises:
            RequestRefused: the workflow is invalid, for example it has no steps.
            TimeoutError: it has not ended within `timeout` seconds.
        """
        given = workflow if isinstance(workflow, Workflow) else Workflow.model_validate(workflow)
        client = (await self.system.running()).client
        run = await client.submit(given.to_request())
        if wait:
            await run.result(timeout)
        return {"name": given.name, **await self.get_workflow_status(given)}

    async def get_workflow_status(self, workflow_id: WorkflowId) -> dict[str, Any]:
        """`{workflow_id, run_id, status, results, failures, steps}`; `steps` has the status of each step that is
        known. The status is `pending` for a workflow that is not known."""
        run_id = run_id_of(workflow_id)
        client = (await self.system.running()).client
        links = client.links
        (record,) = await load_run_records(links.store, links.names, [run_id])
        view = await load_view(links.store, links.names, run_id)
        found: dict[str, Any] = {
            "workflow_id": id_of(workflow_id),
            "run_id": run_id,
            "status": WorkflowStatus.PENDING if record is None else WorkflowStatus.RUNNING,
            "results": {},
            "failures": [],
            "steps": {} if view is None else _steps(view),
        }
        if record is not None and record.final is not None:
            result = await (await client.run(run_id)).result()
            found |= {
                "status": _STATUS[result.status],
                "results": dict(result.results),
                "failures": [dict(each) for each in result.failures],
            }
        elif view is not None:
            found["status"] = _STATUS[view.shown_status]
        return found

    async def pause_workflow(self, workflow_id: WorkflowId, reason: str | None = None) -> bool:
        """Start no further step; False if the workflow has ended or is not known."""
        run = await self._open_run(workflow_id)
        if run is not None:
            await run.pause(reason)
        return run is not None

    async def resume_workflow(self, workflow_id: WorkflowId, reason: str | None = None) -> bool:
        """Go on after a pause; False if the workflow has ended or is not known."""
        run = await self._open_run(workflow_id)
        if run is not None:
            await run.resume(reason)
        return run is not None

    async def cancel_workflow(self, workflow_id: WorkflowId, reason: str | None = None) -> bool:
        """Cancel a workflow; False if it has ended or is not known."""
        run = await self._open_run(workflow_id)
        if run is not None:
            await run.cancel(reason)
        return run is not None

    async def wait_for_workflow(self, workflow_id: WorkflowId, timeout: float | None = None) -> dict[str, Any]:
        """The status of a workflow when it has ended. Raises TimeoutError."""
        client = (await self.system.running()).client
        await (await client.run(run_id_of(workflow_id))).ended(timeout)
        return await self.get_workflow_status(workflow_id)

    async def create_checkpoint(self, workflow_id: WorkflowId, name: str, from_step: str) -> dict[str, Any]:
        """A named point to which `restore_from_checkpoint` returns: the steps before `from_step` are kept."""
        return {
            "name": name,
            "workflow_id": id_of(workflow_id),
            "run_id": run_id_of(workflow_id),
            "from": from_step,
        }

    async def restore_from_checkpoint(
        self, checkpoint: Mapping[str, Any], values: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run an ended workflow again from a checkpoint, as a fork: what was done before it is taken over.
        Restored twice, it runs once.

        Args:
            values: variables with other values.

        Returns:
            `{run_id, status, forked_from}`.

        Raises:
            RequestRefused: the workflow has not ended, or has no such step.
        """
        client = (await self.system.running()).client
        request_id = f"workflow/{checkpoint['workflow_id']}/{checkpoint['name']}"
        run = await client.fork(
            checkpoint["run_id"], tasks=[checkpoint["from"]], values=values, request_id=request_id
        )
        return {"run_id": run.run_id, "status": WorkflowStatus.RUNNING, "forked_from": checkpoint["run_id"]}

    async def _open_run(self, workflow_id: WorkflowId) -> Run | None:
        run_id = run_id_of(workflow_id)
        client = (await self.system.running()).client
        (record,) = await load_run_records(client.store, client.names, [run_id])
        return await client.run(run_id) if record is not None and record.final is None else None


def id_of(workflow_id: WorkflowId) -> str:
    """The id of a workflow."""
    return str(workflow_id.id if isinstance(workflow_id, Workflow) else workflow_id)


def run_id_of(workflow_id: WorkflowId) -> str:
    """The run id of a workflow."""
    return run_id_for(f"workflow/{id_of(workflow_id)}")


def _steps(view: RunView) -> dict[str, str]:
    return {name: task.status for group in view.groups.values() for name, task in group.tasks.items()}
