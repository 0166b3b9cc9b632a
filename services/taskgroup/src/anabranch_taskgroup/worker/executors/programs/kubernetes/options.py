"""Options of a program that only Kubernetes has, read from their text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from anabranch_taskgroup.worker.executors.programs.engine import ProgramRefused

ResultBy = Literal["termination-message", "sidecar"]

IMAGE_USER = "image"
_NAMES = (
    "gpu_resource",
    "image_pull_policy",
    "image_pull_secrets",
    "node_selector",
    "priority_class",
    "result",
    "runtime_class",
    "scratch",
    "tolerations",
    "user",
)
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of one Job.

    Attributes:
        user: numeric id; None: the user of the image, which must not be root.
        result: how the output file leaves the pod.
        scratch: maximum size of `/tmp`, as a Kubernetes quantity.
    """

    user: int | None
    result: ResultBy = "termination-message"
    scratch: str = "1Gi"
    gpu_resource: str = "nvidia.com/gpu"
    image_pull_policy: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    node_selector: tuple[tuple[str, str], ...] = ()
    priority_class: str | None = None
    runtime_class: str | None = None
    tolerations: tuple[Mapping[str, Any], ...] = ()


def read_options(options: Mapping[str, str], run_as_user: int) -> JobOptions:
    """Read the options of a declaration.

    Raises:
        ProgramRefused: an option is unknown, or its value is invalid.
    """
    if unknown := sorted(options.keys() - set(_NAMES)):
        raise ProgramRefused(
            f"options: kubernetes has no option {', '.join(map(repr, unknown))}; it has {', '.join(_NAMES)}"
        )
    return JobOptions(
        user=_user(options.get("user"), run_as_user),
        result=_result(options.get("result", "termination-message")),
        scratch=options.get("scratch", "1Gi"),
        gpu_resource=options.get("gpu_resource", "nvidia.com/gpu"),
        image_pull_policy=_one_of(options, "image_pull_policy", ("Always", "IfNotPresent", "Never")),
        image_pull_secrets=tuple(_listed(options.get("image_pull_secrets", ""))),
        node_selector=tuple(_pair("node_selector", each) for each in _listed(options.get("node_selector", ""))),
        priority_class=options.get("priority_class"),
        runtime_class=options.get("runtime_class"),
        tolerations=tuple(_toleration(each) for each in _listed(options.get("tolerations", ""))),
    )


def _user(text: str | None, run_as_user: int) -> int | None:
    if text is None:
        return run_as_user
    if text == IMAGE_USER:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ProgramRefused(
            f"options.user: {text!r} must be a user id other than 0, or `{IMAGE_USER}` for the image's"
        )
    return int(text)


def _result(text: str) -> ResultBy:
    if text == "sidecar":
        return "sidecar"
    if text == "termination-message":
        return "termination-message"
    raise ProgramRefused(f"options.result: {text!r} must be `termination-message` or `sidecar`")


def _one_of(options: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str | None:
    value = options.get(name)
    if value is not None and value not in allowed:
        raise ProgramRefused(f"options.{name}: {value!r} must be one of {', '.join(allowed)}")
    return value


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _pair(name: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ProgramRefused(f"options.{name}: {text!r} must be `key=value`, several with commas")
    return key, value


def _toleration(text: str) -> Mapping[str, Any]:
    """`key=value:Effect`, `key:Effect` for any value, or `key` for any value and effect."""
    rest, colon, effect = text.partition(":")
    if colon and effect not in _EFFECTS:
        raise ProgramRefused(f"options.tolerations: the effect of {text!r} must be one of {', '.join(_EFFECTS)}")
    key, equals, value = rest.partition("=")
    found: dict[str, Any] = {"key": key, "operator": "Equal" if equals else "Exists"}
    if equals:
        found["value"] = value
    if colon:
        found["effect"] = effect
    return found
