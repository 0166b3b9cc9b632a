"""SIGKILL in each phase of control flow: the outcome of each run is right, each effect exists once, nothing hangs.

`flow_scenarios` has the phases: what waits, loops, decides, has children or ends when its owners die.
"""

from __future__ import annotations

import random

import pytest
from chaos import chosen_seed
from cluster import Start
from flow_scenarios import (
    SCENARIOS,
    a_loop_in_its_delay,
    a_run_is_compensated,
    a_signal_before_its_wait,
    a_sub_run_is_requested,
    an_approval_is_decided_twice,
    an_event_before_its_wait,
)
from kill_rounds import KillRound

SHORT = (
    a_loop_in_its_delay,
    a_run_is_compensated,
    a_signal_before_its_wait,
    a_sub_run_is_requested,
    an_approval_is_decided_twice,
    an_event_before_its_wait,
)
ROUNDS = 2
COPIES = 2


def test_every_service_is_killed_in_six_phases_of_control_flow(start: Start, kafka: str, redis_url: str) -> None:
    """Both TaskGroups and the Agency, at once, while six runs are in their phases."""
    killing = KillRound(start(kafka, redis_url), random.Random(chosen_seed(40)), SHORT)
    killing.play("agency", "taskgroup")

    assert killing.problems == []
    killing.close()


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("services", [("taskgroup",), ("agency",), ("agency", "taskgroup")], ids="+".join)
def test_services_are_killed_in_every_phase_of_control_flow(
    start: Start, kafka: str, redis_url: str, services: tuple[str, ...]
) -> None:
    """Two runs in each phase, in two rounds. In the second one the successors are killed too, while they take
    over."""
    cluster = start(kafka, redis_url)
    seed = chosen_seed(41)
    problems: dict[str, list[str]] = {}
    for number in range(ROUNDS):
        killing = KillRound(cluster, random.Random(f"{seed} {services} {number}"), SCENARIOS * COPIES)
        killing.play(*services, again=number > 0)
        if killing.problems:
            problems[f"seed {seed}, round {number}"] = killing.problems
        killing.close()

    assert problems == {}, cluster.logs()
