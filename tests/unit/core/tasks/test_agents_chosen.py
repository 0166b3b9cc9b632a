"""Which agent takes an execution."""

from __future__ import annotations

from task_examples import NOW

from anabranch.core.tasks.availability import availability, why_not_available
from anabranch.core.tasks.models import AgentRecord


def _registered(name: str, agent_type: str, *capabilities: str) -> AgentRecord:
    return AgentRecord(id=name, agent_type=agent_type, capabilities=set(capabilities), registered_at=NOW)


def test_the_fitting_agent_with_the_fewest_running_executions_is_chosen() -> None:
    found = availability({"ann": ["testing"], "bob": ["testing", "monitoring"]})

    assert found.choose("capability/testing", {"ann": 2, "bob": 1}) == "bob"
    assert found.choose("capability/testing", {}) == "ann"
    assert found.choose("capability/monitoring", {"bob": 9}) == "bob"
    assert found.choose("agent/ann", {"ann": 9}) == "ann"
    assert found.choose("capability/deployment", {}) is None


def test_a_registered_agent_is_served_by_the_live_one_that_its_type_names() -> None:
    records = [_registered("ann", "worker", "testing"), _registered("gone", "nobody", "deployment")]
    found = availability({"worker": []}, records)

    assert found.choose("capability/testing", {}) == "ann"
    assert found.served_by["ann"] == "worker"
    assert found.choose("capability/deployment", {}) is None


def test_registering_a_live_agent_adds_what_it_can_do() -> None:
    found = availability({"ann": ["testing"]}, [_registered("ann", "custom", "monitoring")])

    assert found.choose("capability/testing", {}) == "ann"
    assert found.choose("capability/monitoring", {}) == "ann"


def test_what_is_missing_is_said() -> None:
    assert why_not_available("agent/ann") == "waits for the agent 'ann': no live worker has it"
    assert "the capability 'testing'" in why_not_available("capability/testing")
