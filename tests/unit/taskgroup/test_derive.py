"""The effects that should be under way for a run, from its state alone."""

from __future__ import annotations

from typing import Any

from anabranch.core.names import Names
from anabranch.core.request.models import Expansion
from anabranch.core.wire import messages as m
from anabranch.core.wire.codec import GROUPS, encode
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.derive import DERIVED, derive
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.turn import (
    CountArrays,
    DecisionConfig,
    Halt,
    ImportOutcomes,
    Pause,
    ReofferUnclaimed,
    Watch,
)

RULES = DecisionConfig(Names("t."), inline_limit=10)
WATCHES = m.TaskOrder(name="w", agent="a", needs=(m.Need(key="outside", kind="external"),), result_keys=("w",))


class Session:
    """A partition with one run."""

    def __init__(self, *tasks: m.TaskOrder, timeout: float | None = None, **opening: Any) -> None:
        self.partition, self.offset = PartitionState(0), 0
        opened = m.OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9, **opening)
        self.feed(opened)
        self.feed(m.StartGroup(run_id="r", group="g", tasks=tasks, timeout=timeout))

    def feed(self, message: m.Message, at: float = 1.0) -> Any:
        decoded = GROUPS.decode(encode(message))
        self.offset += 1
        return decide(RULES, self.partition, DeliveredMessage(decoded.message, decoded.segments, self.offset, at))

    def derived(self) -> list[Any]:
        return list(derive(self.partition.runs["r"]))


def test_offers_and_watches_are_under_way() -> None:
    session = Session(WATCHES)

    assert session.derived() == [ReofferUnclaimed("r"), Watch("r", "s", "outside")]


def test_an_array_in_the_store_is_counted_again() -> None:
    expansion = Expansion(type="array", array_mapping={"item": "outside"})
    session = Session(WATCHES.model_copy(update={"expansion": expansion}))
    reference = {"$ref": "s/outside", "bytes": 1_000}
    session.feed(m.ValueFound(run_id="r", key="outside", value=reference, is_reference=True))

    assert session.derived() == [ReofferUnclaimed("r"), CountArrays("r", "g", "w")]


def test_an_import_is_derived_until_it_is_complete() -> None:
    session = Session(WATCHES, retry_of="before")

    assert session.derived() == [ReofferUnclaimed("r"), ImportOutcomes("r")]
    session.feed(m.RunTaken(run_id="r"))
    assert session.derived() == [ReofferUnclaimed("r"), Watch("r", "s", "outside")]


def test_pauses_and_stops_are_set_again() -> None:
    session = Session(WATCHES)
    session.feed(m.PauseRun(run_id="r", paused=True, cause=1))
    assert Pause("r", "s", True, 1e9) in session.derived()

    stopped = PartitionState(0)
    session.partition, session.offset = stopped, 0
    session.feed(m.OpenRun(run_id="r", request_id="q", session_id="s", groups=("g", "h"), deadline=1e9))
    session.feed(m.StopRun(run_id="r", reason="cancelled"))
    assert session.derived() == [ReofferUnclaimed("r"), Halt("r", "s", "cancelled")]


def test_a_nudge_performs_what_is_derived_and_nothing_that_is_lost_with_a_claim() -> None:
    session = Session(WATCHES)

    turn = session.feed(m.Nudge(run_id="r", session_id="s", silent_for=60.0))

    assert turn.effects == session.derived()
    assert all(isinstance(effect, DERIVED) for effect in turn.effects)
