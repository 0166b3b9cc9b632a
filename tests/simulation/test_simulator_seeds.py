"""Hundreds of seeds with every fault, the seeds that once found a bug, and the determinism of seeds."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from anabranch import agent
from anabranch.core.policies import Contribution, Fold, RunsValue
from anabranch.testing.simulator import FAULTS, PromiseBroken, World, simulate
from anabranch.testing.simulator.__main__ import main
from anabranch.testing.simulator.branches import BRANCHES_FROM
from anabranch.testing.simulator.children import CHILDREN_FROM
from anabranch.testing.simulator.edges import EDGES_FROM
from anabranch.testing.simulator.endings import ENDINGS_FROM
from anabranch.testing.simulator.event_waits import EVENTS_FROM
from anabranch.testing.simulator.limited import LIMITS_FROM
from anabranch.testing.simulator.long_runs import LONG_FROM
from anabranch.testing.simulator.loops import LOOPS_FROM
from anabranch.testing.simulator.ordered import ORDERED_FROM
from anabranch.testing.simulator.outside import OUTSIDE_FROM
from anabranch.testing.simulator.required import REQUIRED_FROM
from anabranch.testing.simulator.scheduled import SCHEDULES_FROM
from anabranch.testing.simulator.sharing import SHARED_FROM
from anabranch.testing.simulator.spending import SPENDING_FROM
from anabranch.testing.simulator.waiting import WAITS_FROM
from anabranch_taskgroup.session.state import MergedKey

SEEDS = 200
BLOCK = 50

KEPT = {
    LIMITS_FROM + 30: "a place that was given back counted again: its holder was repeated by another owner",
    8: "positions whose commit failed during a log outage were never committed",
    38: "a batch that outlived a rebalance moved the committed position of its group back",
    51: "the claim monitor offered dependents before their dependency was stored",
    285: "a chunk that was claimed while its partition was lost stayed with a worker that did not run it",
    287: "an owner that was fenced during a log outage stopped",
    571: "the second bug, with a store that refused writes",
    704: "the second bug, with a log outage",
    1278: "the second bug, with a store a second older",
    1451: "a run that had ended was opened again by a late repetition of its start",
    2306: "the same, with a store a second older",
    2203: "a chunk that was taken over during a check of others was never offered: its join hung",
    2338: "the same",
    2388: "the run that was opened again stayed open",
    7722: "a stalled reader of requests repeated a pause after its resume: the run waited for ever",
    50683: "a claim was dead-lettered because owners died by chance while they decided about it",
    63032: "an owner that rejoined kept a partition that it had lost, and rejoined each second from then on",
    53398: "a position that a lost assignment did not commit counted as committed in the next one",
    79889: "the simulator's own store got a state that it never had: emptied, and partly older",
    85547: "a store that was emptied during a takeover was trusted before the loss was noticed: a run began again",
    EDGES_FROM + 13: "a value of 200 levels could not be read from a task's document: its dependents failed",
    EDGES_FROM
    + 112: "the end of a run was ignored after log and store were both recreated: it was nudged for ever",
    EDGES_FROM + 146: "a run that its owner had ended as lost stayed open with the owner of its session",
    EDGES_FROM
    + 185: "a store that had lost the generations of a topic, but no fence, refused each owner for ever",
    EDGES_FROM + 205: "an event of a recreated topic was dropped as a repetition",
    EDGES_FROM + 350: "derived keys were recognized by the inline limit of the process, not of the run",
    EDGES_FROM + 352: "a run that had ended long ago was opened again: the replay start did not move while idle",
    EDGES_FROM + 389: "the same, and its members were called again",
    EDGES_FROM + 1063: "a position of a deleted topic was committed in the new one: its records were skipped",
    EDGES_FROM + 3176: "a run admitted by the first record of a topic counted as one of an earlier release",
    EDGES_FROM + 10213: "an owner started after its own claim, at a position of a deleted topic",
    EDGES_FROM + 11144: "a run that had ended as lost stayed open at the owner of its session until its deadline",
    EDGES_FROM + 20249: "a topic that was recreated before its first record was not noticed by its readers",
    EDGES_FROM + 20527: "a refused request was admitted by an owner that replayed it after a loss of the store",
    EDGES_FROM + 20796: "a fence of a deleted topic, and an old store without its generation, refused each owner",
    EDGES_FROM + 21063: "deadlines were late by as much as the clock of a machine had been set back",
    EDGES_FROM + 21309: "the same for a request that had been answered again",
    EDGES_FROM + 31857: "an older store got the present progress, and a run that had ended was ended as lost",
    EDGES_FROM + 1171: "no owner queried a run that waits for a key, once its owner had lost it",
    EDGES_FROM
    + 101918: "a run was ended as lost in a rebuild, which publishes nothing: it never ended for its users",
    EDGES_FROM + 127600: "the same, by the end of a group",
    EDGES_FROM
    + 102136: "a repetition of its opening, read from the position of an older store, ran an ended run again",
    EDGES_FROM + 126401: "the same, read from a fragment whose message stayed incomplete",
    EDGES_FROM + 200848: "an array that was read before its topic was recreated reached the task while it waited",
    EDGES_FROM
    + 428396: "an owner restored the record of an ended run without its end, and ended the run as lost again",
    EDGES_FROM + 1027712: "a part of the store was older than a run's end: the run ended again, as lost",
    EDGES_FROM
    + 1035256: "a topic was recreated during a takeover, so that the next owner ran a forgotten run again",
    CHILDREN_FROM + 144: "a sub-run that was paused with its parent, and abandoned by it, stayed paused",
    CHILDREN_FROM + 160: "the same, when the pause came after the stop of the parent",
    CHILDREN_FROM + 666: "the final record of a parent could come before that of its sub-run",
    LOOPS_FROM + 272: "a loop that went on after a failure, and was used up then, told both failures",
    SCHEDULES_FROM
    + 33: "a request that was repeated after the start of its run was answered with another record of the same id",
    77367: "a key whose subscription failed counted as subscribed, and stayed after its run",
    LONG_FROM
    + 1_042_393: "without a commit, a snapshot at the start of a cut log restored no run: it ended as lost, twice",
}
"""Seeds that found bugs, with the bugs. The effects of a seed change with the product, but running it is cheap."""


@pytest.fixture(autouse=True)
def _no_collections() -> Iterator[None]:
    """Collecting garbage takes a third of the time; each block leaves little."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "first",
    [
        *range(0, SEEDS, BLOCK),
        SHARED_FROM,
        EDGES_FROM,
        EDGES_FROM + BLOCK,
        LONG_FROM,
        LONG_FROM + BLOCK,
        BRANCHES_FROM,
        ENDINGS_FROM,
        WAITS_FROM,
        CHILDREN_FROM,
        LOOPS_FROM,
        EVENTS_FROM,
        LIMITS_FROM,
        SPENDING_FROM,
        REQUIRED_FROM,
        ORDERED_FROM,
        SCHEDULES_FROM,
        OUTSIDE_FROM,
        OUTSIDE_FROM + BLOCK,
    ],
)
def test_every_promise_is_kept_under_every_fault(first: int) -> None:
    broken = {}
    for seed in range(first, first + BLOCK):
        if violations := World(seed, FAULTS).run().violations:
            broken[seed] = violations

    assert broken == {}, "reproduce one: python -m anabranch.testing.simulator --seeds SEED --history"


