"""Composition root of the Agency service."""

from __future__ import annotations

from collections.abc import Collection

from anabranch.runtime.process.lifecycle import run_service
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import Registry
from anabranch_agency.service import AgencyService


def build(resources: Resources, agents: Collection[str] | None = None) -> AgencyService:
    """The service on any adapters. The registry is known where agents are given or the settings name some."""
    if agents is None and resources.settings.agents:
        registry = Registry.builtin()
        for module in resources.settings.agents:
            registry.load(module)
        agents = registry.names
    return AgencyService(resources, agents)


def main(settings: Settings) -> int:
    """Run the service in this process until it is told to stop; returns the exit code."""
    return run_service(build, settings, service="anabranch-agency")
