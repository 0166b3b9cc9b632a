"""What a watch has seen of the Jobs and pods of one installation in one namespace: a fold over its events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from anabranch_taskgroup.worker.executors.programs.kubernetes.objects import (
    JobState,
    PodState,
    job_state,
    pod_state,
)

Resource = Literal["jobs", "pods", "events"]

GONE = 410


class Expired(Exception):
    """The server no longer has the events after a resource version: the resource has to be listed again."""


class WatchFailed(Exception):
    """The server ended a watch with an error."""


def _unheard(name: str) -> None:
    """Where no one is interested in changes."""


@dataclass(slots=True)
class WatchView:
    """Jobs by name, and the pod of each.

    Attributes:
        on_change: called with the name of each Job whose state or pod has changed.
        versions: the position of each resource's watch.
    """

    on_change: Callable[[str], None] = _unheard
    jobs: dict[str, JobState] = field(default_factory=dict)
    pods: dict[str, PodState] = field(default_factory=dict)
    failed_creates: dict[str, str] = field(default_factory=dict)
    versions: dict[Resource, str] = field(default_factory=dict)

    def relisted(self, resource: Resource, items: Iterable[Mapping[str, Any]], version: str) -> None:
        """Take over a complete list: what is not in it no longer exists."""
        listed = list(items)
        if resource == "jobs":
            names = {each["metadata"]["name"] for each in listed}
            for name in [name for name in self.jobs if name not in names]:
                self._job_gone(name)
        if resource == "pods":
            uids = {each["metadata"]["uid"] for each in listed}
            for pod in [pod for pod in self.pods.values() if pod.uid not in uids]:
                self._pod_gone(pod)
        for each in listed:
            self._changed(resource, each)
        self.versions[resource] = version

    def apply(self, resource: Resource, event: Mapping[str, Any]) -> None:
        """Take over one event of a watch.

        Raises:
            Expired: the watch is too far behind.
            WatchFailed: the event is another error.
        """
        kind, thing = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            if thing.get("code") == GONE:
                raise Expired(thing.get("message", ""))
            raise WatchFailed(str(thing.get("message") or thing))
        if kind == "DELETED":
            self._deleted(resource, thing)
        elif kind in ("ADDED", "MODIFIED"):
            self._changed(resource, thing)
        self.versions[resource] = thing["metadata"]["resourceVersion"]

    def _changed(self, resource: Resource, thing: Mapping[str, Any]) -> None:
        if resource == "jobs":
            job = job_state(thing)
            self.jobs[job.name] = job
            self.on_change(job.name)
        elif resource == "pods":
            pod = pod_state(thing)
            self.pods[pod.job] = pod
            self.failed_creates.pop(pod.job, None)
            self.on_change(pod.job)
        elif (name := _about_job(thing)) in self.jobs and name not in self.pods:
            self.failed_creates[name] = str(thing.get("message", ""))
            self.on_change(name)

    def _deleted(self, resource: Resource, thing: Mapping[str, Any]) -> None:
        if resource == "jobs":
            self._job_gone(thing["metadata"]["name"])
        elif resource == "pods":
            self._pod_gone(pod_state(thing))

    def _job_gone(self, name: str) -> None:
        self.jobs.pop(name, None)
        self.failed_creates.pop(name, None)
        if (pod := self.pods.get(name)) and pod.is_gone:
            del self.pods[name]
        self.on_change(name)

    def _pod_gone(self, pod: PodState) -> None:
        known = self.pods.get(pod.job)
        if known and known.uid != pod.uid:
            return
        if pod.job in self.jobs:
            # Its last state is the outcome of the Job, which may be decided later.
            self.pods[pod.job] = replace(pod, is_gone=True)
        else:
            self.pods.pop(pod.job, None)
        self.on_change(pod.job)


def _about_job(event: Mapping[str, Any]) -> str:
    return str((event.get("involvedObject") or {}).get("name", ""))
