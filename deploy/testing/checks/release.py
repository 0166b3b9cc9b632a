"""The release under test: its namespace, Helm and kubectl commands, and its gateway."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from one_node.commands import run, succeeds
from one_node.layout import REPOSITORY, Layout

HERE = Path(__file__).resolve().parent
CHART = REPOSITORY / "deploy" / "helm" / "anabranch"
VALUES = HERE / "values.yaml"
TESTED_TAGS = ("before", "after")
"""The product's image has both tags, so that an upgrade replaces every pod."""
PREVIOUS_TAG = "previous"
"""The image of the previous version, where the history has its code."""
WAIT = "240s"

NAMESPACE = """\
apiVersion: v1
kind: Namespace
metadata:
  name: {name}
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/enforce-version: latest
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: deny-everything, namespace: {name}}}
spec: {{podSelector: {{}}, policyTypes: [Ingress, Egress]}}
"""


class CheckFailedError(Exception):
    """Raised if the cluster did not behave as it has to; the message says what was seen."""


class Release:
    """One installation of the chart in a namespace of its own."""

    def __init__(
        self, cluster: Layout, name: str = "anabranch", namespace: str = "checks", *, has_previous: bool = False
    ) -> None:
        """`has_previous`: the cluster has the image `PREVIOUS_TAG`."""
        self.cluster = cluster
        self.has_previous = has_previous
        self.name = name
        self.namespace = namespace
        self.gateway = f"{name}-gateway"

    # --- commands

    def kubectl(self, *arguments: str, given: str | None = None, timeout: float = 300) -> str:
        """Run kubectl in the namespace; return its output."""
        return run(*self._kubectl(), *arguments, given=given, timeout=timeout)

    def read(self, *arguments: str) -> Any:
        """The objects of `kubectl get ARGUMENTS`, as a document."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def helm(self, *arguments: str | Path, timeout: float = 420) -> str:
        """Run helm in the namespace; return its output."""
        place = ("--kubeconfig", self.cluster.kubeconfig, "--namespace", self.namespace)
        return run(self.cluster.helm, *place, *arguments, timeout=timeout)

    def install(self, *arguments: str) -> None:
        """`helm upgrade --install`, with the values of the checks, and wait until everything is ready."""
        self.helm("upgrade", "--install", self.name, CHART, *self._values(), *arguments, *self._waiting())

    def upgrade(self, *arguments: str) -> None:
        """`helm upgrade` with these arguments beside the values of the last one, and wait."""
        self.helm("upgrade", self.name, CHART, "--reuse-values", *arguments, *self._waiting())

    def _values(self) -> list[str]:
        servers = {"kafka.brokers": self.cluster.brokers, "redis.url": self.cluster.redis_url}
        settings = [part for name, value in servers.items() for part in ("--set", f"{name}={value}")]
        effects = {"name": "EFFECTS_URL", "value": self.effects_url}
        return ["--values", str(VALUES), *settings, "--set-json", f"taskgroup.extraEnv=[{json.dumps(effects)}]"]

    @property
    def effects_url(self) -> str:
        """Where agents count: a database of Valkey that the product does not use."""
        return self.cluster.redis_url.removesuffix("/0") + "/1"

    def _waiting(self) -> list[str]:
        return ["--wait", "--wait-for-jobs", "--timeout", WAIT]

    def _kubectl(self) -> list[str]:
        return [
            str(self.cluster.kubectl),
            f"--kubeconfig={self.cluster.kubeconfig}",
            f"--namespace={self.namespace}",
        ]

    # --- the namespace

    def create_namespace(self) -> None:
        """Create it with restricted pod security, a policy that denies all traffic, and the agents' ConfigMap."""
        self.kubectl("apply", "-f", "-", given=NAMESPACE.format(name=self.namespace))
        if not succeeds(*self._kubectl(), "get", "configmap", "check-agents"):
            self.kubectl("create", "configmap", "check-agents", f"--from-file={HERE / 'agents'}")

    def pods(self, component: str | None = None) -> list[str]:
        """Names of the running pods of the release's services, or of one of them."""
        found = self.read("pods", "-l", self._selector(component))["items"]
        return [
            pod["metadata"]["name"]
            for pod in found
            if pod["metadata"].get("deletionTimestamp") is None and pod["status"]["phase"] == "Running"
        ]

    def await_ready(self, seconds: float = 180) -> None:
        """Wait until each Deployment of the release has as many ready pods as it wants, and no others."""

        def settled() -> bool:
            return all(
                each["status"].get("readyReplicas", 0)
                == each["spec"]["replicas"]
                == each["status"].get("replicas", 0)
                for each in self.read("deployments", "-l", self._selector(None))["items"]
            )

        await_that("every Deployment has its pods ready", settled, seconds)

    def _selector(self, component: str | None) -> str:
        known = f"app.kubernetes.io/instance={self.name}"
        return known + (f",app.kubernetes.io/component={component}" if component else "")

    # --- the gateway

    def api_key(self) -> str:
        """The operator's key that the chart made at the installation."""
        found = self.read("secret", f"{self.name}-gateway-keys")["data"]["api-key"]
        return base64.b64decode(found).decode()

    def gateway_url(self) -> str:
        """The address of the gateway's Service, which kube-proxy translates."""
        service = self.read("service", self.gateway)["spec"]
        return f"http://{service['clusterIP']}:{service['ports'][0]['port']}"

    def submit(self, request: dict[str, Any]) -> str:
        """Submit a request with the key; repeat while no gateway responds. Returns the run's id."""
        return str(self._call("POST", "/v1/runs", content=json.dumps(request))["run_id"])

    def status(self, run_id: str) -> dict[str, Any]:
        """The view of a run."""
        answer: dict[str, Any] = self._call("GET", f"/v1/runs/{run_id}")
        return answer

    def cancel(self, run_id: str) -> None:
        """Cancel a run."""
        self._call("POST", f"/v1/runs/{run_id}/cancel")

    def completed(self, run_id: str, seconds: float) -> dict[str, Any]:
        """Wait for a run's final record. Raises CheckFailedError if the run fails or does not end in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer: dict[str, Any] = self._call(
                "GET", f"/v1/runs/{run_id}/result?wait=10", accepted=(200, 404, 409)
            )
            if answer.get("status") == "completed":
                return answer
            if "code" not in answer:
                raise CheckFailedError(f"run {run_id} ended: {json.dumps(answer)[:2000]}")
        raise CheckFailedError(f"run {run_id} has not ended after {seconds:g} s: {self.why(run_id)}")

    def why(self, run_id: str) -> str:
        """What the gateway says about a run that does not end."""
        return json.dumps(self._call("GET", f"/v1/runs/{run_id}/why", accepted=(200, 404, 409)))[:3000]

    def values_of(self, run_id: str, key: str) -> list[Any]:
        """All items of a list among a run's results, page by page if it is long."""
        items: list[Any] = []
        while True:
            page = self._call("GET", f"/v1/runs/{run_id}/results/{key}?from={len(items)}&limit=5000")
            if page.get("items") is None:
                return list(page["value"])
            if not page["items"]:
                return items
            items += page["items"]

    def _call(
        self, method: str, path: str, *, content: str | None = None, accepted: tuple[int, ...] = (200, 202)
    ) -> Any:
        """One call, repeated for a minute while the gateway is unavailable, as a client would."""
        headers = {"Authorization": f"Bearer {self.api_key()}", "Content-Type": "application/json"}
        end = time.monotonic() + 60
        while True:
            try:
                answer = httpx.request(
                    method, self.gateway_url() + path, headers=headers, content=content, timeout=30
                )
                if answer.status_code in accepted:
                    return answer.json()
                problem = f"{answer.status_code} {answer.text[:1000]}"
                if answer.status_code not in (502, 503, 504):
                    break
            except httpx.TransportError as error:
                problem = repr(error)
            if time.monotonic() > end:
                break
            time.sleep(0.3)
        raise CheckFailedError(f"{method} {path}: {problem}")


def await_that(what: str, holds: Callable[[], bool], seconds: float) -> None:
    """Poll `holds` until it is true. Raises CheckFailedError at the deadline."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise CheckFailedError(f"not so after {seconds:g} s: {what}")
        time.sleep(0.3)


def expect(holds: object, seen: str) -> None:
    """Raise CheckFailedError with what was seen, unless `holds`."""
    if not holds:
        raise CheckFailedError(seen)
