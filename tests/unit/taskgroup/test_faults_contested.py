"""Two workers run one delivery of a chunk, as after a store lost a claim: every member counts once."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest

from anabranch.core.names import Names
from anabranch.core.request.models import Expansion
from anabranch.core.wire.codec import RUNS
from anabranch.core.wire.messages import GroupFinished, MembersReported, Message, OpenRun, StartGroup, TaskOrder
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.task_state import Chunk
from anabranch_taskgroup.session.turn import DecisionConfig, OfferChunk
from anabranch_taskgroup.worker.reports import spans_of

MEMBERS = 640
"""So many that a chunk has several."""
RULES = DecisionConfig(Names("t."))


class Session:
    """A partition with one run of one expanded task."""

    def __init__(self) -> None:
        self.partition = PartitionState(0)
        self.offset = 0
        self.finished: list[GroupFinished] = []
        self.offers: list[int] = []
        expansion = Expansion(type="array", array_mapping={"item": list(range(MEMBERS))})
        order = TaskOrder(name="t", agent="a", result_keys=("out",), expansion=expansion)
        opened = OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9)
        for message in (opened, StartGroup(run_id="r", group="g", tasks=(order,))):
            self.feed(message)

    def feed(self, message: Message, *segments: bytes) -> None:
        turn = decide(RULES, self.partition, DeliveredMessage(message, segments, self.offset, float(self.offset)))
        self.offset += 1
        self.offers += [effect.chunk for effect in turn.effects if isinstance(effect, OfferChunk)]
        published = [effect.outgoing for effect in turn.effects if isinstance(effect, PublishAfter)]
        messages = [RUNS.decode(each.value).message for each in published if each.topic == "t.runs"]
        self.finished += [message for message in messages if isinstance(message, GroupFinished)]

    def chunk(self, number: int) -> Chunk | None:
        run = self.partition.runs.get("r")
        return run.groups["g"].tasks["t"].chunks.get(number) if run is not None else None


def reports(random: Random, number: int, chunk: Chunk, worker: str) -> list[tuple[MembersReported, bytes]]:
    """A worker's reports of a whole chunk, cut into random pieces."""
    left = list(chunk.pending.indexes())
    random.shuffle(left)
    found = []
    while left:
        size = random.randint(1, len(left))
        piece, left = sorted(left[:size]), left[size:]
        report = MembersReported(
            run_id="r",
            group="g",
            task="t",
            chunk=number,
            fence=chunk.fence,
            worker=worker,
            completed=spans_of(piece),
            items=(len(piece),),
            last=not left,
        )
        found.append((report, orjson.dumps(piece)))
    return found


def shuffled(random: Random, one: list[Any], other: list[Any]) -> list[Any]:
    """Both in one sequence, each in its own order."""
    found = []
    while one or other:
        source = random.choice([each for each in (one, other) if each])
        found.append(source.pop(0))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_chunk_that_two_workers_run_is_joined_once(seed: int) -> None:
    random = Random(seed)
    session = Session()

    while session.offers:
        number = session.offers.pop(0)
        chunk = session.chunk(number)
        if chunk is None:
            continue
        one, other = (reports(random, number, chunk, worker) for worker in "AB")
        for report, values in shuffled(random, one, other if chunk.fence == 0 else []):
            session.feed(report, values)

    [finished] = session.finished
    assert finished.results["out"] == list(range(MEMBERS))
    assert finished.counts.model_dump() == {"total": MEMBERS, "completed": MEMBERS, "failed": 0, "skipped": 0}
