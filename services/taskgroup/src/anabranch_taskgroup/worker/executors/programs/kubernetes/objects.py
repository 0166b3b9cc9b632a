"""What the engine reads of Jobs and pods: small records instead of the objects of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from anabranch_taskgroup.worker.executors.programs.kubernetes.manifest import CONTAINER

JOB_NAME_LABELS = ("batch.kubernetes.io/job-name", "job-name")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that is true."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class JobState:
    """A Job.

    Attributes:
        ending: its condition Failed or Complete, or FailureTarget while its pod still ends; None while it is open.
        is_deleting: True if somebody has deleted it and its pods are still ending.
    """

    namespace: str
    name: str
    uid: str
    ending: Condition | None = None
    is_deleting: bool = False
    is_suspended: bool = False


@dataclass(frozen=True, slots=True)
class ContainerState:
    """The state of one container."""

    state: Literal["waiting", "running", "terminated"]
    reason: str = ""
    message: str = ""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod of a Job.

    Attributes:
        program: None before kubelet has seen the pod.
        stuck: the first container that waits for a reason other than that the pod is being set up.
        disruption: the condition DisruptionTarget: the cluster ended the pod, or is about to.
        unschedulable: the scheduler's message while no node fits; "" otherwise.
        is_gone: True if the object was deleted; the rest is its last state.
    """

    name: str
    uid: str
    job: str
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    node: str = ""
    program: ContainerState | None = None
    stuck: ContainerState | None = None
    disruption: Condition | None = None
    unschedulable: str = ""
    is_deleting: bool = False
    is_gone: bool = False

    @property
    def is_over(self) -> bool:
        """True if no container of the pod runs, or ever will."""
        return self.is_gone or self.phase in ("Succeeded", "Failed")


_SETTING_UP = ("", "ContainerCreating", "PodInitializing")


def job_state(job: Mapping[str, Any]) -> JobState:
    """Read a Job of the API."""
    metadata = job["metadata"]
    conditions = _conditions(job)
    ending = next(
        (conditions[each] for each in ("Failed", "Complete", "FailureTarget") if each in conditions), None
    )
    return JobState(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        ending=ending,
        is_deleting="deletionTimestamp" in metadata,
        is_suspended=bool((job.get("spec") or {}).get("suspend")),
    )


def pod_state(pod: Mapping[str, Any]) -> PodState:
    """Read a pod of the API."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = _conditions(pod)
    containers = [
        (each["name"], _container_state(each))
        for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    ]
    return PodState(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        job=next((labels[each] for each in JOB_NAME_LABELS if each in labels), ""),
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        node=(pod.get("spec") or {}).get("nodeName", ""),
        program=next((state for name, state in containers if name == CONTAINER), None),
        stuck=next(
            (each for _, each in containers if each.state == "waiting" and each.reason not in _SETTING_UP), None
        ),
        disruption=conditions.get("DisruptionTarget"),
        unschedulable=_unschedulable(status.get("conditions") or ()),
        is_deleting="deletionTimestamp" in metadata,
    )


def _conditions(of: Mapping[str, Any]) -> dict[str, Condition]:
    return {
        each["type"]: Condition(each["type"], each.get("reason", ""), each.get("message", ""))
        for each in (of.get("status") or {}).get("conditions") or ()
        if each.get("status") == "True"
    }


def _unschedulable(conditions: Sequence[Mapping[str, Any]]) -> str:
    for each in conditions:
        if (
            each["type"] == "PodScheduled"
            and each.get("status") == "False"
            and each.get("reason") == "Unschedulable"
        ):
            return str(each.get("message") or "no node fits")
    return ""


def _container_state(status: Mapping[str, Any]) -> ContainerState:
    state = status.get("state") or {}
    if ended := state.get("terminated"):
        return ContainerState(
            "terminated", ended.get("reason", ""), ended.get("message", ""), int(ended.get("exitCode", 0))
        )
    if "running" in state:
        return ContainerState("running")
    waiting = state.get("waiting") or {}
    return ContainerState("waiting", waiting.get("reason", ""), waiting.get("message", ""))
