"""Runs the real services on a simulated log, store and network, with faults that are drawn from a seed.

    from anabranch.testing.simulator import simulate

    def test_my_request_survives_anything():
        for seed in range(100):
            simulate(request, agents=[summarise], seed=seed)

A seed always gives the same simulation. See docs/testing.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from anabranch.core.request.models import Request
from anabranch.sdk.request_file import read_document
from anabranch.testing.async_system import AnyRequest
from anabranch.testing.simulator.faults import FAULTS as FAULTS
from anabranch.testing.simulator.workload import Expected, Workload
from anabranch.testing.simulator.world import SimulationOutcome as SimulationOutcome
from anabranch.testing.simulator.world import World as World
from anabranch.testing.systems import Agents, registry_of

__all__ = ["FAULTS", "PromiseBroken", "SimulationOutcome", "World", "simulate"]


class PromiseBroken(AssertionError):
    """A simulation broke a promise of the product; the message has the seed and the violations."""


def simulate(
    request: AnyRequest, *, agents: Agents = (), seed: int = 0, faults: Collection[str] = FAULTS
) -> SimulationOutcome:
    """Run a request under the faults of a seed, and compare its outcome with a run without faults.

    Args:
        agents: as for `anabranch.testing.system`. They must be deterministic, and callable again after a crash. A
            `def` agent runs on the event loop, so it must not block.
        seed: determines which faults happen, and when.
        faults: names of faults that may happen, from `FAULTS`.

    Raises:
        PromiseBroken: the run did not end, ended twice, had another outcome, or left data behind.
        RequestRefused: the file cannot be read.
    """
    document = _document(request)
    without_faults = _run(document, agents, seed, ())
    with_faults = _run(document, agents, seed, faults)
    problems = [
        *without_faults.violations,
        *with_faults.violations,
        *_differences(without_faults, with_faults),
    ]
    if problems:
        raise PromiseBroken(f"seed {seed}: " + "; ".join(problems))
    return with_faults


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


def _differences(without_faults: SimulationOutcome, with_faults: SimulationOutcome) -> list[str]:
    """Differences of the two outcomes that a user sees. The number of attempts may differ."""
    if not without_faults.finals or not with_faults.finals:
        return []
    found = []
    for name in ("status", "results", "failure_count"):
        wanted, got = without_faults.finals[0][name], with_faults.finals[0][name]
        if wanted != got:
            found.append(f"{name} is {got} under faults, {wanted} without")
    return found
