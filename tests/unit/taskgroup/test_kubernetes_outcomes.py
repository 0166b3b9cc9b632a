"""States of a Job and its pod, as the API tells them, are judged as outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch_taskgroup.worker.executors.programs.engine import ProgramOutcome
from anabranch_taskgroup.worker.executors.programs.kubernetes.objects import job_state, pod_state
from anabranch_taskgroup.worker.executors.programs.kubernetes.outcome import Ended, Waits, judge
from anabranch_taskgroup.worker.executors.programs.kubernetes.watch_view import Expired, WatchFailed, WatchView


def a_job(condition: tuple[str, str] | None = None, version: int = 1, **metadata: Any) -> dict[str, Any]:
    conditions = (
        [{"type": condition[0], "status": "True", "reason": condition[1], "message": ""}] if condition else []
    )
    return {
        "metadata": {"name": "j", "namespace": "n", "uid": "u", "resourceVersion": str(version), **metadata},
        "spec": {},
        "status": {"conditions": conditions},
    }


def a_pod(
    state: dict[str, Any] | None = None, uid: str = "p", version: int = 1, deleted: bool = False, **status: Any
) -> dict[str, Any]:
    containers = [{"name": "program", "state": state}] if state is not None else []
    metadata: dict[str, Any] = {"name": "j-x", "uid": uid, "resourceVersion": str(version)}
    metadata["labels"] = {"batch.kubernetes.io/job-name": "j"}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "metadata": metadata,
        "spec": {"nodeName": "one"},
        "status": {"containerStatuses": containers, **status},
    }


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def disrupted(reason: str) -> list[dict[str, str]]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "by a test"}]


DELETING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def outcome_of(job: dict[str, Any] | None, pod: dict[str, Any] | None, failed_create: str = "") -> ProgramOutcome:
    verdict = judge("Job n/j", job_state(job) if job else None, pod_state(pod) if pod else None, failed_create)
    assert isinstance(verdict, Ended), verdict
    return verdict.outcome


def waits(job: dict[str, Any] | None, pod: dict[str, Any] | None, failed_create: str = "") -> Waits:
    verdict = judge("Job n/j", job_state(job) if job else None, pod_state(pod) if pod else None, failed_create)
    assert isinstance(verdict, Waits), verdict
    return verdict


@pytest.mark.parametrize(
    ("job", "pod", "code", "reason"),
    [
        (a_job(), a_pod(ended(0, "Completed"), phase="Running"), 0, ""),
        (None, a_pod(ended(0, "Completed"), phase="Succeeded"), 0, ""),
        (a_job(), a_pod(ended(3), phase="Failed"), 3, ""),
        (a_job(), a_pod(ended(137, "OOMKilled"), phase="Failed"), 137, "OOMKilled"),
        (a_job(), a_pod(ended(137), phase="Failed"), 137, "SIGKILL"),
        (a_job(), a_pod(ended(139), phase="Failed"), 139, "SIGSEGV"),
        (a_job(), a_pod(ended(128, "StartError"), phase="Failed"), 128, "StartError"),
        (a_job(), a_pod(ended(137, "ContainerStatusUnknown"), phase="Failed"), None, "NodeLost"),
        (a_job(), a_pod(phase="Failed", reason="Evicted", message="low on disk"), None, "Evicted"),
        (a_job(), a_pod(phase="Failed", reason="UnexpectedAdmissionError"), None, "UnexpectedAdmissionError"),
        (
            a_job(),
            a_pod(ended(143), deleted=True, conditions=disrupted("EvictionByEvictionAPI")),
            143,
            "Evicted",
        ),
        (a_job(), a_pod(phase="Failed", conditions=disrupted("PreemptionByScheduler")), None, "Preempted"),
        (a_job(), a_pod(phase="Failed", conditions=disrupted("DeletionByPodGC")), None, "NodeLost"),
        (a_job(("Failed", "BackoffLimitExceeded")), a_pod(ended(143), deleted=True), 143, "PodDeleted"),
        (a_job(("Failed", "DeadlineExceeded")), a_pod(ended(143), deleted=True), 143, "DeadlineExceeded"),
        (a_job(("Failed", "BackoffLimitExceeded")), None, None, "PodGone"),
        (a_job(("Complete", "CompletionsReached")), None, 0, "PodGone"),
        (None, None, None, "Gone"),
        (None, a_pod(ended(143), phase="Failed"), None, "Gone"),
    ],
)
def test_an_end_has_its_cause(
    job: dict[str, Any] | None, pod: dict[str, Any] | None, code: int | None, reason: str
) -> None:
    outcome = outcome_of(job, pod)

    assert (outcome.exit_code, outcome.reason) == (code, reason)
    assert outcome.is_permanent == (reason == "StartError")
    assert bool(outcome.message) == bool(reason)


@pytest.mark.parametrize(
    ("job", "pod", "why"),
    [
        (a_job(), None, ""),
        (a_job(), a_pod({"waiting": {"reason": "ContainerCreating"}}), ""),
        (a_job(), a_pod({"running": {}}, phase="Running"), ""),
        (a_job(**DELETING), a_pod(ended(143), deleted=True), "was deleted by somebody"),
        (
            a_job(("FailureTarget", "DeadlineExceeded")),
            a_pod({"running": {}}, deleted=True),
            "exceeded its timeout",
        ),
        (a_job(), a_pod({"running": {}}, deleted=True), "was deleted, and is still ending"),
        (a_job(), a_pod(ended(143), deleted=True), "was deleted, and is still ending"),
        (
            a_job(),
            a_pod({"running": {}}, deleted=True, conditions=disrupted("DeletionByTaintManager")),
            "not reachable",
        ),
    ],
)
def test_what_goes_on_may_say_why(job: dict[str, Any], pod: dict[str, Any] | None, why: str) -> None:
    verdict = waits(job, pod)

    assert why in verdict.why
    assert bool(verdict.why) == bool(why)
    assert verdict.stuck_outcome is None


def test_a_pod_without_a_node_waits_for_one() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}

    assert "0/3 nodes" in waits(a_job(), a_pod(phase="Pending", conditions=[condition])).why


@pytest.mark.parametrize(
    "reason", ["ErrImagePull", "ImagePullBackOff", "CreateContainerError", "RunContainerError"]
)
def test_a_container_that_cannot_be_created_may_be_stuck(reason: str) -> None:
    stuck = waits(a_job(), a_pod({"waiting": {"reason": reason, "message": "no such thing"}})).stuck_outcome

    assert stuck is not None
    assert (stuck.reason, stuck.is_permanent) == (reason, False)
    assert "no such thing" in stuck.message


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("InvalidImageName", ""),
        ("ErrImageNeverPull", ""),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
    ],
)
def test_a_wrong_declaration_fails_for_good(reason: str, message: str) -> None:
    outcome = outcome_of(a_job(), a_pod({"waiting": {"reason": reason, "message": message}}))

    assert (outcome.reason, outcome.is_permanent) == (reason, True)


def test_a_quota_is_waited_for_and_a_refusal_is_not() -> None:
    quota = 'pods "j" is forbidden: exceeded quota: q'

    assert "exceeded quota" in waits(a_job(), None, quota).why
    assert "webhook" in waits(a_job(), None, "Internal error: failed calling webhook").why
    assert outcome_of(a_job(), None, 'pods "j" is forbidden: violates PodSecurity').is_permanent


class TestWatchView:
    """The fold of watch events."""

    def test_a_pod_is_kept_until_its_job_is_gone(self) -> None:
        heard: list[str] = []
        view = WatchView(heard.append)

        view.apply("jobs", {"type": "ADDED", "object": a_job(version=5)})
        view.apply("pods", {"type": "ADDED", "object": a_pod({"running": {}}, version=6)})
        view.apply("pods", {"type": "DELETED", "object": a_pod(ended(1), version=7)})
        assert view.pods["j"].is_gone
        view.apply("jobs", {"type": "DELETED", "object": a_job(version=8)})

        assert (view.jobs, view.pods) == ({}, {})
        assert view.versions == {"jobs": "8", "pods": "7"}
        assert heard == ["j"] * 4

    def test_a_list_removes_what_it_does_not_have(self) -> None:
        view = WatchView()
        view.relisted("jobs", [a_job()], "10")
        view.relisted("pods", [a_pod()], "11")

        view.relisted("pods", [], "20")
        assert view.pods["j"].is_gone
        view.relisted("jobs", [], "21")

        assert (view.jobs, view.pods, view.versions) == ({}, {}, {"jobs": "21", "pods": "20"})

    def test_a_new_pod_is_not_removed_by_the_end_of_an_old_one(self) -> None:
        view = WatchView()
        view.relisted("jobs", [a_job()], "1")
        view.apply("pods", {"type": "ADDED", "object": a_pod(uid="new", version=3)})

        view.apply("pods", {"type": "DELETED", "object": a_pod(uid="old", version=4)})

        assert not view.pods["j"].is_gone

    def test_a_bookmark_only_moves_the_position(self) -> None:
        view = WatchView(lambda name: pytest.fail(name))

        view.apply("pods", {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}})

        assert view.versions == {"pods": "77"}

    def test_errors_of_a_watch(self) -> None:
        with pytest.raises(Expired):
            WatchView().apply("jobs", {"type": "ERROR", "object": {"code": 410, "message": "too old"}})
        with pytest.raises(WatchFailed, match="broken"):
            WatchView().apply("jobs", {"type": "ERROR", "object": {"code": 500, "message": "broken"}})

    def test_events_about_other_jobs_are_not_kept(self) -> None:
        view = WatchView()
        view.relisted("jobs", [a_job()], "1")

        for name in ("j", "other"):
            event = {"metadata": {"resourceVersion": "3"}, "involvedObject": {"name": name}, "message": "no"}
            view.apply("events", {"type": "ADDED", "object": event})

        assert view.failed_creates == {"j": "no"}
