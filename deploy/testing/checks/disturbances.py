"""Pods that are scaled, killed and evicted under load."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from checks.release import CheckFailedError, Release, await_that, expect
from checks.workload import Workload
from one_node.commands import inside, run
from one_node.node import NAME, containerd_socket

COMPONENTS = ("agency", "taskgroup", "eventmanager", "gateway")


def scale_by_draining(release: Release) -> dict[str, object]:
    """The workers are scaled from 2 to 4 and down to 1 amid a run: no member begins twice."""
    load = Workload(release, "scaled", 12_000, seconds=0.2)
    workers = f"deployment/{release.name}-taskgroup"
    for replicas in (4, 1):
        release.kubectl("scale", workers, f"--replicas={replicas}")
        _await_workers(release, load, replicas)
    expect(load.ended() < load.members, "the run had ended before the workers were scaled in: raise its members")
    counts = load.await_result(300)
    expect(counts.began == counts.ended == counts.members, f"members were repeated by draining: {counts}")
    release.kubectl("scale", workers, "--replicas=2")
    release.await_ready()
    return {"members": counts.members, "began": counts.began, "ended": counts.ended}


def _await_workers(release: Release, load: Workload, replicas: int) -> None:
    before = load.ended()
    await_that(f"{replicas} workers", lambda: len(release.pods("taskgroup")) == replicas, 120)
    await_that("members end", lambda: load.ended() > before, 60)


def kill_every_pod(release: Release) -> dict[str, object]:
    """SIGKILL of each pod's process in turn, under load: each run completes, each member once in its result."""
    pods = [pod for component in COMPONENTS for pod in release.pods(component)]
    return {"kills": {pod: _kill_amid_run(release, pod) for pod in pods}}


def _kill_amid_run(release: Release, pod: str) -> dict[str, object]:
    load = Workload(release, f"killed-{pod}", 3_000, seconds=0.1)
    await_that("members have ended", lambda: load.ended() > 100, 60)
    before = restarts(release, pod)
    began = time.monotonic()
    os.kill(process_of(release, pod), signal.SIGKILL)
    await_that(f"{pod} has restarted", lambda: restarts(release, pod) > before, 60)
    release.await_ready()
    ready = time.monotonic() - began
    counts = load.await_result(180)
    return {
        "ready_again_seconds": round(ready, 1),
        "run_ended_seconds": round(time.monotonic() - began, 1),
        "members_interrupted": counts.interrupted,
        "members_repeated": counts.repeated,
    }


def restarts(release: Release, pod: str) -> int:
    return int(release.read("pod", pod)["status"]["containerStatuses"][0]["restartCount"])


def process_of(release: Release, pod: str) -> int:
    """The first process of a pod's container, as this machine numbers it."""
    container = release.read("pod", pod)["status"]["containerStatuses"][0]["containerID"].removeprefix(
        "containerd://"
    )
    ctr = ("ctr", "--address", containerd_socket(release.cluster), "--namespace", "k8s.io")
    for line in run(*inside(release.cluster, *ctr, "tasks", "list")).splitlines():
        if line.startswith(container):
            return int(line.split()[1])
    raise CheckFailedError(f"containerd has no process of {pod}, container {container}")


def drain_node(release: Release) -> dict[str, object]:
    """`kubectl drain` amid a run: the disruption budgets keep one pod of each service, and the run goes on.

    With one node the evicted pods wait until it may be used again, so the drain itself cannot end.
    """
    load = Workload(release, "drained", 6_000, seconds=0.2)
    await_that("members have ended", lambda: load.ended() > 100, 60)
    drain = ("drain", NAME, f"--pod-selector=app.kubernetes.io/instance={release.name}")
    try:
        refused = _drain(release, *drain, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=30s")
        kept = {each: len(release.pods(each)) for each in ("agency", "taskgroup", "gateway")}
        expect(all(kept.values()), f"a drain evicted all pods of a service: {kept}")
        before = load.ended()
        await_that(
            "members end during the drain", lambda: load.ended() > before or load.ended() == load.members, 60
        )
    finally:
        release.kubectl("uncordon", NAME)
    release.await_ready()
    counts = load.await_result(240)
    return {"kept": kept, "evictions_refused": refused, "repeated": counts.repeated}


def _drain(release: Release, *arguments: str) -> int:
    """Drain until its deadline; return how often a disruption budget refused an eviction."""
    command = [str(release.cluster.kubectl), f"--kubeconfig={release.cluster.kubeconfig}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    refused = done.stderr.count("violate the pod's disruption budget")
    expect(refused > 0, f"no disruption budget refused an eviction: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    return refused
