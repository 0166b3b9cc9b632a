"""Draws random runs for the model of a session's owner, and lets them live."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from taskgroup_model import PlannedRun, PlannedTask, World, order, plain

from anabranch.core.request.models import Expansion
from anabranch.core.wire.messages import Need

FORMATS = st.sampled_from(["merge", "separate", "single", "index"])
ON_EMPTY = st.sampled_from(["complete", "fail", "skip"])
SLOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def expansions(draw: st.DrawFn, keys: list[str]) -> tuple[Expansion | None, str | None]:
    """An expansion, and the key whose value is its array where that is not written down."""
    kind = draw(st.sampled_from(["none", "none", "array", "matrix", "of a key" if keys else "array"]))
    if kind == "none":
        return None, None
    more: dict[str, Any] = {"output_format": draw(FORMATS), "on_empty": draw(ON_EMPTY)}
    sizes = st.integers(0, 5)
    if kind == "of a key":
        key = draw(st.sampled_from(keys))
        return Expansion(type="array", array_mapping={"item": key}, **more), key
    if kind == "array":
        return Expansion(type="array", array_mapping={"item": list(range(draw(sizes)))}, **more), None
    rows, columns = list(range(draw(sizes))), list(range(draw(st.integers(0, 3))))
    return Expansion(type="matrix", array_mapping={"row": rows, "column": columns}, **more), None


@st.composite
def runs(draw: st.DrawFn, run_id: str = "r") -> PlannedRun:
    """A random graph of tasks in groups. Keys whose values are lists may be arrays of later tasks."""
    external = {"outside": draw(st.lists(st.integers(-9, 9), max_size=4))}
    keys, lists, tasks = ["outside"], ["outside"], []
    for number in range(draw(st.integers(1, 6))):
        name = f"t{number}"
        expansion, array = draw(expansions(lists))
        wanted = draw(st.lists(st.sampled_from(keys), unique=True, max_size=3))
        needs = [_need(key, optional=key != array and draw(st.booleans())) for key in wanted]
        if array is not None and array not in wanted:
            needs.append(_need(array, optional=False))
        limits = {
            "tolerated_failures": draw(st.integers(0, 2)),
            "max_concurrency": draw(st.sampled_from([None, None, 1, 2])),
        }
        listed = draw(st.booleans())
        tasks.append(
            PlannedTask(
                order(name, needs, expansion, **limits),
                group=draw(st.sampled_from("abc")),
                array=array,
                failing=draw(st.frozensets(st.integers(0, 6), max_size=2)),
                flaky=draw(st.frozensets(st.integers(0, 6), max_size=2)),
                listed=listed,
            )
        )
        keys.append(name)
        if (expansion is None and listed) or (
            expansion is not None and expansion.output_format in ("merge", "index")
        ):
            lists.append(name)
    return PlannedRun(run_id, tuple(tasks), external)


def _need(key: str, *, optional: bool) -> Need:
    return Need(key=key, kind="external" if key == "outside" else "produced", optional=optional)


def live_through(world: World, maximum: int = 3_000) -> None:
    """Start every run, each at its moment, and let things happen until nothing more does."""
    waiting = [message for run in world.runs.values() for message in run.messages()]
    for _ in range(maximum):
        if waiting and (world.random.random() < 0.5 or not world.step()):
            world.feed(waiting.pop(0))
        elif not waiting and not world.step():
            return
    raise AssertionError(f"still going on after {maximum} steps: {plain(world.partition)}")
