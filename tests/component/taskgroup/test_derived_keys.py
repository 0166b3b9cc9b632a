"""The keys that `separate` derives: an invalid one, or one of another task, fails its task before any publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from small_requests import alive, array, request, task

from anabranch import ExpansionError, Task
from anabranch.core.names import Names
from anabranch.core.outputs import check_derived
from anabranch.core.request.models import Expansion, Request
from anabranch.core.request.planning import plan
from anabranch.core.wire.codec import RUNS
from anabranch.core.wire.messages import GroupFinished, MembersReported, Message, OpenRun, StartGroup, TaskOrder
from anabranch.runtime.ownership.effects import PublishAfter, StorePut
from anabranch.testing import System
from anabranch_agency.run.planning import reserved_keys
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.turn import DecisionConfig, Turn, WriteDerivedKeys

# --- the rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "says"),
    [
        ("", "member 1 has the identifier '': its key '_out' would begin with nothing"),
        (" ", "would begin with nothing"),
        ("a{b", "its key 'a{b_out' contains '{'"),
        ("a}b", "its key 'a}b_out' contains '}'"),
        ("a\nb", r"contains '\\n', which is not printable"),
        ("a\x00", r"contains '\\x00', which is not printable"),
        ("a" * 252, "has 256 characters, the maximum is 255"),
        ("mine", "member 1 has the identifier 'mine': its key 'mine_out' is a result key that a task of this run"),
        ("told", "its key 'told_out' is published by g/other already"),
        ("good", "members 0 and 1 would publish 'good_out'"),
    ],
)
def test_an_invalid_derived_key_is_named(identifier: str, says: str) -> None:
    members = [(0, "good"), (1, identifier)]

    with pytest.raises(ExpansionError, match=says):
        check_derived(members, ["out"], declared={"mine_out"}, published={"told_out": "g/other"})


def test_two_result_keys_may_make_one_key_of_two_members() -> None:
    with pytest.raises(ExpansionError, match="members 0 and 1 would publish 'x_a_b'"):
        check_derived([(0, "x_a"), (1, "x")], ["b", "a_b"], declared=(), published={})


def test_characters_allowed_in_a_key_are_allowed_in_a_derived_one() -> None:
    members = enumerate(["0", "a b", "Zürich", "a/b", "a.b", "x" * 251, "mine"])

    check_derived(members, ["out"], declared={"mine", "out", "mine_other"}, published={})


@pytest.mark.parametrize(
    ("keys", "output_format", "reserved"),
    [
        (["x_out", "x_y_out", "_out", "x_in", "xout"], "separate", ["x_out", "x_y_out"]),
        (["x_out"], "merge", []),
    ],
)
def test_only_possible_derived_keys_are_reserved(keys: list[str], output_format: str, reserved: list[str]) -> None:
    others = [task(f"t{number}", result_keys=[key]) for number, key in enumerate(keys)]
    separate = task("out", expansion_config=array(["x"], output_format=output_format))

    found = reserved_keys(plan(Request.model_validate(request(separate, *others))))

    assert list(found) == reserved


# --- the join ------------------------------------------------------------------------------------


class Session:
    """A run that reserves the key `taken_out`; two `separate` tasks have the result keys `out` and `more_out`."""

    def __init__(self, inline_limit: int = 65_536, **opened: Any) -> None:
        self.rules = DecisionConfig(Names("t."), inline_limit=inline_limit)
        self.partition = PartitionState(0)
        self.offset = 0
        self.turns: list[Turn] = []
        expansion = Expansion(
            type="array", array_mapping={"item": ["p", "q"]}, identifiers={"i": "item"}, output_format="separate"
        )
        orders = tuple(TaskOrder(name=k, agent="a", result_keys=(k,), expansion=expansion) for k in KEYS)
        self.feed(
            OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9, **opened),
        )
        self.feed(StartGroup(run_id="r", group="g", tasks=orders))

    def feed(self, message: Message, *segments: bytes) -> Turn:
        turn = decide(
            self.rules, self.partition, DeliveredMessage(message, segments, self.offset, float(self.offset))
        )
        self.offset += 1
        self.turns.append(turn)
        return turn

    def report(self, name: str, identifiers: Sequence[str]) -> Turn:
        """The members of a task complete, one by one, under these identifiers; returns the last turn."""
        for index, identifier in enumerate(identifiers):
            report = MembersReported(
                run_id="r",
                group="g",
                task=name,
                chunk=index,
                fence=0,
                worker="w",
                completed=((index, index + 1),),
                items=(1,),
                last=True,
            )
            turn = self.feed(report, orjson.dumps([identifier * 2]), orjson.dumps([identifier]))
        return turn

    @property
    def finished(self) -> GroupFinished:
        """The report of the group to the owner of the run."""
        published = [
            each.outgoing for turn in self.turns for each in turn.effects if isinstance(each, PublishAfter)
        ]
        messages = [RUNS.decode(each.value).message for each in published if each.topic == "t.runs"]
        [finished] = [message for message in messages if isinstance(message, GroupFinished)]
        return finished


KEYS = ("out", "more_out")


def written(turn: Turn) -> list[str]:
    """The store keys and record topics that a turn writes, including those of derived keys."""
    puts = [effect.key for effect in turn.effects if isinstance(effect, StorePut)]
    results = [each.outgoing.topic for each in turn.effects if isinstance(each, PublishAfter)]
    spread = ["spread" for effect in turn.effects if isinstance(effect, WriteDerivedKeys)]
    return [name for name in puts + results + spread if ":page:" not in name and name != "t.runs"]


@pytest.mark.parametrize("inline_limit", [65_536, 4], ids=["inline", "spilled"])
@pytest.mark.parametrize("identifiers", [("a", "taken"), ("a", "b{"), ("", "b"), ("a", "b" * 300), ("a", "b\t")])
def test_a_join_with_an_invalid_derived_key_fails_its_task_and_publishes_nothing(
    inline_limit: int, identifiers: tuple[str, str]
) -> None:
    session = Session(inline_limit, reserved_keys=("taken_out",))

    turn = session.report("out", identifiers)
    session.report("more_out", ("c", "d"))

    assert written(turn) == []
    assert [entry.type for _, entry in turn.events] == ["task.completed", "task.failed"]
    [failure] = session.finished.failures
    assert (failure.task, failure.index, failure.error_type) == ("out", None, "ExpansionError")
    assert "identifier" in failure.message
    assert set(session.finished.results) == {"more_out", "c_more_out", "d_more_out"}
    assert session.finished.counts.model_dump() == {"total": 4, "completed": 4, "failed": 0, "skipped": 0}


@pytest.mark.parametrize("inline_limit", [65_536, 4], ids=["inline", "spilled"])
def test_a_derived_key_of_another_task_is_not_overwritten(inline_limit: int) -> None:
    session = Session(inline_limit)

    session.report("out", ("a_more", "b"))
    session.report("more_out", ("a", "d"))

    [failure] = session.finished.failures
    assert (failure.task, failure.error_type) == ("more_out", "ExpansionError")
    assert "'a_more_out' is published by g/out already" in failure.message
    assert set(session.finished.results) == {"out", "a_more_out", "b_out"}


def test_a_run_opened_before_keys_were_reserved_continues() -> None:
    session = Session()

    session.report("out", ("a", "taken"))
    session.report("more_out", ("c", "d"))

    assert session.finished.status == "completed"


# --- the whole way -------------------------------------------------------------------------------


def big(task: Task) -> list[dict[str, Any]]:
    """So large that it is counted in the store: only the join can read its identifiers."""
    return [{"id": f"n{number}", "text": "x" * 1_000} for number in range(100)] + [{"id": "x", "text": ""}]


@pytest.mark.parametrize("source", ["literal", "produced"])
def test_a_key_that_is_another_tasks_fails_the_task_and_nothing_is_lost(
    anabranch_system: Callable[..., System], source: str
) -> None:
    ran: list[str] = []
    separate = {"output_format": "separate", "identifiers": {"id": "item.id"}}
    many = array([{"id": "y"}, {"id": "x"}] if source == "literal" else "big", **separate)
    document = request(
        task("big", "big"),
        task("x_out", inputs="theirs"),
        task("out", "note", "{id}", expansion_config=many, dependencies=["big"]),
        task("after", inputs="never", dependencies=["out"]),
        task("beside", inputs="kept"),
    )
    system = anabranch_system(agents={"big": big, "note": lambda task: ran.append(task.name)})

    result = alive(system).run(document, timeout=90_000)

    assert result.status == "failed"
    assert set(result.results) == {"big", "x_out", "beside"}
    assert (result.results["x_out"], result.results["beside"]) == ("theirs", "kept")
    [failure] = result.failures
    assert (failure["task"], failure["error_type"]) == ("out", "ExpansionError")
    assert "'x_out' is a result key that a task of this run declares" in failure["message"]
    assert len(ran) == (0 if source == "literal" else 101)
    total = result.executions["total"]
    assert sum(result.executions[each] for each in ("completed", "failed", "skipped")) == total
