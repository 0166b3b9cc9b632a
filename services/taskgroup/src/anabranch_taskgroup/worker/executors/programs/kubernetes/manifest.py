"""The objects of one execution as Kubernetes gets them: a Job, and a ConfigMap for large inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from anabranch.sdk.programs.spec import ProgramLimits, ProgramSpec
from anabranch_taskgroup.worker.executors.programs.engine import Execution, ProgramRefused
from anabranch_taskgroup.worker.executors.programs.kubernetes.config import GRACE_SECONDS, KubernetesSettings
from anabranch_taskgroup.worker.executors.programs.kubernetes.labels import (
    LABELS_ANNOTATION,
    PREFIX,
    labels_annotation,
    object_labels,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes.options import JobOptions, read_options

CONTAINER = "program"
SIDECAR = "result"
INPUTS_ANNOTATION = f"{PREFIX}inputs"
INPUTS_FILE = "inputs.json"
INPUT_FOLDER = "/anabranch/input"
OUTPUT_FOLDER = "/anabranch/output"
INPUT_PATH = f"{INPUT_FOLDER}/{INPUTS_FILE}"
OUTPUT_PATH = f"{OUTPUT_FOLDER}/result.json"
MESSAGE_PATH = "/dev/termination-log"
"""Where kubelet reads the termination message; each container can write this file, also on a read-only root."""

MAX_MESSAGE = 4096
"""Kubelet keeps the last 4096 bytes of a termination message."""
MAX_ANNOTATED_INPUTS = 16 * 1024
"""Up to this size inputs travel in the pod's annotations, so that one call creates everything."""
MAX_INPUTS = 1024 * 1024 - 1024
"""A ConfigMap has at most 1 MiB of data, of which the name of the file is a part."""
MAX_ARGUMENT = 128 * 1024 - 1
"""Linux accepts single arguments of less than 128 KiB."""

# Runs until kubelet ends it, which for a sidecar is once the program has ended. Prints the size of the
# result, because kubelet may rotate a part of a log away, then the result.
_SIDECAR_SCRIPT = (
    f"trap 'test ! -f {OUTPUT_PATH} || (wc -c < {OUTPUT_PATH}; cat {OUTPUT_PATH}); exit 0' TERM; "
    "while :; do sleep 3600 & wait $!; done"
)


@dataclass(frozen=True, slots=True)
class Owner:
    """The object that Jobs belong to: its namespace, and a reference to it."""

    namespace: str
    reference: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobObjects:
    """What has to be created for an execution; with a ConfigMap, the Job is created suspended."""

    namespace: str
    job: dict[str, Any]
    config_map: dict[str, Any] | None


def job_objects(
    execution: Execution, settings: KubernetesSettings, default_namespace: str, owner: Owner | None
) -> JobObjects:
    """Build the objects of an execution.

    Args:
        owner: the owner of Jobs in its own namespace; elsewhere Kubernetes would not find it, and remove the Job.

    Raises:
        ProgramRefused: the configuration does not allow the program, or Kubernetes cannot run it.
    """
    spec = execution.spec
    options = _options(spec, settings)
    namespace = spec.namespace or default_namespace
    _check_allowed(spec, options, settings, default_namespace)
    _check_inputs(execution)
    by_config_map = spec.input == "file" and len(execution.inputs) > MAX_ANNOTATED_INPUTS
    labels = object_labels(execution.name, execution.labels)
    annotations = {LABELS_ANNOTATION: labels_annotation(execution.labels)}
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": execution.name,
            "namespace": namespace,
            "labels": labels,
            "annotations": annotations,
            **({"ownerReferences": [dict(owner.reference)]} if owner and namespace == owner.namespace else {}),
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            # A pod that is being deleted still runs: Kubernetes must not count it as gone.
            "podReplacementPolicy": "Failed",
            "suspend": by_config_map,
            "ttlSecondsAfterFinished": math.ceil(settings.job_ttl),
            **({"activeDeadlineSeconds": max(1, math.ceil(spec.timeout))} if spec.timeout else {}),
            "template": {
                "metadata": {"labels": labels, "annotations": annotations | _inputs_annotation(execution)},
                "spec": _pod_spec(execution, settings, options),
            },
        },
    }
    return JobObjects(namespace, job, _config_map(execution, namespace, labels) if by_config_map else None)


