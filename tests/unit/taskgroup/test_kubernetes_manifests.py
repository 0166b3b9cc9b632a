"""Executions as Jobs, and the values that go into them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from anabranch.sdk.programs.spec import ProgramLimits, ProgramSpec
from anabranch_taskgroup.worker.executors.programs.engine import Execution, ProgramRefused
from anabranch_taskgroup.worker.executors.programs.kubernetes.config import KubernetesSettings
from anabranch_taskgroup.worker.executors.programs.kubernetes.labels import (
    label_value,
    object_labels,
    original_labels,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes.manifest import (
    MAX_INPUTS,
    JobObjects,
    Owner,
    job_objects,
    owned_by_job,
)

SETTINGS = KubernetesSettings(namespaces=("others",), service_accounts=("reader",), helper_image="helper:1")
SPEC = ProgramSpec("kubernetes", ("run", "--cost=$(5)"), image="registry.example/a:1")
LABELS = {"installation": "anabranch.", "run_id": "r/1", "member": "3"}


def built(spec: ProgramSpec = SPEC, inputs: bytes = b"{}", owner: Owner | None = None) -> JobObjects:
    return job_objects(Execution("ab-1", spec, inputs, LABELS), SETTINGS, "here", owner)


def pod_of(objects: JobObjects) -> dict[str, Any]:
    pod: dict[str, Any] = objects.job["spec"]["template"]["spec"]
    return pod


def test_a_job_runs_once_under_restricted_pod_security() -> None:
    objects = built(replace(SPEC, timeout=1.2))
    spec, pod, program = objects.job["spec"], pod_of(objects), pod_of(objects)["containers"][0]

    assert (spec["backoffLimit"], spec["completions"], spec["podReplacementPolicy"]) == (0, 1, "Failed")
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (2, 86_400)
    assert pod["restartPolicy"] == "Never"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert program["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert objects.job["metadata"]["labels"]["anabranch/run-id"].startswith("r_1.")
    assert original_labels(objects.job["metadata"]) == LABELS


def test_commands_and_variables_are_not_expanded() -> None:
    program = pod_of(built(replace(SPEC, env={"A": "$(B) $"}, input="args"), b'"$(HOME)"'))["containers"][0]

    assert program["command"] == ["run"]
    assert program["args"] == ["--cost=$$(5)", '"$$(HOME)"']
    assert {"name": "A", "value": "$$(B) $$"} in program["env"]


def test_limits_are_requests_too() -> None:
    limits = ProgramLimits(cpu=0.25, memory=1 << 30, gpu=2)

    resources = pod_of(built(replace(SPEC, limits=limits)))["containers"][0]["resources"]

    assert resources["limits"] == {"cpu": "250m", "memory": "1073741824", "nvidia.com/gpu": "2"}
    assert resources["requests"] == resources["limits"]


def test_large_inputs_are_a_config_map_of_a_suspended_job() -> None:
    small, large = built(inputs=b"1" * 16_384), built(inputs=b"1" * 16_385)

    assert (small.config_map, small.job["spec"]["suspend"]) == (None, False)
    assert large.job["spec"]["suspend"] is True
    assert large.config_map is not None
    owned = owned_by_job(large.config_map, {"metadata": {"name": "ab-1", "uid": "u"}})
    assert owned["metadata"]["ownerReferences"][0]["uid"] == "u"


def test_an_owner_owns_the_jobs_of_its_namespace_only() -> None:
    owner = Owner("here", {"kind": "Deployment", "uid": "u"})

    assert built(owner=owner).job["metadata"]["ownerReferences"] == [owner.reference]
    assert "ownerReferences" not in built(replace(SPEC, namespace="others"), owner=owner).job["metadata"]


def test_options_reach_the_pod() -> None:
    options = {
        "user": "image",
        "node_selector": "gpu=yes, zone=a",
        "tolerations": "gpu=yes:NoSchedule,spot",
        "image_pull_secrets": "one,two",
        "priority_class": "low",
        "runtime_class": "gvisor",
        "result": "sidecar",
    }

    pod = pod_of(built(replace(SPEC, options=options, service_account="reader")))

    assert "runAsUser" not in pod["securityContext"]
    assert pod["nodeSelector"] == {"gpu": "yes", "zone": "a"}
    assert pod["tolerations"] == [
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists"},
    ]
    assert pod["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    assert (pod["priorityClassName"], pod["runtimeClassName"]) == ("low", "gvisor")
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("reader", True)
    assert pod["initContainers"][0]["restartPolicy"] == "Always"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "needs an image"),
        ({"namespace": "kube-system"}, "'kube-system' is not allowed"),
        ({"service_account": "admin"}, "'admin' is not allowed"),
        ({"input": "stdin"}, "ANABRANCH_INPUT"),
        ({"options": {"hostNetwork": "true"}}, "no option 'hostNetwork'"),
        ({"options": {"user": "0"}}, "other than 0"),
        ({"options": {"result": "magic"}}, "`sidecar`"),
        ({"options": {"tolerations": "a:Never"}}, "NoExecute"),
        ({"options": {"node_selector": "a"}}, "key=value"),
        ({"options": {"image_pull_policy": "Maybe"}}, "IfNotPresent"),
    ],
)
def test_what_is_not_allowed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProgramRefused, match=message):
        built(replace(SPEC, **changes))


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ProgramRefused, match="pass its address"):
        built(inputs=b"1" * (MAX_INPUTS + 1))
    with pytest.raises(ProgramRefused, match="use `input: file`"):
        built(replace(SPEC, input="args"), inputs=b"1" * (128 * 1024))


@given(some.text(max_size=100), some.text(max_size=100))
def test_any_text_is_a_label_of_its_own(one: str, other: str) -> None:
    value = label_value(one)

    assert len(value) <= 63
    assert all(each.isascii() and (each.isalnum() or each in "._-") for each in value)
    assert not value or (value[0].isalnum() and value[-1].isalnum())
    assert (value == label_value(other)) == (one == other)


def test_labels_of_objects_have_a_prefix() -> None:
    assert object_labels("ab-1", {"run_id": "r"}) == {
        "app.kubernetes.io/managed-by": "anabranch",
        "anabranch/run-id": "r",
        "anabranch/execution": "ab-1",
    }