def _in_order_of_arrival(shared: MergedKey) -> list[Contribution]:
    return [Contribution(shared.writer(number), given.value.data) for number, given in shared.by_producer.items()]


def _adds_twice(fold: Fold, new: RunsValue) -> None:
    fold.runs = sorted([*fold.runs, new], key=lambda run: run.stamp)


@pytest.mark.parametrize(
    ("seed", "place", "broken"),
    [
        (SHARED_FROM + 22, "anabranch_taskgroup.session.context_merge.contributions", _in_order_of_arrival),
        (SHARED_FROM + 50, "anabranch.core.policies.Fold.add", _adds_twice),
    ],
)
def test_violations_of_a_shared_key_are_found(
    monkeypatch: pytest.MonkeyPatch, seed: int, place: str, broken: Callable[..., object]
) -> None:
    """Two mutations: a reduction in the order of arrival, and a run whose contribution counts twice."""
    monkeypatch.setattr(place, broken)

    assert any(World(near, FAULTS).run().violations for near in range(seed, seed + 30))


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_found_a_bug_finds_none(seed: int) -> None:
    assert World(seed, FAULTS).run().violations == ()


@pytest.mark.parametrize("seed", range(25))
def test_without_faults_every_member_runs_once(seed: int) -> None:
    world = World(seed, ())

    assert world.run().violations == ()
    if not any(
        "kills" in str(expected.request) or "flaky" in str(expected.request) for expected in world.workload.runs
    ):
        assert set(world.observer.starts.values()) <= {1}