def uses_sidecar(spec: ProgramSpec) -> bool:
    """True if the result is the log of the sidecar."""
    return spec.output == "file" and spec.options.get("result") == "sidecar"


def _options(spec: ProgramSpec, settings: KubernetesSettings) -> JobOptions:
    options = read_options(spec.options, settings.run_as_user)
    return options if uses_sidecar(spec) else replace(options, result="termination-message")


def _check_allowed(
    spec: ProgramSpec, options: JobOptions, settings: KubernetesSettings, default_namespace: str
) -> None:
    if not spec.image:
        raise ProgramRefused("image: a Kubernetes Job needs an image")
    allowed_namespaces = settings.all_namespaces(default_namespace)
    if spec.namespace and spec.namespace not in allowed_namespaces:
        raise ProgramRefused(
            f"namespace: {spec.namespace!r} is not allowed; the worker's settings kubernetes_namespace and "
            f"executor_namespaces allow {', '.join(allowed_namespaces)}"
        )
    if spec.service_account and spec.service_account not in settings.service_accounts:
        raise ProgramRefused(
            f"service_account: {spec.service_account!r} is not allowed; the worker's setting "
            f"kubernetes_service_accounts allows {', '.join(settings.service_accounts) or 'none'}"
        )
    if options.result == "sidecar" and not settings.helper_image:
        raise ProgramRefused(
            "options.result: `sidecar` needs the worker's setting kubernetes_helper_image, an image with /bin/sh"
        )


def _check_inputs(execution: Execution) -> None:
    size = len(execution.inputs)
    if execution.spec.input == "stdin":
        raise ProgramRefused(
            "input: stdin is not available in Kubernetes, because a pod's stdin does not survive the worker that "
            "writes it; use `input: file` and read $ANABRANCH_INPUT, such as with "
            """`command: [sh, -c, 'my-program < "$ANABRANCH_INPUT"']`"""
        )
    if execution.spec.input == "args" and size > MAX_ARGUMENT:
        raise ProgramRefused(
            f"input: the inputs have {size} bytes, an argument has at most {MAX_ARGUMENT}; use `input: file`"
        )
    if size > MAX_INPUTS:
        raise ProgramRefused(
            f"inputs: {size} bytes are more than the {MAX_INPUTS} that Kubernetes can pass to a pod as a file; "
            "put the data into a store that the program can reach, and pass its address"
        )


def _inputs_annotation(execution: Execution) -> dict[str, str]:
    if execution.spec.input != "file" or len(execution.inputs) > MAX_ANNOTATED_INPUTS:
        return {}
    return {INPUTS_ANNOTATION: execution.inputs.decode()}


def _config_map(execution: Execution, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "immutable": True,
        "metadata": {"name": execution.name, "namespace": namespace, "labels": dict(labels)},
        "data": {INPUTS_FILE: execution.inputs.decode()},
    }


def owned_by_job(config_map: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    """The ConfigMap as an object that Kubernetes removes with the Job that was created."""
    metadata = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    return {**config_map, "metadata": {**config_map["metadata"], "ownerReferences": [owner]}}


def _pod_spec(execution: Execution, settings: KubernetesSettings, options: JobOptions) -> dict[str, Any]:
    spec = execution.spec
    secured: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if options.user is not None:
        secured |= {"runAsUser": options.user, "runAsGroup": options.user, "fsGroup": options.user}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": spec.service_account is not None,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(GRACE_SECONDS),
        "securityContext": secured,
        "containers": [_program(execution, options)],
        "volumes": _volumes(execution, options),
    }
    if options.result == "sidecar":
        pod["initContainers"] = [_sidecar(settings.helper_image or "")]
    optional: dict[str, Any] = {
        "serviceAccountName": spec.service_account,
        "priorityClassName": options.priority_class,
        "runtimeClassName": options.runtime_class,
        "nodeSelector": dict(options.node_selector),
        "tolerations": [dict(each) for each in options.tolerations],
        "imagePullSecrets": [{"name": each} for each in options.image_pull_secrets],
    }
    return pod | {name: value for name, value in optional.items() if value}


