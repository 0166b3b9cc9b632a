"""Hundreds of seeds with every fault, the seeds that once found a bug, and the determinism of seeds."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from anabranch import agent
from anabranch.core.policies import Contribution, Fold, RunsValue
from anabranch.testing.simulator import FAULTS, PromiseBroken, World, simulate
from anabranch.testing.simulator.__main__ import main
from anabranch.testing.simulator.edges import EDGES_FROM
from anabranch.testing.simulator.sharing import SHARED_FROM
from anabranch_taskgroup.session.state import MergedKey

SEEDS = 200
BLOCK = 50

KEPT = {
    8: "positions that could not be committed while the log was away were never committed",
    38: "a batch that outlived a rebalance took the position of its group back",
    51: "a sweep offered dependents before their dependency was in the store",
    285: "a chunk that was claimed while its partition was lost stayed with a worker that did not run it",
    287: "an owner that was fenced while the log was away stopped",
    571: "the second bug, with a store that refused writes",
    704: "the second bug, with a log that was away",
    1278: "the second bug, with a store a second older",
    1451: "a run that had ended was opened again by a late repetition of its start",
    2306: "the same, with a store a second older",
    2203: "a chunk that was taken over during a look at others was forgotten, and never offered: its join hung",
    2338: "the same",
    2388: "the run that was opened again stayed open",
    7722: "a reader of requests that stood still told a pause again, after its resume: the run waited for ever",
    50683: "a claim was buried because owners died by chance while they decided about it",
    63032: "an owner that joined anew kept a partition that it had lost, and joined anew each second from then on",
    53398: "a position that a lost assignment did not commit was taken for committed in the next one",
    79889: "the simulator's own store came back as one that it never was: emptied, and older in part",
    85547: "a store that was emptied during a take-over was believed, before anybody noticed: a run began again",
    EDGES_FROM + 13: "a value of 200 levels could not be read out of a task's document: its dependents failed",
    EDGES_FROM
    + 112: "the end of a run was not heard where log and store had both begun again: it was nudged for ever",
    EDGES_FROM + 146: "a run that its owner had ended as lost stayed open with the owner of its session",
    EDGES_FROM + 185: "a store that had lost the lives of a topic, and no fence, refused each owner for ever",
    EDGES_FROM + 205: "an event of a topic that was created again was taken for one that was known",
    EDGES_FROM + 350: "derived keys were told by the inline limit of the process, not by that of the run",
    EDGES_FROM
    + 352: "a run that had ended long ago was opened again: the place to rebuild from stood still while idle",
    EDGES_FROM + 389: "the same, and its members were called again",
    EDGES_FROM
    + 1063: "a position of a topic that was deleted was committed in the one after it: its records were skipped",
    EDGES_FROM + 3176: "a run admitted by the first record of a topic was taken for one of an earlier release",
    EDGES_FROM + 10213: "an owner began behind its own claim, at a position of a topic that was deleted",
    EDGES_FROM + 11144: "a run that had ended as lost went on with the owner of its session until its deadline",
    EDGES_FROM + 20249: "a topic that was created again before anything came of it was not noticed by its readers",
    EDGES_FROM + 20527: "a refused request was admitted by an owner that replayed it once the store had forgotten",
    EDGES_FROM
    + 20796: "a fence of a topic that was deleted, and an old store without its life, refused each owner",
    EDGES_FROM + 21063: "deadlines were late by as much as the clock of a machine had been set back",
    EDGES_FROM + 21309: "the same of a request that had been answered again",
    EDGES_FROM + 31857: "an older store was told the present progress, and a run that had ended was ended as lost",
    EDGES_FROM + 1171: "nobody asked after a run that waits for a key, once its owner had lost it",
    EDGES_FROM + 101918: "a run was ended as lost in a rebuild, which tells nobody: it never ended for its users",
    EDGES_FROM + 127600: "the same, by the end of a group",
    EDGES_FROM
    + 102136: "a repetition of its opening, read from the place of an older store, ran an ended run again",
    EDGES_FROM + 126401: "the same, read from a fragment whose message never became whole",
    EDGES_FROM
    + 200848: "what was read for a task before its topic was created again met the task while it waited",
    EDGES_FROM
    + 428396: "an owner restored the record of an ended run without its end, and ended the run as lost again",
    EDGES_FROM + 1027712: "a part of the store was older than a run's end: the run ended again, as lost",
    EDGES_FROM
    + 1035256: "a topic was created again during a takeover, so that the next owner ran a forgotten run again",
    77367: "a key that could not be subscribed to was taken for subscribed, and stayed after its run",
}
"""Seeds that found bugs, and what these were. What a seed does changes with the product; they are cheap."""


@pytest.fixture(autouse=True)
def _no_collections() -> Iterator[None]:
    """Collecting garbage takes a third of the time; each block leaves little."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("first", [*range(0, SEEDS, BLOCK), SHARED_FROM, EDGES_FROM, EDGES_FROM + BLOCK])
def test_every_promise_is_kept_under_every_fault(first: int) -> None:
    broken = {}
    for seed in range(first, first + BLOCK):
        if violations := World(seed, FAULTS).run().violations:
            broken[seed] = violations

    assert broken == {}, "play one again: python -m anabranch.testing.simulator --seeds SEED --history"


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
