"""Control records before their run, and starts after its end: an owner that never read the first record finds it
in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import orjson
import pytest

from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS, encode
from anabranch.core.wire.events import decode_batch
from anabranch.core.wire.messages import (
    ControlRun,
    Message,
    OpenRun,
    SignalRun,
    StartGroup,
    StopRun,
    SubmitRun,
    TaskOrder,
)
from anabranch.ports import Incoming
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.ownership.effects import PublishAfter, PublishFirst, StorePut
from anabranch.runtime.process.supervision import Supervisor
from anabranch_agency.owner.handler import RunsHandler
from anabranch_agency.run.turn import DeadLetterOriginal
from anabranch_agency.run.turn import DecisionConfig as RunRules
from anabranch_taskgroup.owner.dispatch import Dispatcher
from anabranch_taskgroup.owner.handler import GroupsHandler
from anabranch_taskgroup.owner.offer_window import OfferWindow
from anabranch_taskgroup.session.turn import DecisionConfig as GroupRules

NAMES = Names("t.")
START = StartGroup(run_id="r", group="g", tasks=(TaskOrder(name="t", agent="a", result_keys=("t",)),))
OPEN = OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9)
REQUEST = {"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "a", "result_keys": ["t"]}]}]}
SUBMIT = SubmitRun(run_id="r", request_id="q", session_id="s", body_hash="h", request=REQUEST)


class Store:
    """A store in a dict."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, keys: list[str]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]


class World:
    """One partition's log and store, and a succession of owners."""

    def __init__(self, handler: Callable[[Any], Any]) -> None:
        self.store = Store()
        self._handler = handler(
            SimpleNamespace(
                store=self.store,
                log=None,
                notifier=None,
                names=NAMES,
                telemetry=NO_TELEMETRY,
                supervisor=Supervisor(),
            )
        )
        self._offset = 0
        self.new_owner()

    def new_owner(self) -> None:
        """Another process becomes the owner, and starts to read at the end of the log."""
        self.state = self._handler.new_state(0, 0)

    async def feed(self, *messages: Message) -> list[Any]:
        """Append messages as one batch, let the owner decide, and perform its store effects."""
        records = [self._record(message) for message in messages]
        await self._handler.prepare(self.state, records, self.store.get)
        effects = self._handler.decide(self.state, records, rejected := [])
        assert rejected == []
        for effect in effects:
            if isinstance(effect, StorePut):
                self.store.values[effect.key] = effect.value
        return list(effects)

    def _record(self, message: Message) -> Incoming:
        self._offset += 1
        return Incoming("topic", 0, self._offset, b"r", encode(message), (), 1_000.0 + self._offset)


def groups(resources: Any) -> GroupsHandler:
    # No work starts: a decision only looks at the offers that no worker has taken yet, and there are none.
    dispatcher: Any = create_autospec(Dispatcher, instance=True, window=OfferWindow())
    unused: Any = None
    return GroupsHandler(resources, GroupRules(NAMES), unused, dispatcher, unused)


def runs(resources: Any) -> RunsHandler:
    return RunsHandler(resources, RunRules(NAMES))


@pytest.mark.parametrize("reason", ["cancelled", "timed_out"])
async def test_a_stop_before_its_run_is_known_to_the_next_owner_of_the_session(reason: Any) -> None:
    world = World(groups)
    await world.feed(StopRun(run_id="r", reason=reason))
    world.new_owner()

    await world.feed(OPEN)

    assert world.state.runs["r"].stopped == reason


async def test_a_start_after_the_end_of_its_run_opens_nothing_at_the_next_owner_of_the_session() -> None:
    world = World(groups)
    await world.feed(OPEN, START, StopRun(run_id="r", reason="cancelled"))
    assert world.state.runs == {}
    world.new_owner()

    effects = await world.feed(OPEN, START)

    assert (world.state.runs, effects) == ({}, [])


async def test_an_owner_that_reads_the_first_start_again_rebuilds_the_run() -> None:
    """The end of the run in the store does not change decisions about records before it."""
    world = World(groups)
    await world.feed(OPEN, START, StopRun(run_id="r", reason="cancelled"))
    world.new_owner()
    world._offset = 0

    await world.feed(OPEN, START)

    assert list(world.state.runs) == ["r"]


