"""The pure parts of the bench: figures, drawings, graphs and requests."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.cli.bench import shapes
from anabranch.cli.bench.bytes_used import ByteUsage, new_records
from anabranch.cli.bench.chain import chain_report
from anabranch.cli.bench.client import MeasuredRun, NotMeasured, with_members
from anabranch.cli.bench.distribution import (
    BLOCKS,
    PLAIN,
    Distribution,
    histogram,
    labelled_sparkline,
    milliseconds,
    sparkline,
)
from anabranch.cli.bench.fanout import fanout_report
from anabranch.cli.bench.join_lag import lag_of_events, lag_of_stamps
from anabranch.cli.bench.layered import edge_count, layered
from anabranch.cli.bench.report import Measurement, plain_lines
from anabranch.cli.bench.runs import Level, runs_report
from anabranch.cli.bench.workflows import Workflow, from_document, generated, workflow_report
from anabranch.core.errors import Misconfigured, RequestRefused
from anabranch.core.request.admission import Limits, read_request

HUNDRED = Distribution.of([float(value) for value in range(100, 0, -1)])
SECONDS = st.floats(min_value=0, max_value=1e4, allow_nan=False)


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentiles_by_nearest_rank(fraction: float, expected: float) -> None:
    assert HUNDRED.at(fraction) == expected


def test_a_distribution_of_one_value_is_that_value() -> None:
    one = Distribution.of([0.25])

    assert (one.minimum, one.median, one.at(0.99), one.maximum) == (0.25, 0.25, 0.25, 0.25)
    assert one.milliseconds() == {"p50_ms": 250.0, "p99_ms": 250.0, "min_ms": 250.0, "max_ms": 250.0}


def test_a_distribution_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Distribution.of([])


@given(st.lists(SECONDS, min_size=1), st.integers(1, 40))
def test_each_value_is_in_one_class_of_the_histogram(values: list[float], bins: int) -> None:
    counts = histogram(Distribution.of(values), bins)

    assert (len(counts), sum(counts)) == (bins, len(values))


def test_classes_widen_so_that_a_tail_does_not_flatten_the_rest() -> None:
    spread = Distribution.of([0.001, 0.002, 0.004, 0.008, 1.0])

    assert histogram(spread, 5) == (2, 2, 0, 0, 1)


@given(st.lists(st.integers(0, 1000), min_size=1), st.sampled_from([BLOCKS, PLAIN]))
def test_a_sparkline_is_empty_only_where_nothing_is(counts: list[int], marks: str) -> None:
    line = sparkline(counts, marks)

    assert [mark == marks[0] for mark in line] == [count == 0 for count in counts]
    assert max(counts) == 0 or marks[-1] in line


def test_a_distribution_is_drawn_between_its_ends() -> None:
    assert labelled_sparkline(Distribution.of([0.001] * 8 + [0.1]), "_x") == f"1.00 ms |x{'_' * 22}x| 100 ms"


def test_durations_have_three_digits() -> None:
    assert [milliseconds(value) for value in (0.00042, 0.0143, 0.143, 2.314, 59.94)] == [
        "0.42 ms",
        "14.3 ms",
        "143 ms",
        "2.31 s",
        "59.9 s",
    ]


# --- reports --------------------------------------------------------------------------------------


def test_a_report_on_no_terminal_is_ascii_in_columns() -> None:
    report = Measurement("Title", {}, [("short", "1", "remark"), ("much longer", "1,000", "")], [("one", HUNDRED)])

    lines = plain_lines(report)

    assert lines[:3] == [
        "Title",
        "  short              1  remark",
        "  much longer    1,000",
    ]
    assert lines[3].startswith("  one, median   50.0 s  1.00 s |")
    assert "\n".join(lines).isascii()


def test_the_five_public_figures_of_a_fanout() -> None:
    report = fanout_report(1_000, 0.5, HUNDRED, None)

    assert report.document == {
        "tasks": 1_000,
        "seconds": 0.5,
        "tasks_per_second": 2_000.0,
        "p50_ms": 50_000.0,
        "p99_ms": 99_000.0,
    }


def test_bytes_are_reported_per_member_and_topic() -> None:
    usage = ByteUsage(10, {"groups": 900, "tasks": 100, "runs": 0}, 55)

    document = chain_report(HUNDRED, usage).document["bytes"]
    rows = {name: (figure, remark) for name, figure, remark in usage.rows()}

    assert (document["log_per_member"], document["redis_per_member"]) == (100.0, 5.5)
    assert rows["bytes per member, log"] == ("100.0", "compressed, one replica: groups 90.0, tasks 10.0")


def test_only_new_records_are_measured() -> None:
    before = {"a": {0: 5, 1: 7}, "b": {0: 3}}
    after = {"a": {0: 9, 1: 7}, "b": {0: 3}}

    assert new_records(before, after) == {"a": {0: (5, 9)}, "b": {}}


def test_runs_per_second_use_the_total_duration() -> None:
    document = runs_report([Level(10, 4.0, HUNDRED)]).document

    assert (document["runs"], document["runs_per_second"], document["tasks_per_second"]) == (100, 25.0, 225.0)
    assert "cpu_ms" not in document


def test_processor_time_of_runs_is_reported_in_total_and_by_process() -> None:
    report = runs_report([Level(10, 4.0, HUNDRED, {"agency": 0.002, "taskgroup": 0.0045})])

    assert report.document["cpu_ms"] == 6.5
    assert report.document["cpu_ms_by_process"] == {"agency": 2.0, "taskgroup": 4.5}
    assert ("processor time per run", "6.50 ms", "agency 2.00 ms, taskgroup 4.50 ms") in report.rows


def test_several_numbers_of_runs_at_once_have_a_document_and_a_distribution_each() -> None:
    report = runs_report([Level(1, 200.0, HUNDRED), Level(10, 4.0, HUNDRED)])

    assert [level["at_once"] for level in report.document["levels"]] == [1, 10]
    assert [name for name, _ in report.spreads] == ["one run, 1 at once", "one run, 10 at once"]
    median, p99 = milliseconds(HUNDRED.median), milliseconds(HUNDRED.at(0.99))
    assert report.rows == [
        ("1 at once", "0.5", f"runs a second, median {median}, p99 {p99}"),
        ("10 at once", "25.0", f"runs a second, median {median}, p99 {p99}"),
    ]


def test_a_run_with_other_members_than_expected_is_no_measurement() -> None:
    ended = MeasuredRun("r", "q", 1.0, {"executions": {"completed": 8}}, ())

    assert with_members(ended, 8) is ended
    with pytest.raises(NotMeasured, match="8 of 9 members"):
        with_members(ended, 9)


@pytest.mark.parametrize(("times", "median"), [([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0], 1.0), ([5.0], 5.0)])
def test_the_median_workflow_is_one_that_was_run(times: list[float], median: float) -> None:
    ended = [MeasuredRun("r", "q", each, {"executions": {"completed": 4}}, (0.1, each)) for each in times]

    report = workflow_report(Workflow({}, 4, 3, "a file"), ended)

    assert (report.document["seconds"], report.document["repeats"]) == (median, times)
    assert report.spreads[0][1].maximum == median


def test_the_lag_of_a_join_is_counted_from_the_last_member() -> None:
    stamps = {"ends": [{"started": 1.0, "ended": 2.0}, {"started": 1.0, "ended": 3.5}], "start": {"started": 4.0}}
    events = [
        ("task.completed", "first", 2.0),
        ("task.completed", "first", 3.5),
        ("task.started", "first", 1.0),
        ("task.started", "second", 4.0),
        ("task.completed", "second", 5.0),
    ]

    assert (lag_of_stamps(stamps), lag_of_events(events)) == (0.5, 0.5)


def test_events_without_a_join_are_no_measurement() -> None:
    with pytest.raises(NotMeasured):
        lag_of_events([("task.started", "second", 4.0)])


# --- what is asked for ----------------------------------------------------------------------------


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Tasks, edges and layers of a graph that exists."""
    tasks = draw(st.integers(1, 60))
    layers = draw(st.integers(1, tasks))
    widths = [tasks // layers + (depth < tasks % layers) for depth in range(layers)]
    maximum = sum(low * high for low, high in pairwise(widths))
    return tasks, draw(st.integers(tasks - widths[0], maximum)), layers


@given(sizes())
def test_a_layered_graph_has_the_size_asked_for(size: tuple[int, int, int]) -> None:
    tasks, edges, depth = size

    layers = layered(tasks, edges, depth)

    assert (sum(map(len, layers)), edge_count(layers), len(layers)) == (tasks, edges, depth)
    first = 0
    for before, layer in pairwise(layers):
        reach = range(first, first + len(before))
        for needs in layer:
            assert needs
            assert len(set(needs)) == len(needs)
            assert all(each in reach for each in needs)
        first += len(before)


def test_a_layered_graph_is_even() -> None:
    layers = layered(2_000, 6_000, 20)
    needs = [len(each) for layer in layers[1:] for each in layer]
    needed = [0] * 2_000
    for each in (each for layer in layers for needs in layer for each in needs):
        needed[each] += 1

    assert set(needs) == {3, 4}
    assert max(needed) <= 5


@pytest.mark.parametrize(
    ("tasks", "edges", "layers", "message"),
    [
        (10, 4, 2, "cannot have 4 edges. use 5 to 25"),
        (10, 26, 2, "cannot have 26 edges. use 5 to 25"),
        (3, 0, 4, "3 tasks cannot form 4 layers"),
        (3, 1, 1, "use 0 to 0"),
    ],
)
def test_an_impossible_graph_names_the_possible_range(tasks: int, edges: int, layers: int, message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        layered(tasks, edges, layers)


@pytest.mark.parametrize(
    ("request_", "members"),
    [
        pytest.param(shapes.fanout_request(1_000), 1_000, id="fanout"),
        pytest.param(shapes.single_request(), 1, id="single"),
        pytest.param(shapes.stamp_request(5.0), 1, id="stamp"),
        pytest.param(shapes.two_stage_request(20, shapes.STAMP), 21, id="two stages"),
        pytest.param(shapes.three_by_three_request(), 9, id="three by three"),
        pytest.param(generated(2_000, 6_000, 20).document, 2_000, id="workflow"),
    ],
)
def test_requests_of_the_bench_are_valid(request_: dict[str, Any], members: int) -> None:
    plan = read_request(request_).plan

    assert plan is not None
    assert plan.executions == members


def test_the_chain_is_valid_and_as_long_as_asked() -> None:
    reading = read_request(shapes.chain_request(6, 10))

    assert reading.errors == ()
    assert len(reading.to_document()["levels"]) == 6


def test_a_workflow_of_a_file_is_counted_and_loses_its_id() -> None:
    tasks = [
        {"name": "a", "agent": "echo", "result_keys": ["x"]},
        {"name": "b", "agent": "echo", "result_keys": ["y"], "dependencies": ["x", "given"]},
    ]
    document = {
        "request_id": "mine",
        "context": {"given": 1},
        "task_groups": [{"name": "g", "tasks": tasks}],
    }

    workflow = from_document(document, "a file", Limits())

    assert (workflow.tasks, workflow.edges) == (2, 1)
    assert "request_id" not in workflow.document


def test_a_wrong_file_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(RequestRefused):
        from_document({"task_groups": []}, "a file", Limits())
