"""`anabranch rebuild`: what it writes back to a store from a log, either of which lacks some data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from small_requests import alive, array, request, task

from anabranch import Task
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.cli.main import main
from anabranch.operations.rebuild.rebuild import Rebuild, RebuildReport
from anabranch.operations.rebuild.replay import RunSelection
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.reading.views import load_view
from anabranch.testing import System

Start = Callable[..., System]


async def much(task: Task) -> list[dict[str, Any]]:
    """More than a record holds."""
    return [{"n": n, "pad": "x" * 300} for n in range(4_000)]


def server_of(s: System) -> MemoryServer:
    store = s.embedded.store
    assert isinstance(store, MemoryStore)
    return store._server


def lose(s: System, wanted: Callable[[str], bool] = lambda _: True) -> set[str]:
    """Delete keys except the marks: without a mark the owners would notice the loss and repair it themselves."""
    server = server_of(s)
    lost = {key for key in server._values if ":kept" not in key and wanted(key)}
    for key in lost:
        del server._values[key]
        server._expiry.cancel(key)
    return lost


def rebuilt(s: System, choice: RunSelection | None = None, **settings: Any) -> RebuildReport:
    client = s.embedded.client
    work = Rebuild(client.log, client.store, client.names, client.links.clock, Settings(**settings))
    return s.wait(work.run(choice or RunSelection()))


SEPARATE = array([{"k": f"key{n}", "pad": "y" * 3_000} for n in range(40)], output_format="separate")
WIDE = task("wide", inputs="{item.pad}", expansion_config=SEPARATE | {"identifiers": {"id": "item.k"}})


def test_values_that_look_like_references_are_written_back(anabranch_system: Start) -> None:
    s = anabranch_system()
    odd = {"$anabranch": "s/small", "count": 1, "bytes": 1, "run_id": "r"}
    fields = [task(name, inputs=value) for name, value in odd.items()]
    separate = array([odd, odd], output_format="separate")
    document = request(
        task("small", inputs="{given}", dependencies=["given"]),
        task("wide", inputs="{item}", expansion_config=separate),
        *fields,
        context={"given": odd},
    )
    run = s.submit({**document, "session_id": "s", "request_id": "one"})
    before = dict(run.result(timeout=60).results)

    lose(s)
    report = rebuilt(s)

    assert (report.gone, report.incomplete) == ([], [])
    assert run.result(timeout=60).results == before
    assert (
        {key: s.value("s", key) for key in before}
        == before
        == {"small": odd, "wide": {"0": odd, "1": odd}, "0_wide": odd, "1_wide": odd, **odd}
    )
    assert s.value("s", "given") == odd


def test_all_data_of_ended_runs_is_written_back(anabranch_system: Start) -> None:
    """Small and large values, a context value, derived keys, tombstones, views."""
    s = anabranch_system(agents={"much": much})
    document = request(
        task("made", "much"), task("small", inputs="{given}", dependencies=["given"]), WIDE, context={"given": 7}
    )
    run = s.run({**document, "session_id": "s", "request_id": "one"}, timeout=60)
    before = dict(server_of(s)._values)

    lost = lose(s)
    report = rebuilt(s)

    assert report.gone == report.incomplete == []
    assert (report.runs, report.ended, report.written["tombstones"], report.written["views"]) == (1, 1, 1, 1)
    assert len(s.value("s", "made")) == 4_000
    assert (s.value("s", "small"), s.value("s", "given"), s.value("s", "key7_wide")) == (7, 7, "y" * 3_000)
    assert s.wait(load_view(s.embedded.client.store, s.embedded.client.names, "one")).status == "completed"
    after = server_of(s)._values
    working = (":claim:", ":task:", "fence", ":worker", ":live", ":stop:", ":deciding:")
    assert {key for key in lost if key not in after and not any(part in key for part in working)} == set()
    assert {key for key in after if key in before and after[key] != before[key]} == set()
    assert s.run({**document, "session_id": "s", "request_id": "one"}, timeout=60).run_id == run.run_id
    alive(s)


def test_existing_values_are_not_changed(anabranch_system: Start) -> None:
    s = anabranch_system()
    s.run(request(task("t", inputs=1), session_id="s"), timeout=60)
    s.publish("s", "t", "somebody's")
    s.advance(1)

    report = rebuilt(s)

    assert s.value("s", "t") == "somebody's"
    assert set(report.written.values()) == {0}
    assert report.present >= 3


def test_the_latest_run_of_a_session_wins(anabranch_system: Start) -> None:
    s = anabranch_system()
    for value in (1, 2, 3):
        s.run(request(task("t", inputs=value), session_id="s"), timeout=60)

    lose(s)
    rebuilt(s)

    assert s.value("s", "t") == 3


def test_one_run_or_one_session_is_rebuilt_alone(anabranch_system: Start) -> None:
    s = anabranch_system()
    runs = [s.run(request(task("t", inputs=n), session_id=f"s{n}"), timeout=60) for n in range(3)]
    lose(s)

    assert rebuilt(s, RunSelection(run_id=runs[0].run_id)).runs == 1
    assert [s.value(f"s{n}", "t") for n in range(3)] == [0, None, None]
    assert rebuilt(s, RunSelection(session_id="s1")).runs == 1
    assert [s.value(f"s{n}", "t") for n in range(3)] == [0, 1, None]


def test_expired_values_are_not_written_back(anabranch_system: Start) -> None:
    s = anabranch_system(result_ttl=600.0)
    s.run(request(task("t", inputs=1), session_id="s", timeout=60), timeout=60)
    s.advance(700)

    report = rebuilt(s, result_ttl=600.0)

    assert (report.expired, s.value("s", "t")) == (1, None)
    assert set(report.written.values()) == {0}


def test_an_open_run_continues_after_a_rebuild(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"much": much})
    wanted = {"dependencies": ["made"], "external_dependencies": ["go"], "expansion_config": array("made")}
    later = task("out", inputs="{item.n}", **wanted)
    run = s.submit(request(task("made", "much"), later, session_id="s"))
    s.advance(30)

    lose(s)
    report = rebuilt(s)
    s.publish("s", "go", 1)

    assert report.ended == 0
    assert run.result(600).results["out"] == list(range(4_000))
    alive(s)


def test_data_removed_by_retention_is_reported_and_small_results_come_from_their_announcement(
    anabranch_system: Start,
) -> None:
    """The request and the members' reports are gone from the log; the announcements of results are left."""
    s = anabranch_system(agents={"much": much})
    document = request(task("made", "much"), task("small", inputs=7), session_id="s", request_id="one")
    run = s.run(document, timeout=60)
    s.advance(20)
    broker = s.embedded.client.log._inner._broker  # type: ignore[attr-defined]
    for topic in ("runs", "groups"):
        for partition in broker.partitions(s.embedded.client.names.prefix + topic):
            partition._shrink(0)

    lose(s)
    report = rebuilt(s)

    assert s.value("s", "small") == 7
    assert [(each["run_id"], each["what"]) for each in report.gone] == [(run.run_id, "result 'made'")]
    assert report.written["tombstones"] == 1
    tombstone = orjson.loads(server_of(s).get(s.embedded.client.names.tombstone(run.run_id)) or b"null")
    assert (tombstone["hash"], tombstone["final"]["status"]) == (None, "completed")
    alive(s)


