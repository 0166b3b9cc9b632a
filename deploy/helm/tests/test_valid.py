"""Each file of ci/ is linted, rendered for each version of Kubernetes, and validated against its schemas."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

CHART = Path(__file__).parents[1] / "anabranch"
VERSIONS = os.environ.get("KUBERNETES_VERSIONS", "1.30 1.33 1.36").split()
FILES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))

CUSTOM = {"ScaledObject", "TriggerAuthentication", "HTTPRoute", "PodMonitor", "ServiceMonitor", "PrometheusRule"}
"""Kinds that no schema of Kubernetes describes: tests of their structure stand in for one."""


def test_there_are_enough_files() -> None:
    assert len(FILES) >= 10


@pytest.mark.parametrize("name", FILES)
def test_lint(command: Callable[..., Any], name: str) -> None:
    done = command(["lint", "--strict", "--quiet", str(CHART), "--values", str(CHART / "ci" / f"{name}.yaml")])

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FILES)
def test_objects_are_valid(ci: Callable[..., Any], name: str, version: str) -> None:
    for each in ci(name, version).objects:
        if each["kind"] not in CUSTOM:
            problem = schema_problem(json.dumps(each), version)
            assert not problem, f"{each['kind']} {each['metadata']['name']}: {problem}"


@functools.cache
def schema_problem(text: str, version: str) -> str:
    """What is wrong with an object, given as JSON; cached, because files of ci/ have many objects in common."""
    try:
        kubernetes_validate.validate(json.loads(text), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""


@pytest.mark.parametrize("name", FILES)
def test_names_are_allowed_and_unique(ci: Callable[..., Any], name: str) -> None:
    seen = set()
    for each in ci(name).objects:
        meta = each["metadata"]
        key = (each["kind"], meta.get("namespace"), meta["name"])
        assert key not in seen
        seen.add(key)
        assert len(meta["name"]) <= 63
        assert all(len(value) <= 63 for value in meta.get("labels", {}).values())


@pytest.mark.parametrize("name", FILES)
def test_pods_fit_restricted_pod_security(ci: Callable[..., Any], name: str) -> None:
    for where, pod in ci(name).pods().items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, where
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), where
        container = spec["containers"][0]["securityContext"]
        assert container["allowPrivilegeEscalation"] is False, where
        assert container["capabilities"] == {"drop": ["ALL"]}, where
        assert all("hostPath" not in volume for volume in spec["volumes"]), where


@pytest.mark.parametrize("name", FILES)
def test_every_setting_is_one_of_the_product(ci: Callable[..., Any], name: str) -> None:
    """A variable that is no setting would be ignored."""
    from anabranch.runtime.process import settings

    known = set(settings._NAMES) | {"replication_factor"}
    rendered = ci(name)
    variables = set(rendered.one("ConfigMap", next(iter(_main(rendered))))["data"])
    for pod in rendered.pods().values():
        variables |= {each["name"] for each in pod["spec"]["containers"][0].get("env", ())}
    names = {each.removeprefix("ANABRANCH_").lower() for each in variables if each.startswith("ANABRANCH_")}

    assert {each for each in names if not each.startswith("kafka_")} <= known


def _main(rendered: Any) -> list[str]:
    return [
        name for name, each in rendered.of("ConfigMap").items() if "ANABRANCH_PREFIX" in (each.get("data") or {})
    ]


def test_the_schema_has_each_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert set(values) <= set(schema["properties"])


def test_the_schema_has_each_topic() -> None:
    from anabranch.runtime.process.settings import DEFAULT_PARTITIONS

    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    assert set(schema["properties"]["topics"]["properties"]["partitions"]["properties"]) == set(DEFAULT_PARTITIONS)


@pytest.mark.parametrize(
    ("copy", "source"),
    [("rules.yaml", "prometheus/rules.yaml"), ("anabranch.json", "grafana/anabranch.json")],
)
def test_rules_and_dashboard_are_those_of_the_project(copy: str, source: str) -> None:
    """The chart has copies, because a package contains only its own folder."""
    original = CHART.parents[1] / "observability" / source

    assert (CHART / "files" / copy).read_text(encoding="utf-8") == original.read_text(encoding="utf-8"), (
        f"copy {original} to {CHART / 'files' / copy}"
    )