def _program(execution: Execution, options: JobOptions) -> dict[str, Any]:
    spec = execution.spec
    arguments = list(spec.command[1:])
    if spec.input == "args":
        arguments.append(execution.inputs.decode())
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": spec.image,
        "env": [
            {"name": name, "value": _literal(value)} for name, value in _environment(execution, options).items()
        ],
        "securityContext": _restricted(),
        "terminationMessagePath": MESSAGE_PATH,
        "terminationMessagePolicy": "File",
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }
    if spec.command:
        container["command"] = [_literal(spec.command[0])]
    if arguments:
        container["args"] = [_literal(each) for each in arguments]
    if options.image_pull_policy:
        container["imagePullPolicy"] = options.image_pull_policy
    if resources := _resources(spec.limits, options.gpu_resource):
        container["resources"] = {"requests": resources, "limits": resources}
    if spec.input == "file":
        container["volumeMounts"].append({"name": "input", "mountPath": INPUT_FOLDER, "readOnly": True})
    if options.result == "sidecar":
        container["volumeMounts"].append({"name": "output", "mountPath": OUTPUT_FOLDER})
    return container


def _environment(execution: Execution, options: JobOptions) -> dict[str, str]:
    found = {"HOME": "/tmp", **execution.spec.env}
    if execution.spec.input == "file":
        found["ANABRANCH_INPUT"] = INPUT_PATH
    if execution.spec.output == "file":
        found["ANABRANCH_OUTPUT"] = OUTPUT_PATH if options.result == "sidecar" else MESSAGE_PATH
    return found


def _literal(text: str) -> str:
    """The text such that Kubernetes, which expands `$(NAME)` in commands and variables, leaves it as it is."""
    return text.replace("$", "$$")


def _restricted() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _resources(limits: ProgramLimits, gpu_resource: str) -> dict[str, str]:
    found = {}
    if limits.cpu is not None:
        found["cpu"] = f"{max(1, math.ceil(limits.cpu * 1000))}m"
    if limits.memory is not None:
        found["memory"] = str(limits.memory)
    if limits.gpu:
        found[gpu_resource] = str(limits.gpu)
    return found


def _volumes(execution: Execution, options: JobOptions) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {"sizeLimit": options.scratch}}]
    if execution.spec.input == "file":
        if len(execution.inputs) > MAX_ANNOTATED_INPUTS:
            found.append({"name": "input", "configMap": {"name": execution.name}})
        else:
            item = {"path": INPUTS_FILE, "fieldRef": {"fieldPath": f"metadata.annotations['{INPUTS_ANNOTATION}']"}}
            found.append({"name": "input", "downwardAPI": {"items": [item]}})
    if options.result == "sidecar":
        found.append({"name": "output", "emptyDir": {"sizeLimit": options.scratch}})
    return found


def _sidecar(image: str) -> dict[str, Any]:
    small = {"cpu": "10m", "memory": "32Mi"}
    return {
        "name": SIDECAR,
        "image": image,
        "restartPolicy": "Always",
        "command": ["/bin/sh", "-c", _literal(_SIDECAR_SCRIPT)],
        "resources": {"requests": small, "limits": small},
        "securityContext": _restricted(),
        "volumeMounts": [{"name": "output", "mountPath": OUTPUT_FOLDER, "readOnly": True}],
    }
