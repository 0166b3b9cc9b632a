"""Runs programs as Kubernetes Jobs: one Job for each execution, found again by its name."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from anabranch.sdk.programs.spec import ProgramKind, ProgramSpec
from anabranch_taskgroup.worker.executors.programs.engine import (
    EngineUnavailable,
    Execution,
    FoundExecution,
    LineSink,
    ProgramOutcome,
    ProgramRefused,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes.api import Api
from anabranch_taskgroup.worker.executors.programs.kubernetes.api_errors import (
    CONFLICT,
    ApiError,
    ApiUnreachable,
    refused_or_unavailable,
    unavailable,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes.config import KubernetesSettings
from anabranch_taskgroup.worker.executors.programs.kubernetes.following import Following
from anabranch_taskgroup.worker.executors.programs.kubernetes.handles import JobHandle
from anabranch_taskgroup.worker.executors.programs.kubernetes.labels import (
    EXECUTION,
    label_value,
    original_labels,
    selector,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes.manifest import Owner, job_objects, owned_by_job
from anabranch_taskgroup.worker.executors.programs.kubernetes.objects import job_state
from anabranch_taskgroup.worker.executors.programs.kubernetes.owners import find_owner, owner_name
from anabranch_taskgroup.worker.executors.programs.kubernetes.watches import Watches

STOP_SECONDS = 60.0
"""How long the end of a Job is waited for beyond the grace of its pod."""

_API_ERRORS = (ApiError, ApiUnreachable)


class KubernetesEngine:
    """Executions as Jobs of one cluster."""

    kind: ProgramKind = "kubernetes"
    outlives_worker = True

    def __init__(self, api: Api, settings: KubernetesSettings) -> None:
        self._api = api
        self._settings = settings
        self._namespace = settings.namespace or api.namespace
        self._watches = Watches(api)
        self._owner_name = owner_name(settings.owner)
        self._owner: Owner | None = None

    async def start(self, execution: Execution) -> str:
        """Create the Job of an execution, or find it. See `ProgramEngine`."""
        try:
            objects = job_objects(execution, self._settings, self._namespace, await self._found_owner())
            job = await self._created(objects.namespace, objects.job)
            if objects.config_map and job["spec"].get("suspend"):
                await self._pass_inputs(objects.config_map, job)
        except _API_ERRORS as error:
            raise refused_or_unavailable(error) from error
        return JobHandle.of_job(job).text

    async def follow(self, handle: str, spec: ProgramSpec, on_line: LineSink) -> ProgramOutcome:
        """Wait for the outcome of a Job. See `ProgramEngine`."""
        job = JobHandle.parse(handle)
        watch = await self._watches.of(job.namespace, job.installation)
        following = Following(self._api, watch, job, spec, on_line, self._settings.image_pull_timeout)
        try:
            return await following.outcome()
        except _API_ERRORS as error:
            raise unavailable(error) from error

    async def stop(self, handle: str, grace: float) -> None:
        """Delete a Job, and wait until nothing of it runs. See `ProgramEngine`."""
        job = JobHandle.parse(handle)
        try:
            # Foreground: the Job exists until its pod does not, so that its end is the end of the program.
            await self._api.delete("jobs", job.namespace, job.name, propagation="Foreground")
            watch = await self._watches.of(job.namespace, job.installation)
            async with watch.changes(job.name) as changed:
                pod = watch.view.pods.get(job.name)
                if pod is not None and not pod.is_over:
                    await self._api.delete("pods", job.namespace, pod.name, grace=math.ceil(grace))
                async with asyncio.timeout(grace + STOP_SECONDS):
                    while await self._api.get("jobs", job.namespace, job.name):
                        await changed.wait()
                        changed.clear()
        except TimeoutError:
            pod = watch.view.pods.get(job.name)
            where = f" pod {pod.name} on node {pod.node}" if pod else " its pod"
            raise EngineUnavailable(
                f"{job} was deleted, but{where} does not end: its node may be unreachable"
            ) from None
        except _API_ERRORS as error:
            raise unavailable(error) from error

    async def remove(self, handle: str) -> None:
        """Delete a Job that has ended, with its pod and its inputs. See `ProgramEngine`."""
        job = JobHandle.parse(handle)
        try:
            await self._api.delete("jobs", job.namespace, job.name, propagation="Background")
        except _API_ERRORS as error:
            raise unavailable(error) from error

    async def found(self, installation: str) -> Sequence[FoundExecution]:
        """The Jobs of an installation in all namespaces that Jobs may use. See `ProgramEngine`."""
        query = {"labelSelector": selector(installation)}
        found = []
        try:
            for namespace in self._settings.all_namespaces(self._namespace):
                jobs, _ = await self._api.list("jobs", namespace, query)
                found += [_found(each) for each in jobs]
        except _API_ERRORS as error:
            raise unavailable(error) from error
        return found

    async def close(self) -> None:
        """Close connections; Jobs go on."""
        await self._watches.close()
        await self._api.close()

    async def _found_owner(self) -> Owner | None:
        if self._owner_name is not None and self._owner is None:
            self._owner = await find_owner(self._api, self._owner_name)
            if self._owner is None:
                self._owner_name = None
        return self._owner

    async def _created(self, namespace: str, job: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._api.create("jobs", namespace, job)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
        name = job["metadata"]["name"]
        existing = await self._api.get("jobs", namespace, name)
        if existing is None or job_state(existing).is_deleting:
            raise EngineUnavailable(
                f"Job {namespace}/{name} is still being removed, and will be created after that"
            )
        if (existing["metadata"].get("labels") or {}).get(EXECUTION) != label_value(name):
            raise ProgramRefused(
                f"a Job {namespace}/{name} exists that is not the execution's: delete or rename it"
            )
        return existing

    async def _pass_inputs(self, config_map: Mapping[str, Any], job: Mapping[str, Any]) -> None:
        """Create the ConfigMap of a suspended Job, then let the Job run; a repetition goes on from there."""
        metadata = job["metadata"]
        try:
            await self._api.create("configmaps", metadata["namespace"], owned_by_job(config_map, job))
        except ApiError as error:
            if error.status != CONFLICT:
                if not error.is_transient:
                    with suppress(*_API_ERRORS):
                        await self.remove(JobHandle.of_job(job).text)
                raise
        await self._api.resume(metadata["namespace"], metadata["name"])


def _found(job: Mapping[str, Any]) -> FoundExecution:
    state = job_state(job)
    is_running = state.ending is None or state.ending.type == "FailureTarget"
    return FoundExecution(JobHandle.of_job(job).text, original_labels(job["metadata"]), is_running)
