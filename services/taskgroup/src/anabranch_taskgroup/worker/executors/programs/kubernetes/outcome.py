"""How an execution stands, by the states of its Job and its pod: it goes on, or it has ended with an outcome."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from anabranch_taskgroup.worker.executors.programs.engine import ProgramOutcome
from anabranch_taskgroup.worker.executors.programs.kubernetes.objects import ContainerState, JobState, PodState

SIGNALLED = 128
_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError")
_HOPELESS_REASONS = ("InvalidImageName", "ErrImageNeverPull")
_CANNOT_START = ("StartError", "ContainerCannotRun")
_DISRUPTIONS = {
    "EvictionByEvictionAPI": ("Evicted", "was evicted, as by a drain of its node"),
    "PreemptionByScheduler": ("Preempted", "was removed in favour of a pod of higher priority"),
    "DeletionByTaintManager": ("NodeLost", "was removed because its node is not reachable, or was tainted"),
    "DeletionByPodGC": ("NodeLost", "was removed because its node no longer exists"),
    "TerminationByKubelet": ("Evicted", "was ended by its node, which shuts down or lacks a resource"),
}


@dataclass(frozen=True, slots=True)
class Waits:
    """The execution goes on.

    Attributes:
        why: what it waits for, as a sentence for people; "" while nothing is wrong.
        stuck_outcome: the outcome if this state lasts; None if it may last.
    """

    why: str = ""
    stuck_outcome: ProgramOutcome | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The execution is over. The outcome has no output, which is elsewhere."""

    outcome: ProgramOutcome


def judge(where: str, job: JobState | None, pod: PodState | None, failed_create: str = "") -> Waits | Ended:
    """Judge an execution.

    Args:
        where: the Job, for messages: `Job NAMESPACE/NAME`.
        job: None if it does not exist.
        pod: the Job's pod; None if there is none yet, or it is unknown.
        failed_create: message of the event that says why Kubernetes cannot create the pod; "" if there is none.
    """
    program = pod.program if pod else None
    if program and program.exit_code == 0:
        return Ended(ProgramOutcome(0))
    if job is None:
        return Ended(gone(where))
    if job.is_deleting:
        return Waits(f"{where} was deleted by somebody, and its pod is still ending")
    if job.ending and job.ending.reason == "DeadlineExceeded":
        return _past_deadline(where, job, pod)
    if pod is None:
        return _without_pod(where, job, failed_create)
    if pod.is_over or pod.is_deleting or (program and program.state == "terminated"):
        return _ending(where, job, pod)
    return _open(where, pod)


def gone(where: str) -> ProgramOutcome:
    """The outcome of a Job that does not exist."""
    return ProgramOutcome(
        None,
        "Gone",
        f"{where} no longer exists: somebody deleted it, or it had ended and its time to live was over; the audit "
        "log of the cluster says who deletes Jobs",
    )


def _past_deadline(where: str, job: JobState, pod: PodState | None) -> Waits | Ended:
    if job.ending and job.ending.type == "FailureTarget":
        return Waits(f"{where} has exceeded its timeout, and its pod is still ending")
    return _failed(
        pod.program.exit_code if pod and pod.program else None,
        "DeadlineExceeded",
        f"{where} did not end within its timeout, which includes the time until a node had room and the image; "
        "raise `timeout` of the program, or see why it was slow",
    )


def _without_pod(where: str, job: JobState, failed_create: str) -> Waits | Ended:
    if job.ending and job.ending.type == "Complete":
        return _failed(
            0,
            "PodGone",
            f"{where} has completed, but its pod was removed before its result was read: run it again",
        )
    if job.ending and job.ending.type == "Failed":
        return _failed(
            None,
            "PodGone",
            f"{where} has failed ({job.ending.reason}: {job.ending.message}), and its pod no longer exists",
        )
    if job.is_suspended:
        return Waits(f"{where} is suspended: the worker has not passed its inputs yet, or somebody suspended it")
    if not failed_create:
        return Waits()
    is_refused = " forbidden" in failed_create or " invalid" in failed_create
    if is_refused and "exceeded quota" not in failed_create:
        return _failed(
            None,
            "FailedCreate",
            f"Kubernetes refuses the pod of {where}: {failed_create}",
            is_permanent=True,
        )
    return Waits(f"Kubernetes cannot create the pod of {where} now, and tries again: {failed_create}")


def _ending(where: str, job: JobState, pod: PodState) -> Waits | Ended:
    """Outcome of a pod that ends or has ended; the Job says whose doing it was."""
    program = pod.program
    code = program.exit_code if program else None
    here = f"pod {pod.name} of {where}" + (f" on node {pod.node}" if pod.node else "")
    is_ended = pod.is_over or bool(program and program.state == "terminated")
    if pod.disruption:
        reason, text = _DISRUPTIONS.get(pod.disruption.reason, (pod.disruption.reason, "was disrupted"))
        message = f"{here} {text}: {pod.message or pod.disruption.message}"
        return _failed(code, pod.reason or reason, message) if is_ended else Waits(message)
    if pod.reason == "Evicted":
        return _failed(code, "Evicted", f"{here} was evicted: {pod.message}")
    if pod.is_deleting or pod.is_gone:
        # A Job past its deadline deletes its pod first: only its condition tells that from a deletion by hand.
        if job.ending is None and not pod.is_gone:
            return Waits(f"{here} was deleted, and is still ending")
        return _failed(code, "PodDeleted", f"{here} was deleted by somebody while it ran")
    if program and program.state == "terminated":
        return _exited(here, program)
    return _failed(code, pod.reason or "PodFailed", f"{here} failed: {pod.message or 'its node gives no reason'}")


def _exited(here: str, program: ContainerState) -> Ended:
    code = program.exit_code or 0
    if program.reason == "OOMKilled":
        return _failed(code, "OOMKilled", f"{here} used more memory than its limit: raise `resources.memory`")
    if program.reason in _CANNOT_START:
        return _failed(
            code,
            program.reason,
            f"{here} could not start its command; `command` must name a program of the image: {program.message}",
            is_permanent=True,
        )
    if program.reason == "ContainerStatusUnknown":
        return _failed(
            None, "NodeLost", f"{here}: its node lost the container, as by a restart: {program.message}"
        )
    reason = _signal_name(code - SIGNALLED) if code > SIGNALLED else ""
    return _failed(code, reason, f"{here} was ended by {reason}" if reason else "")


def _open(where: str, pod: PodState) -> Waits | Ended:
    here = f"pod {pod.name} of {where}"
    if pod.unschedulable:
        return Waits(f"{here} waits for a node with room: {pod.unschedulable}")
    if pod.stuck is None:
        return Waits()
    why = f"{here}: {pod.stuck.reason}: {pod.stuck.message or 'Kubernetes gives no details'}"
    if pod.stuck.reason in _HOPELESS_REASONS:
        return _failed(None, pod.stuck.reason, f"{why}; correct `image`", is_permanent=True)
    if pod.stuck.reason == "CreateContainerConfigError" and "runAsNonRoot" in pod.stuck.message:
        return _failed(
            None,
            pod.stuck.reason,
            f"{why}; programs do not run as root: set `options.user` to a numeric user id",
            is_permanent=True,
        )
    hint = "; see that the image exists and the node may pull it" if pod.stuck.reason in _IMAGE_REASONS else ""
    return Waits(why, stuck_outcome=ProgramOutcome(None, pod.stuck.reason, why + hint))


def _failed(code: int | None, reason: str, message: str, *, is_permanent: bool = False) -> Ended:
    return Ended(ProgramOutcome(code, reason, message, is_permanent=is_permanent))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