@pytest.mark.parametrize("chosen", [[], ["--all", "--run", "r"], ["--session", "s", "--run", "r"]])
def test_rebuild_needs_exactly_one_selection(chosen: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rebuild", *chosen]) == 2
    assert "one of --run RUN, --session S, --all" in capfd.readouterr().err


# --- the shared context ------------------------------------------------------------------------------


def test_versions_and_merged_keys_are_written_back(anabranch_system: Start) -> None:
    """Of all runs: also values that are stored elsewhere, and of a session of several runs."""
    s = anabranch_system(agents={"much": much})
    for number in range(2):
        tasks = [task("a", "much", result_keys=["k"]), task("b", inputs=number, result_keys=["k"])]
        document = request(*tasks, context={"c": number}, context_policies={"k": "append", "c": "sum"})
        s.run({**document, "session_id": "s"}, timeout=60)
        s.advance(1)
    before = dict(server_of(s)._values)
    together = s.value("s", "k")
    assert (len(together), together[4_000], together[-1], s.value("s", "c")) == (8_002, 0, 1, 1)

    lost = lose(s)
    report = rebuilt(s)

    assert report.gone == report.incomplete == []
    assert report.written["versions"] == 4
    assert (s.value("s", "k"), s.value("s", "c")) == (together, 1)
    after = server_of(s)._values
    kept = (":context", ":fold:", ":value:", ":page:")
    assert {key for key in lost if any(part in key for part in kept)} <= after.keys()
    assert {key for key in after if key in before and after[key] != before[key]} == set()
    again = rebuilt(s)
    assert (again.written["versions"], again.written["values"]) == (0, 0)
    alive(s)


def test_one_run_of_a_session_gets_back_its_own_versions(anabranch_system: Start) -> None:
    s = anabranch_system()
    document = {**request(task("a", inputs=1), context={"c": 1}), "session_id": "s"}
    first, _ = (s.run(document, timeout=60) for _ in range(2))
    lose(s)

    report = rebuilt(s, RunSelection(first.run_id))

    assert report.written["versions"] == 2
    assert rebuilt(s).written["versions"] == 2