def test_snapshots_are_compared_with_the_fold_and_restore_runs() -> None:
    """The invariant looks at something: owners append snapshots in these seeds."""
    worlds = [World(seed, FAULTS) for seed in range(LONG_FROM, LONG_FROM + 10)]

    assert all(world.run().violations == () for world in worlds)
    assert sum(world.shadow.compared for world in worlds) > 20


@pytest.mark.parametrize("seed", [3, 7, 12, 21])
def test_a_seed_is_the_same_each_time(seed: int) -> None:
    first, second = (World(seed, FAULTS).run() for _ in range(2))

    assert (first.trace, first.steps, first.virtual_seconds) == (
        second.trace,
        second.steps,
        second.virtual_seconds,
    )
    assert first.plan == second.plan
    assert World(seed + 1, FAULTS).run().trace != first.trace


# --- a user's own agents ---------------------------------------------------------------------------


@agent("double")
async def double(task: object) -> int:
    return 2 * task.inputs["n"]  # type: ignore[attr-defined, no-any-return]


REQUEST = {
    "task_groups": [
        {
            "name": "g",
            "tasks": [
                {
                    "name": "t",
                    "agent": "double",
                    "inputs": {"n": "{n}"},
                    "expansion_config": {"type": "array", "array_mapping": {"n": [1, 2, 3]}},
                    "max_deliveries": 100,
                    "result_keys": ["doubled"],
                }
            ],
        }
    ]
}


@pytest.mark.parametrize("seed", range(10))
def test_a_user_runs_their_own_agents(seed: int) -> None:
    outcome = simulate(REQUEST, agents=[double], seed=seed)

    assert outcome.finals[0]["results"] == {"doubled": [2, 4, 6]}


def test_an_agent_that_is_not_deterministic_is_found() -> None:
    calls = iter(range(1_000))

    async def counting(task: object) -> int:
        return next(calls)

    request = {"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "count", "result_keys": ["k"]}]}]}
    with pytest.raises(PromiseBroken, match="results is"):
        simulate(request, agents={"count": counting}, seed=1)


# --- the command -----------------------------------------------------------------------------------


def test_the_command_shows_how_to_reproduce_a_failing_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0..3", "--faults", "", "--mutation", "news-first"]) == 1

    out = capsys.readouterr().out
    command = "python -m anabranch.testing.simulator --seeds 0 --faults '' --mutation news-first --history"
    assert f"repeat with: {command}" in out


def test_the_command_succeeds_without_violations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "5", "--trace"]) == 0
    assert "1 seeds, 0 failed" in capsys.readouterr().out
    assert main(["--faults", "plague"]) == 2
    assert main(["--list"]) == 0
