"""Composition root of the TaskGroup service."""

from __future__ import annotations

from anabranch.runtime.process.lifecycle import run_service
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import Registry
from anabranch_taskgroup.service import TaskGroupService


def build(resources: Resources, registry: Registry | None = None) -> TaskGroupService:
    """The service on any adapters. Without a registry: the built-in agents and those that the settings name."""
    return TaskGroupService(resources, registry if registry is not None else registry_of(resources.settings))


def registry_of(settings: Settings) -> Registry:
    """The built-in agents and the modules that the settings name."""
    registry = Registry.builtin()
    for module in settings.agents:
        registry.load(module)
    return registry


def main(settings: Settings) -> int:
    """Run the service in this process until it is told to stop; returns the exit code."""
    return run_service(build, settings, service="anabranch-taskgroup")
