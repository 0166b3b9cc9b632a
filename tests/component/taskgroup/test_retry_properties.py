"""Retries of random requests: the result is as without failures, and only members without a result run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anabranch import GiveUp, Task
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.messages import MembersTaken, RunTaken
from anabranch.ports import Incoming
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch.testing import SystemRun, system
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.turn import DecisionConfig, ImportOutcomes

SLOW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
FORMATS = ("merge", "index", "separate", "single")


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Tasks in two groups, each depending on some before it; some expanded, some over an earlier result."""
    tasks: list[dict[str, Any]] = []
    lists: list[str] = []
    for number in range(draw(st.integers(1, 6))):
        before = [task["result_keys"][0] for task in tasks]
        needs = draw(st.lists(st.sampled_from(before), unique=True, max_size=2)) if before else []
        task: dict[str, Any] = {"name": f"t{number}", "agent": "sums", "result_keys": [f"k{number}"]}
        if draw(st.booleans()):
            source = draw(st.sampled_from([*lists, list(range(draw(st.integers(1, 12))))]))
            config = {
                "type": "array",
                "array_mapping": {"x": source},
                "output_format": draw(st.sampled_from(FORMATS)),
            }
            task |= {"expansion_config": config, "inputs": "{x} of " + "".join(f"{{{key}}}" for key in needs)}
            needs = [*needs, source] if isinstance(source, str) and source not in needs else needs
            if config["output_format"] in ("merge", "index"):
                lists.append(f"k{number}")
        else:
            task["inputs"] = "".join(f"{{{key}}}" for key in needs) or f"made by {number}"
        tasks.append(task | {"dependencies": needs})
    split = draw(st.integers(0, len(tasks)))
    groups = [{"name": name, "tasks": part} for name, part in (("a", tasks[:split]), ("b", tasks[split:])) if part]
    return {"task_groups": groups}


class Sums:
    """Returns what it gets; the first calls of some members fail permanently."""

    def __init__(self, failing: frozenset[str]) -> None:
        self.failing = failing
        self.calls: Counter[tuple[str, str]] = Counter()
        self.returned: Counter[tuple[str, str]] = Counter()

    def __call__(self, task: Task) -> Any:
        self.calls[task.run_id, task.name] += 1
        if task.name in self.failing:
            raise GiveUp("fails on request")
        self.returned[task.run_id, task.name] += 1
        return task.inputs


MEMBERS = st.frozensets(
    st.sampled_from([f"t{task}" for task in range(6)] + [f"t{t}_{m}" for t in range(6) for m in range(1, 7)]),
    min_size=1,
    max_size=6,
)


@SLOW
@given(requests(), MEMBERS, st.sampled_from([65_536, 60]))
def test_a_retry_ends_as_if_nothing_had_failed_and_runs_only_what_had_no_result(
    document: dict[str, Any], failing: frozenset[str], inline_limit: int
) -> None:
    agent = Sums(failing)
    with system(agents={"sums": agent}, inline_limit=inline_limit) as s:
        run = s.submit(document)
        first = run.result()
        agent.failing = frozenset()
        clean = s.run(document)
        if first.completed:
            assert first.results == clean.results
            return
        again = s.retry(run)
        result = again.result()
        records = s.records("groups")

    assert (result.status, result.results) == ("completed", clean.results)
    assert result.executions == clean.executions
    done_before = {name for run_id, name in agent.returned if run_id == run.run_id}
    ran_again = {name for run_id, name in agent.calls if run_id == again.run_id}
    assert done_before.isdisjoint(ran_again)
    assert result.taken_over == len(done_before)
    check_that_the_fold_takes_everything_twice(records, again, DecisionConfig(s.embedded.names, inline_limit))


def check_that_the_fold_takes_everything_twice(
    records: list[Incoming], run: SystemRun, rules: DecisionConfig
) -> None:
    """A successor may get imported results again, if the owner before it died during the import."""
    mine = [record for record in records if (record.key or b"").decode() == run.session_id]
    once, twice = (ends_of(mine, rules, repeats) for repeats in (1, 2))
    assert once == twice
    assert {end["group"] for end in once if end["run_id"] == run.run_id}


def ends_of(records: list[Incoming], rules: DecisionConfig, repeats: int) -> list[dict[str, Any]]:
    """How the groups end if each record of an import is repeated `times` times."""
    partition, ends, asked = PartitionState(0), [], 0
    for record in records:
        found = GROUPS.decode(record.value)
        taken = isinstance(found.message, MembersTaken | RunTaken)
        for _ in range(repeats if taken else 1):
            turn = decide(
                rules, partition, DeliveredMessage(found.message, found.segments, record.offset, record.timestamp)
            )
            asked += sum(isinstance(effect, ImportOutcomes) for effect in turn.effects)
            for effect in turn.effects:
                if isinstance(effect, PublishAfter) and b"group_finished" in effect.outgoing.value:
                    ends.append(orjson.loads(effect.outgoing.value))
    assert asked == 1
    return ends
