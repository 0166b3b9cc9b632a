"""The real services on a simulated log, store and network, with every fault there is, from one seed.

    from anabranch.testing.simulator import simulate

    def test_my_request_survives_anything():
        for seed in range(100):
            simulate(request, agents=[summarise], seed=seed)

A run of a seed is the same each time. See docs/testing.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from anabranch.core.request.models import Request
from anabranch.sdk.request_file import read_document
from anabranch.testing.simulator.faults import FAULTS as FAULTS
from anabranch.testing.simulator.workload import Expected, Workload
from anabranch.testing.simulator.world import SimulationOutcome as SimulationOutcome
from anabranch.testing.simulator.world import World as World
from anabranch.testing.systems import Agents, AnyRequest, registry_of

__all__ = ["FAULTS", "PromiseBroken", "SimulationOutcome", "World", "simulate"]


class PromiseBroken(AssertionError):
    """Something happened under faults that must not happen; the message names the seed, and what it was."""


def simulate(
    request: AnyRequest, *, agents: Agents = (), seed: int = 0, faults: Collection[str] = FAULTS
) -> SimulationOutcome:
    """Run a request under the faults of a seed, and compare how it ends with a run without faults.

    Args:
        agents: as for `anabranch.testing.system`. They must give the same for the same input, and bear being
            called again after a crash. A `def` agent runs on the loop, so it must not wait for anything.
        seed: another one, other faults.
        faults: those that may happen, out of `FAULTS`.

    Raises:
        PromiseBroken: the run did not end, ended twice, differently, or left something behind.
        RequestRefused: the file cannot be read.
    """
    document = _document(request)
    calm = _run(document, agents, seed, ())
    rough = _run(document, agents, seed, faults)
    problems = [*calm.violations, *rough.violations, *_differences(calm, rough)]
    if problems:
        raise PromiseBroken(f"seed {seed}: " + "; ".join(problems))
    return rough


def _document(request: AnyRequest) -> dict[str, Any]:
    if isinstance(request, Request):
        document = request.to_document()
    elif isinstance(request, Mapping):
        document = dict(request)
    else:
        document = dict(read_document(Path(request)))
    return {"request_id": "simulated", **document}


def _run(document: dict[str, Any], agents: Agents, seed: int, faults: Collection[str]) -> SimulationOutcome:
    expected = Expected(document, is_exact=False, skips_values=True)
    workload = Workload(runs=[expected], sent=[(0.1, document)])
    return World(seed, faults, workload=workload, make_registry=lambda world, process: registry_of(agents)).run()


def _differences(calm: SimulationOutcome, rough: SimulationOutcome) -> list[str]:
    """How the two ends differ in what a user would see; how often something was tried may differ."""
    if not calm.finals or not rough.finals:
        return []
    found = []
    for name in ("status", "results", "failure_count"):
        wanted, got = calm.finals[0][name], rough.finals[0][name]
        if wanted != got:
            found.append(f"{name} is {got} under faults, {wanted} without")
    return found
