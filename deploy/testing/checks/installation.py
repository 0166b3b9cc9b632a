"""Installation into a restricted namespace, requests with a key, logs and exec, and removal without leftovers."""

from __future__ import annotations

import time
from typing import Any

import httpx

from checks.release import Release, await_that, expect
from checks.workload import Workload, fan_out

MANY = 20_000


def install(release: Release) -> dict[str, object]:
    """`helm install --wait` into a namespace with restricted pod security and a policy that denies all traffic."""
    release.create_namespace()
    began = time.monotonic()
    release.install()
    seconds = time.monotonic() - began
    starts = [_start_seconds(pod) for pod in release.read("pods", "-l", "app.kubernetes.io/component")["items"]]
    return {"install_seconds": round(seconds, 1), "pod_start_seconds": sorted(filter(None, starts))}


def _start_seconds(pod: dict[str, Any]) -> float | None:
    """Seconds between the creation of a pod and its readiness; whole seconds are all that Kubernetes keeps."""
    conditions = {each["type"]: each for each in pod["status"].get("conditions", [])}
    ready = conditions.get("Ready", {})
    if ready.get("status") != "True":
        return None
    form = "%Y-%m-%dT%H:%M:%SZ"
    moments = [
        time.mktime(time.strptime(text, form))
        for text in (pod["metadata"]["creationTimestamp"], ready["lastTransitionTime"])
    ]
    return moments[1] - moments[0]


def helm_test(release: Release) -> dict[str, object]:
    """`helm test`: its pods reach the servers by name, and submit a request through the gateway's Service."""
    output = release.helm("test", release.name, "--timeout", "180s")
    return {"passed": output.count("Succeeded")}


def request_with_key(release: Release) -> dict[str, object]:
    """A request through the Service is refused without a key, and completes with it."""
    refused = httpx.post(f"{release.gateway_url()}/v1/runs", json=fan_out("no-key", 1, 0), timeout=30)
    expect(refused.status_code == 401, f"without a key the gateway answered {refused.status_code}: {refused.text}")
    began = time.monotonic()
    counts = Workload(release, "one", 1).await_result(60)
    expect(counts.ended == 1, f"one member, counted {counts}")
    return {"seconds": round(time.monotonic() - began, 2)}


def logs_and_exec(release: Release) -> dict[str, object]:
    """`kubectl logs` and `kubectl exec` reach the pods."""
    pod = release.pods("agency")[0]
    expect(release.kubectl("logs", pod).strip(), f"the log of {pod} is empty")
    version = release.kubectl("exec", pod, "--", "anabranch", "--version").strip()
    expect(version, "`anabranch --version` printed nothing")
    return {"version": version}


def twenty_thousand(release: Release) -> dict[str, object]:
    """A fan-out of 20,000 members, each of them once in the result and once in effect."""
    began = time.monotonic()
    counts = Workload(release, "many", MANY).await_result(240)
    seconds = time.monotonic() - began
    expect(counts.ended == MANY and counts.began == MANY, f"repeated without a fault: {counts}")
    return {"seconds": round(seconds, 1), "members_per_second": round(MANY / seconds)}


def uninstall(release: Release) -> dict[str, object]:
    """`helm uninstall` leaves no object of the release in the namespace, and none that is cluster-wide."""
    release.helm("uninstall", release.name, "--wait", "--timeout", "180s")
    kinds = release.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    # Events are a log of what happened, and end by themselves.
    wanted = ",".join(kind for kind in kinds if not kind.startswith("events"))
    selector = f"app.kubernetes.io/instance={release.name}"
    # Helm does not wait for the pods of the Deployments that it deleted: they drain for up to a minute.
    await_that(
        "all pods have ended", lambda: not release.kubectl("get", "pods", "-l", selector, "-o", "name"), 100
    )
    left = release.kubectl("get", wanted, "-l", selector, "-o", "name", "--ignore-not-found").split()
    expect(not left, f"left after the uninstallation: {', '.join(left)}")
    secrets = release.kubectl("get", "secrets", "-o", "name").split()
    expect(not secrets, f"left after the uninstallation: {', '.join(secrets)}")
    return {"kinds_searched": len(kinds)}
