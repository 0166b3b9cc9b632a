"""Upgrades and rollbacks amid running work, and an upgrade that fails."""

from __future__ import annotations

import time
from collections.abc import Callable

from checks.release import CHART, PREVIOUS_TAG, CheckFailedError, Release, await_that, expect
from checks.workload import Workload
from one_node.layout import ClusterError


def rolling_upgrade(release: Release) -> dict[str, object]:
    """Every pod of the previous version is replaced by one of this version amid a run, with each member once.

    In a clone without its history the two images have the same code.
    """
    if release.has_previous:
        release.upgrade("--set", f"image.tag={PREVIOUS_TAG}")
    figures = _amid_run(release, "upgraded", lambda: release.upgrade("--set", "image.tag=after"), "after")
    return {"from": _older(release), **figures}


def rollback(release: Release) -> dict[str, object]:
    """`helm rollback` to the revision before, amid a run."""
    wait = ("--wait", "--wait-for-jobs", "--timeout", "240s")
    back = _older(release)
    figures = _amid_run(release, "rolled-back", lambda: release.helm("rollback", release.name, *wait), back)
    return {"to": back, **figures}


def _older(release: Release) -> str:
    return PREVIOUS_TAG if release.has_previous else "before"


def _amid_run(release: Release, mark: str, change: Callable[[], object], tag: str) -> dict[str, object]:
    load = Workload(release, mark, 15_000, seconds=0.2)
    await_that("members have ended", lambda: load.ended() > 100, 60)
    began = time.monotonic()
    change()
    seconds = time.monotonic() - began
    running = release.read("pods", "-l", "app.kubernetes.io/instance=" + release.name)["items"]
    images = {
        pod["spec"]["containers"][0]["image"] for pod in running if "deletionTimestamp" not in pod["metadata"]
    }
    expect(all(image.endswith(f":{tag}") for image in images), f"pods of another image are left: {images}")
    ended_during = load.ended()
    counts = load.await_result(300)
    return {
        "seconds": round(seconds, 1),
        "ended_at_its_end": ended_during,
        "interrupted": counts.interrupted,
        "repeated": counts.repeated,
    }


def failed_upgrade(release: Release) -> dict[str, object]:
    """An upgrade to an image that does not exist: the old pods go on, and the rollback leaves nothing of it."""
    before = _objects(release)
    try:
        release.helm(
            "upgrade",
            release.name,
            CHART,
            "--reuse-values",
            "--set",
            "image.tag=missing",
            "--wait",
            "--timeout",
            "25s",
        )
    except ClusterError as refused:
        reason = str(refused)
    else:
        raise CheckFailedError("an upgrade to an image that does not exist succeeded")
    expect(len(release.pods("taskgroup")) >= 1, "a failed upgrade removed the running workers")
    Workload(release, "amid-failed-upgrade", 200).await_result(60)
    release.helm("rollback", release.name, "--wait", "--timeout", "240s")
    release.await_ready()
    left = sorted(_objects(release) - before)
    expect(not left, f"left by a failed upgrade: {left}")
    return {"refused_with": reason.strip().splitlines()[-1][-200:]}


def _objects(release: Release) -> set[str]:
    """The objects of the release beside pods and what Deployments make, whose names change."""
    kinds = "configmaps,secrets,services,serviceaccounts,jobs,deployments,networkpolicies,poddisruptionbudgets"
    found = release.kubectl("get", kinds, "-l", f"app.kubernetes.io/instance={release.name}", "-o", "name")
    return set(found.split())
