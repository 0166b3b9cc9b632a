"""The Job that creates topics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Render = Callable[..., Any]


def job(rendered: Any) -> dict[str, Any]:
    (found,) = rendered.of("Job").values()
    return dict(found)


def test_it_uses_files_and_placement(ci: Render) -> None:
    spec = job(ci("all-pods"))["spec"]["template"]["spec"]

    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert {"name": "ca", "mountPath": "/etc/ca", "readOnly": True} in spec["containers"][0]["volumeMounts"]


@pytest.mark.parametrize(
    "values",
    [
        {"topics": {"resources": {"limits": {"memory": "512Mi"}}}},
        {"topics": {"replicationFactor": 3}},
        {"topics": {"backoffLimit": 3}},
        {"nodeSelector": {"a": "b"}},
        {"podSecurityContext": {"runAsUser": 5}},
        {"image": {"tag": "2"}},
        {"imagePullSecrets": [{"name": "pull"}]},
        {"settings": {"log_level": "DEBUG"}},
        {"extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}]},
        {"kafka": {"existingSecret": "login"}},
        {"serviceAccount": {"name": "other"}},
        {"podAnnotations": {"a": "b"}},
        {"taskgroup": {"pools": [{"name": "gpu"}]}},
    ],
    ids=str,
)
def test_its_name_changes_with_its_spec(render: Render, ci: Render, values: dict[str, Any]) -> None:
    before, after = job(ci("defaults")), job(render(values))

    assert before["spec"] != after["spec"]
    assert before["metadata"]["name"] != after["metadata"]["name"]


def test_its_name_does_not_change_with_something_else(render: Render, ci: Render) -> None:
    assert job(ci("defaults")) == job(render({"agency": {"replicas": 9}}))


def test_it_is_no_leftover_of_a_failed_upgrade(ci: Render) -> None:
    spec = job(ci("defaults"))["spec"]

    assert spec["activeDeadlineSeconds"] == 600
    assert spec["ttlSecondsAfterFinished"] == 86_400


def test_replicas_of_topics(ci: Render) -> None:
    rendered = ci("everything")

    assert rendered.one("ConfigMap", "check-streams")["data"]["ANABRANCH_REPLICATION_FACTOR"] == "3"
    sources = job(rendered)["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    assert {"configMapRef": {"name": "check-streams"}} in sources


def test_topics_of_pools(ci: Render) -> None:
    arguments = job(ci("pools"))["spec"]["template"]["spec"]["containers"][0]["args"]

    assert arguments == ["topics", "create", "--pool", "gpu", "--pool", "Quick_ones", "--pool", "scaled"]


def test_it_can_be_left_out(ci: Render) -> None:
    assert ci("existing-secrets").of("Job") == {}
