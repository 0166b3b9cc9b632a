"""The versions of a session's context: their writers, their order, and the differences between two."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import orjson
import pytest
from small_requests import alive, array, request, task

from anabranch import Task
from anabranch.core.context_versions import MAX_VERSIONS, Change, entry_of, position_of
from anabranch.core.errors import NoSuchVersion
from anabranch.core.wire.results import is_reference
from anabranch.runtime.reading.contexts import Difference, SharedContext, Version, diff, load_context
from anabranch.testing import System

Start = Callable[..., System]


async def give(task: Task) -> Any:
    """Returns `inputs.value` after `inputs.seconds`."""
    await asyncio.sleep(task.inputs.get("seconds", 0))
    return task.inputs["value"]


def context_of(system: System, session_id: str, at: int | None = None) -> SharedContext:
    client = system.embedded.client
    return system.wait(load_context(client.store, client.names, session_id, at))


def shown(context: SharedContext) -> list[tuple[int, str, str, Any]]:
    return [(each.number, each.change.kind, each.change.key, each.change.value) for each in context.versions]


def giving(value: Any, policy: str | None = None, **more: Any) -> dict[str, Any]:
    made = request(task("a", "give", inputs={"value": value, **more}, result_keys=["k"]), session_id="s")
    return made if policy is None else {**made, "context_policies": {"k": policy}}


# --- what is a version -------------------------------------------------------------------------------


def test_each_change_is_a_version_in_the_order_of_the_session(anabranch_system: Start) -> None:
    """Initial values, results and external values; one version for a join; none for values of an earlier run."""
    system = anabranch_system(agents={"give": give})
    wide = task("wide", inputs="{item}", expansion_config=array(["x", "y"], output_format="separate"))
    waits = task("waits", inputs="{news} {k}", external_dependencies=["news"], dependencies=["k"])
    first = system.run({**giving(1), "context": {"city": "Rome"}}, timeout=60)
    second = system.submit({**request(wide, waits), "session_id": "s"})
    system.advance(5)
    system.publish("s", "news", "good")

    result = second.result(600)

    assert result.status == "completed"
    context = context_of(system, "s")
    assert shown(context) == [
        (1, "context", "city", "Rome"),
        (2, "result", "k", 1),
        (3, "result", "wide", {"0": "x", "1": "y"}),
        (4, "outside", "news", "good"),
        (5, "result", "waits", "good 1"),
    ]
    runs = [each.change.run_id for each in context.versions]
    assert runs == [first.run_id] * 2 + [second.run_id] * 3
    made = context.versions[1].change
    assert (made.group, made.task, made.size, made.policy) == ("g", "a", 1, None)
    assert made.hash == "6b86b273ff34fce19d6b804eff5a3f57"  # of the text 1
    assert {key: (each.value, each.version) for key, each in context.state.items()} == {
        "city": ("Rome", 1),
        "k": (1, 2),
        "wide": ({"0": "x", "1": "y"}, 3),
        "news": ("good", 4),
        "waits": ("good 1", 5),
    }
    alive(system)


def test_a_large_value_is_its_reference(anabranch_system: Start) -> None:
    system = anabranch_system(agents={"give": give}, inline_limit=100)

    run = system.run(giving("x" * 200), timeout=60)

    [version] = context_of(system, "s").versions
    assert is_reference(version.change.value, "s")
    size = version.change.value["bytes"]
    assert (version.change.size, size >= 202) == (size, True)
    assert version.change.value["run_id"] == run.run_id
    assert version.to_document()["bytes"] == size


def test_a_session_without_writes_has_no_versions(anabranch_system: Start) -> None:
    system = anabranch_system()

    context = context_of(system, "nobody's")

    assert (context.at, context.last, context.dropped, context.versions, context.state) == (0, 0, 0, (), {})
    with pytest.raises(NoSuchVersion, match=r"version 1 of .* is not available: versions 0 to 0 are kept"):
        context_of(system, "nobody's", 1)


def test_of_many_versions_the_last_are_kept_and_all_are_counted(anabranch_system: Start) -> None:
    system = anabranch_system(agents={"give": give})
    many = {f"c{n}": n for n in range(MAX_VERSIONS + 20)}

    system.run({**giving(1), "context": many}, timeout=60)

    context = context_of(system, "s")
    assert (context.dropped, context.last) == (21, MAX_VERSIONS + 21)
    assert [each.number for each in context.versions] == list(range(22, MAX_VERSIONS + 22))
    assert shown(context)[-1] == (MAX_VERSIONS + 21, "result", "k", 1)
    assert shown(context)[0] == (22, "context", "c21", 21)
    assert context_of(system, "s", 22).state["c21"].value == 21
    with pytest.raises(NoSuchVersion, match=r"version 20 of .* is not available: versions 21 to 1021 are kept"):
        context_of(system, "s", 20)


def test_a_change_is_kept_with_the_session_not_with_its_run(anabranch_system: Start) -> None:
    """The history of a session of several runs is kept as long as the longest-lived of them requires."""
    system = anabranch_system(agents={"give": give}, result_ttl=1000.0)
    system.run({**giving(1), "timeout": 7_200}, timeout=60)
    system.run({**giving(2), "timeout": 10}, timeout=60)

    system.advance(7_200)

    assert [each.number for each in context_of(system, "s").versions] == [1, 2]
    alone = system.submit({**giving(3), "session_id": None})
    alone.result(60)
    system.advance(900)
    assert len(context_of(system, alone.session_id).versions) == 1
    system.advance(200)
    assert context_of(system, alone.session_id).last == 0


# --- two runs of one session -------------------------------------------------------------------------

BOTH = {
    "last_write": ([1], [2], [2]),
    "first_write": ([1], [2], [1]),
    "append": ([1], [2], [1, 2]),
    "set_union": ([1, 2], [2, 3], [1, 2, 3]),
    "sum": (1, 2, 3),
    "max": (5, 2, 5),
    "error": (1, 2, 1),
}


@pytest.mark.parametrize("policy", BOTH)
@pytest.mark.parametrize("delays", [(0, 30), (30, 0)], ids=["in order", "the other way round"])
@pytest.mark.parametrize("inline_limit", [65_536, 4])
def test_two_runs_leave_the_same_in_either_order(
    anabranch_system: Start, policy: str, delays: tuple[int, int], inline_limit: int
) -> None:
    """Each has its own result. The value of the session is the one that the reader of versions computes."""
    one, other, expected = BOTH[policy]
    system = anabranch_system(agents={"give": give}, inline_limit=inline_limit)
    first = system.submit(giving(one, policy, seconds=delays[0]))
    system.advance(1)
    second = system.submit(giving(other, policy, seconds=delays[1]))

    found = [each.result(60).results["k"] for each in (first, second)]

    assert found == [one, other]
    assert system.value("s", "k") == expected
    if inline_limit > 4:
        assert context_of(system, "s").state["k"].value == expected
        assert len({each.change.run_id for each in context_of(system, "s").versions}) == 2
    alive(system)


def test_a_first_value_with_a_policy_is_folded_too(anabranch_system: Start) -> None:
    system = anabranch_system(agents={"give": give})
    for value in (3, 4):
        document = {**giving(1), "context": {"budget": value}, "context_policies": {"budget": "sum"}}
        system.run(document, timeout=60)

    assert system.value("s", "budget") == 7
    assert context_of(system, "s").state["budget"].value == 7


def test_a_later_run_reads_the_combined_value_of_the_runs(anabranch_system: Start) -> None:
    system = anabranch_system(agents={"give": give})
    for value in (3, 4):
        system.run(giving(value, "sum"), timeout=60)

    result = system.run({**request(task("t", inputs="{k}", dependencies=["k"])), "session_id": "s"}, timeout=60)

    assert result.results == {"t": 7}


# --- after a loss ------------------------------------------------------------------------------------


def test_an_emptied_store_gets_the_same_versions_and_folds_again(anabranch_system: Start) -> None:
    system = anabranch_system(agents={"give": give})
    for value in (3, 4, 5):
        system.run({**giving(value, "sum"), "context": {"c": value}}, timeout=60)
    before = context_of(system, "s")

    system.embedded.store._server.restart()  # type: ignore[attr-defined]
    system.advance(60)

    assert context_of(system, "s") == before
    assert system.value("s", "k") == 12
    system.run(giving(1, "sum"), timeout=60)
    assert (system.value("s", "k"), context_of(system, "s").last) == (13, before.last + 1)
    alive(system)


# --- reading -----------------------------------------------------------------------------------------


def made(at: int, *values: tuple[str, Any]) -> SharedContext:
    changes = [
        Change.of_entry(entry_of(key, "result", "r", 1.0, orjson.dumps(value), 1, group="g", task="t"))
        for key, value in values
    ]
    versions = tuple(Version(nth, change) for nth, change in enumerate(changes[:at], 1))
    return SharedContext("s", at, len(values), 0, versions)


WRITES = [("a", 1), ("b", {"x": 1, "y": 2}), ("a", 2), ("b", {"y": 2, "x": 1}), ("c", 3)]


def test_diff_says_what_was_added_changed_and_removed() -> None:
    early, late = made(2, *WRITES), made(5, *WRITES)

    assert diff(early, late) == [
        Difference("a", "changed", 1, 2, (3,)),
        Difference("c", "added", None, 3, (5,)),
    ]
    assert diff(late, early) == [
        Difference("a", "changed", 2, 1, (3,)),
        Difference("c", "removed", 3, None, (5,)),
    ]
    assert diff(late, late) == []


def test_a_change_survives_its_stored_form() -> None:
    entry = entry_of(
        "k", "result", "r", 1.5, b'{"a":[1,2]}', 11, group="g", task="t", policy="sum", writers=("g/t",)
    )

    digest = sha256(b'{"a":[1,2]}').hexdigest()[:32]
    change = Change(
        "k", "result", "r", 1.5, 11, digest, {"a": [1, 2]}, group="g", task="t", policy="sum", writers=("g/t",)
    )
    assert Change.of_entry(entry) == change
    assert Change.of_entry(entry[:-1] + b',"later":1}') == change
    null = Change.of_entry(entry_of("k", "context", "r", 1.5, b"null", 4))
    assert (null.value, null.group, null.task, null.policy, null.writers) == (None, None, None, None, ())


def test_positions_rise_with_offsets_and_stay_exact_as_numbers() -> None:
    assert position_of(0, 0) < position_of(0, 1) < position_of(0, 10**9) < position_of(1, 0)
    assert position_of(2**35 - 1, 10**9) < 2**53