async def test_a_cancel_before_its_run_is_known_to_the_next_owner_of_the_run() -> None:
    world = World(runs)
    await world.feed(ControlRun(run_id="r", action="cancel"))
    world.new_owner()

    await world.feed(SUBMIT)

    assert world.state.runs["r"].stopping == "cancelled"


@pytest.mark.parametrize(("actions", "paused"), [(["pause"], True), (["pause", "resume"], False)])
async def test_a_pause_before_its_run_is_known_to_the_next_owner_of_the_run(actions: Any, paused: bool) -> None:
    world = World(runs)
    for action in actions:
        await world.feed(ControlRun(run_id="r", action=action))
    world.new_owner()

    await world.feed(SUBMIT)

    assert world.state.runs["r"].paused is paused


def signal(name: str, value: Any, signal_id: str) -> ControlRun:
    return ControlRun(run_id="r", action="signal", name=name, value=value, command_id=signal_id)


def signals_in(effects: list[Any]) -> list[tuple[str, str, bytes]]:
    """Name, id and value of the signals that are forwarded to the session's owner."""
    found = [
        GROUPS.decode(each.outgoing.value)
        for each in effects
        if isinstance(each, PublishAfter) and each.outgoing.topic == NAMES.groups
    ]
    return [
        (each.message.name, each.message.signal_id, each.segments[0])
        for each in found
        if isinstance(each.message, SignalRun)
    ]


@pytest.mark.parametrize("takeover", [False, True])
async def test_a_signal_before_its_run_is_not_lost(takeover: bool) -> None:
    world = World(runs)
    await world.feed(signal("go", {"a": 1}, "s1"))
    await world.feed(signal("go", 2, "s2"), signal("go", 2, "s2"))
    if takeover:
        world.new_owner()
        await world.feed(signal("stop", None, "s3"))
        world.new_owner()

    effects = await world.feed(SUBMIT)

    expected = [("go", "s1", b'{"a":1}'), ("go", "s2", b"2"), *([("stop", "s3", b"null")] if takeover else [])]
    assert signals_in(effects) == expected
    assert signals_in(await world.feed(signal("go", 3, "s4"))) == [("go", "s4", b"3")]


async def test_signals_that_follow_a_run_on_the_log_are_not_sent_before_it_when_the_log_is_read_again() -> None:
    world = World(runs)
    world.store.values[NAMES.early("r", "signals")] = orjson.dumps([["go", 1, "s1", 7]])

    assert signals_in(await world.feed(SUBMIT)) == []


async def test_more_signals_than_are_kept_before_a_run_become_dead_letters() -> None:
    world = World(runs)
    effects = await world.feed(*(signal("go", number, str(number)) for number in range(102)))

    assert len([each for each in effects if isinstance(each, DeadLetterOriginal)]) == 2
    assert len(signals_in(await world.feed(SUBMIT))) == 100


async def test_a_cancel_after_its_run_does_not_stop_it_before_when_the_log_is_read_again() -> None:
    world = World(runs)
    world.store.values[NAMES.early("r", "stop")] = orjson.dumps({"action": "cancel", "offset": 7})

    await world.feed(SUBMIT)

    assert world.state.runs["r"].stopping is None


def test_the_keys_of_a_run_are_its_own() -> None:
    keys: Mapping[str, str] = {
        "tombstone": NAMES.tombstone("r"),
        "stop": NAMES.early("r", "stop"),
        "pause": NAMES.early("r", "pause"),
        "signals": NAMES.early("r", "signals"),
        "session": NAMES.in_session("r"),
    }

    assert len(set(keys.values())) == 5
    assert all(key.startswith("t.{r}:") for key in keys.values())


async def test_run_accepted_is_published_before_any_group_is_started() -> None:
    """Groups also publish events of the run, which must not precede this one."""
    effects = await World(runs).feed(SUBMIT)

    durable = [effect.outgoing for effect in effects if isinstance(effect, PublishFirst)]
    later = [effect.outgoing.topic for effect in effects if isinstance(effect, PublishAfter)]
    assert [entry.type for each in durable for entry in decode_batch(each.value).entries] == ["run.accepted"]
    assert NAMES.groups in later
    assert NAMES.events not in later
