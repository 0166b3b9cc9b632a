"""Renders the chart with helm: each file of ci/ once for each version of Kubernetes."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

HELM_FOLDER = Path(__file__).parents[1]
CHART = HELM_FOLDER / "anabranch"
ROOT = HELM_FOLDER.parents[1]
HELM = os.environ.get("HELM") or str(ROOT / ".servers" / "tools" / "helm")
NEWEST = "1.36"

Object = dict[str, Any]


class Rendered:
    """The objects of one rendering."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.objects: list[Object] = [each for each in yaml.safe_load_all(text) if each]

    def of(self, kind: str) -> dict[str, Object]:
        """All objects of a kind by name; in other namespaces, by `namespace/name`."""
        found: dict[str, Object] = {}
        for each in self.objects:
            meta = each["metadata"]
            if each["kind"] == kind:
                namespace = meta.get("namespace", "somewhere")
                name = meta["name"] if namespace == "somewhere" else f"{namespace}/{meta['name']}"
                assert name not in found, f"two {kind} are named {name}"
                found[name] = each
        return found

    def one(self, kind: str, name: str) -> Object:
        """The object of this kind and name."""
        return self.of(kind)[name]

    def pods(self) -> dict[str, Object]:
        """The spec and metadata of all pods, by `kind/name`."""
        found = {}
        for each in self.objects:
            if each["kind"] in ("Deployment", "StatefulSet", "Job"):
                found[f"{each['kind']}/{each['metadata']['name']}"] = each["spec"]["template"]
            elif each["kind"] == "Pod":
                found[f"Pod/{each['metadata']['name']}"] = each
        return found

    def container(self, name: str, kind: str = "Deployment") -> Object:
        """The first container of a Deployment."""
        container: Object = self.one(kind, name)["spec"]["template"]["spec"]["containers"][0]
        return container

    def env(self, name: str) -> dict[str, Any]:
        """Variables of a Deployment's container: their values, or where they come from."""
        variables = self.container(name)["env"]
        names = [each["name"] for each in variables]
        assert len(names) == len(set(names)), f"{name} sets a variable twice"
        return {each["name"]: each.get("value", each.get("valueFrom")) for each in variables}


def run_helm(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run helm, and return what it printed."""
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)


@functools.cache
def template(values: str, version: str = NEWEST) -> Rendered:
    """The chart with a file of ci/ and a version of Kubernetes."""
    arguments = ["template", "check", str(CHART), "--namespace", "somewhere", "--kube-version", version]
    done = run_helm([*arguments, "--values", str(CHART / "ci" / f"{values}.yaml")])
    assert done.returncode == 0, done.stderr
    return Rendered(done.stdout)


@pytest.fixture
def command() -> Callable[[Sequence[str]], subprocess.CompletedProcess[str]]:
    """Runs helm with these arguments."""
    return run_helm


@pytest.fixture
def ci() -> Callable[..., Rendered]:
    """`ci("pools")` is the chart rendered with ci/pools.yaml."""
    return template


@pytest.fixture
def helm(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`helm({"agency": {...}}, release="other")` renders the chart with these values, also if it is refused."""

    def run(values: Object, release: str = "check") -> subprocess.CompletedProcess[str]:
        path = tmp_path / "values.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return run_helm(["template", release, str(CHART), "--namespace", "somewhere", "--values", str(path)])

    return run


@pytest.fixture
def render(helm: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., Rendered]:
    """As `helm`, for values that are accepted."""

    def run(values: Object, release: str = "check") -> Rendered:
        done = helm(values, release)
        assert done.returncode == 0, done.stderr
        return Rendered(done.stdout)

    return run
