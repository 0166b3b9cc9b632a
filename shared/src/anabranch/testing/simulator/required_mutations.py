"""Breaks the resources of workers on purpose: see `mutations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anabranch.core import requirements
from anabranch.core.requirements import fits
from anabranch_taskgroup.worker import resource_gate
from anabranch_taskgroup.worker.resource_gate import ResourceGate


def _ignores_what_runs(original: Callable[..., Any]) -> Callable[..., Any]:
    """A member fits wherever it would fit alone."""
    return lambda required, offered, used: fits(required, offered)


def _keeps(original: Callable[..., Any]) -> Callable[..., Any]:
    """What a member held is not given back."""
    return lambda gate, key: False


def _finds_none(original: Callable[..., Any]) -> Callable[..., Any]:
    """A worker takes a member although it lacks a label."""
    return lambda required, offered: []


BROKEN: Mapping[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "over-offer": ("a worker takes members beyond what it offers", resource_gate, "fits_now", _ignores_what_runs),
    "resources-kept": ("a member that ended keeps its resources", ResourceGate, "give_back", _keeps),
    "label-ignored": ("a member runs on a worker without its label", requirements, "missing_labels", _finds_none),
}
"""By name: what is broken, and the function that is replaced."""
