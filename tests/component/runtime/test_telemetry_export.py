"""Exports of a process: spans and metrics by OTLP over HTTP, metrics for Prometheus; nothing by default."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from otlp_collector import Collector, collecting
from prometheus_client.parser import text_string_to_metric_families
from small_requests import array, request, task
from trace_tools import PRODUCER, PRODUCER_SPAN, TRACE_ID, Traced

from anabranch import Task
from anabranch.core import telemetry as names
from anabranch.core.telemetry import METRICS, Metric
from anabranch.core.tracing import parse_traceparent, run_span, trace_of
from anabranch.runtime.instrumentation.telemetry import (
    NO_TELEMETRY,
    TelemetryOptions,
    close_telemetry,
    open_telemetry,
    wanted,
)
from anabranch.runtime.process.health import Health, HealthServer
from anabranch.testing import System

Start = Callable[..., System]


# --- what is asked for ---------------------------------------------------------------------------

NONE = TelemetryOptions(text=False, metrics=False, spans=False)


@pytest.mark.parametrize(
    ("environ", "text", "found"),
    [
        ({}, False, NONE),
        ({}, True, TelemetryOptions(text=True, metrics=False, spans=False)),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"},
            False,
            TelemetryOptions(text=False, metrics=True, spans=True),
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"},
            True,
            TelemetryOptions(text=True, metrics=False, spans=True),
        ),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"},
            False,
            TelemetryOptions(text=False, metrics=True, spans=False),
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"},
            False,
            TelemetryOptions(text=False, metrics=True, spans=False),
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, True, NONE),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False, NONE),
    ],
)
def test_the_standard_variables_select_what_is_exported(
    environ: dict[str, str], text: bool, found: TelemetryOptions
) -> None:
    assert wanted(environ, text=text) == found


def test_without_configuration_nothing_is_created_and_the_sdk_is_not_imported() -> None:
    assert open_telemetry("x", {}, text=False) is NO_TELEMETRY
    code = (
        "import sys, anabranch.embedded, anabranch.runtime.process.lifecycle\n"
        "from anabranch.runtime.instrumentation.telemetry import open_telemetry\n"
        "open_telemetry('x', {}, text=False)\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk.trace', 'prometheus'))])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"


# --- OTLP ----------------------------------------------------------------------------------------


async def test_all_spans_of_a_run_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    from anabranch.testing import system

    async def member(task: Task) -> int:
        await asyncio.sleep(0.01)
        return 1

    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        telemetry = open_telemetry("anabranch-test", os.environ, text=False, instance="i-1")
        async with system(agents={"member": member}, telemetry=telemetry) as s:
            document = request(task("t", "member", expansion_config=array([1, 2, 3])), name="n")
            run = await s.client.submit(document, traceparent=PRODUCER)
            await run.result(30)
        await close_telemetry(telemetry)

    check_collected(collector, run.run_id)
    sender = collector.resources[0]
    assert (sender["service.name"], sender["service.instance.id"]) == ("anabranch-test", "i-1")
    assert sender["deployment.environment.name"] == "test"
    ended = collector.metrics["anabranch.members.ended"].sum
    assert (ended.is_monotonic, [point.as_int for point in ended.data_points]) == (True, [3])
    assert collector.metrics["anabranch.join.lag"].histogram.data_points[0].count == 1


def check_collected(collector: Collector, run_id: str) -> None:
    """One trace under the producer's span, each span once, in its parent's time."""
    spans = {span.name: span for span in collector.spans}
    assert sorted(spans) == ["group g", "member t_1", "member t_2", "member t_3", "run n", "task t"]
    assert len(collector.spans) == len(spans)
    assert {span.trace_id for span in collector.spans} == {TRACE_ID.to_bytes(16)}
    assert spans["run n"].parent_span_id == PRODUCER_SPAN.to_bytes(8)
    assert spans["run n"].span_id == run_span(run_id).to_bytes(8)
    above = {"group g": "run n", "task t": "group g"} | {f"member t_{n}": "task t" for n in (1, 2, 3)}
    for name, parent in above.items():
        assert spans[name].parent_span_id == spans[parent].span_id
        assert spans[parent].start_time_unix_nano <= spans[name].start_time_unix_nano
        # Embedded, the worker's clock and the log's are one, up to the microseconds of spans.
        assert spans[name].end_time_unix_nano <= spans[parent].end_time_unix_nano + 1_000
    assert {link.span_id for link in spans["task t"].links} == {spans[f"member t_{n}"].span_id for n in (1, 2, 3)}


def test_the_command_exports_its_embedded_run_and_an_agents_own_spans(tmp_path: Path) -> None:
    """Runs in a separate process, because it sets OpenTelemetry's global tracer provider."""
    (tmp_path / "own_agents.py").write_text(
        "from anabranch import agent\n"
        "from opentelemetry import trace\n\n"
        "@agent('own')\n"
        "def own(task):\n"
        "    with trace.get_tracer('own').start_as_current_span('inside'):\n"
        "        return 1\n"
    )
    (tmp_path / "r.json").write_text(json.dumps(request(task("t", "own"), name="n")))
    with collecting() as collector:
        environ = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "mine"}
        command = [sys.executable, "-m", "anabranch", "run", "r.json", "--embedded", "--agents", "own_agents"]
        run = partial(subprocess.run, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
        ended = run([*command, "--json"])

    assert ended.returncode == 0, ended.stderr
    spans = {span.name: span for span in collector.spans}
    assert sorted(spans) == ["group g", "inside", "member t", "run n", "task t"]
    assert spans["inside"].parent_span_id == spans["member t"].span_id
    run_id = json.loads(ended.stdout)["run_id"]
    assert {span.trace_id for span in collector.spans} == {trace_of(run_id, None).trace_id.to_bytes(16)}
    assert {each["service.name"] for each in collector.resources} == {"mine"}


async def test_an_unavailable_collector_harms_no_run_and_delays_no_exit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from anabranch.testing import system

    monkeypatch.setattr("anabranch.runtime.instrumentation.telemetry.CLOSE_SECONDS", 0.5)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    telemetry = open_telemetry("x", os.environ, text=False)
    async with system(telemetry=telemetry) as s:
        result = await s.run(request(task("t")), timeout=30)
    async with asyncio.timeout(5):
        await close_telemetry(telemetry)

    assert result.status == "completed"


# --- Prometheus ----------------------------------------------------------------------------------


def shown(traced: Traced) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Sample name -> labels -> value."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(traced.telemetry.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


LIMITS = ("anabranch_limits_held", "anabranch_limits_waiting")


def test_metrics_show_who_holds_limits_and_waits_and_breakers(anabranch_system: Start) -> None:
    traced = Traced(measures=True)
    s = anabranch_system(telemetry=traced.telemetry)
    wide = task("a", "sleep", inputs={"seconds": 60}, expansion_config=array([1, 2, 3]), concurrency={"key": "k"})
    s.submit(request(wide))
    rate = {"limit": 1, "per": "1m"}
    s.submit(request(task("b", expansion_config=array([1, 2, 3]), rate_limit=rate)))
    s.wait(s.embedded.client.set_breaker("echo", "open"))
    s.advance(12)

    found = shown(traced)
    by_kind = {name: {dict(labels)["kind"]: value for labels, value in found[name].items()} for name in LIMITS}
    assert by_kind["anabranch_limits_held"] == {"concurrency": 1, "run_concurrency": 0, "breaker": 0}
    assert by_kind["anabranch_limits_waiting"]["rate"] == 2
    assert by_kind["anabranch_limits_waiting"]["concurrency"] >= 1
    assert found["anabranch_breakers"] == {(("state", "open"),): 1, (("state", "half_open"),): 0}


def test_metrics_count_members_tasks_and_runs(anabranch_system: Start) -> None:
    async def moody(task: Task) -> int:
        if task.index == 1 and task.attempt == 1:
            raise ValueError("again")
        if task.index == 2:
            raise ValueError("never")
        return 1

    traced = Traced(measures=True)
    s = anabranch_system(agents={"moody": moody}, telemetry=traced.telemetry)
    retried = {"strategy": "immediate", "max_attempts": 2}
    wide = task("a", "moody", expansion_config=array([1, 2, 3, 4]), tolerated_failures=1, retry=retried)
    s.run(request(wide, task("b", "echo", inputs="{a}", dependencies=["a"])), timeout=60)
    bad = request(task("c", "fail", inputs={}), task("d", dependencies=["c"]))
    assert s.run(bad, timeout=60).status == "failed"
    s.advance(3)

    found = shown(traced)
    moody_labels = ("agent", "moody")
    assert found["anabranch_members_ended_total"] == {
        (moody_labels, ("outcome", "completed")): 3,
        (moody_labels, ("outcome", "failed")): 1,
        (("agent", "echo"), ("outcome", "completed")): 1,
        (("agent", "fail"), ("outcome", "failed")): 1,
    }
    assert found["anabranch_attempts_total"] == {
        (moody_labels, ("outcome", "completed")): 3,
        (moody_labels, ("outcome", "retried")): 2,
        (moody_labels, ("outcome", "failed")): 1,
        (("agent", "echo"), ("outcome", "completed")): 1,
        (("agent", "fail"), ("outcome", "failed")): 1,
    }
    assert found["anabranch_tasks_ended_total"] == {
        (("status", "completed"),): 2,
        (("status", "failed"),): 1,
        (("status", "skipped"),): 1,
    }
    assert found["anabranch_runs_accepted_total"] == {(): 2}
    assert found["anabranch_runs_ended_total"] == {(("status", "completed"),): 1, (("status", "failed"),): 1}
    assert found["anabranch_run_duration_seconds_count"] == found["anabranch_runs_ended_total"]
    assert found["anabranch_join_lag_seconds_count"] == {(): 2}
    assert found["anabranch_dead_letters_total"] == {(("code", "member_failed"),): 2}
    assert found["anabranch_offers_total"] == {(("delivery", "first"), ("place", "here")): 6}
    assert found["anabranch_chunks_ended_total"] == {(("outcome", "done"),): 6}
    assert found["anabranch_runs_open"] == {(): 0}
    assert found["anabranch_slots_size"] == {(): 64}
    assert found["anabranch_partitions_owned"] == {(("topic", "groups"),): 4, (("topic", "runs"),): 4}
    assert found["anabranch_claims_total"] == {(("topic", "groups"),): 4, (("topic", "runs"),): 4}


def test_the_backlog_is_predicted_from_what_members_took(anabranch_system: Start) -> None:
    async def slow(task: Task) -> None:
        await asyncio.sleep(10)

    traced = Traced(measures=True)
    s = anabranch_system(agents={"slow": slow}, telemetry=traced.telemetry, concurrency=2)
    s.submit(request(task("t", "slow", expansion_config=array(list(range(20))))))
    s.advance(5)
    early = shown(traced)
    s.advance(36)
    late = shown(traced)

    labels = (("agent", "slow"), ("level", "normal"), ("pool", "default"))
    assert early["anabranch_backlog_members"] == {labels: 20}
    assert labels not in early.get("anabranch_backlog_seconds", {})
    left = late["anabranch_backlog_members"][labels]
    assert 8 <= left <= 14
    assert late["anabranch_backlog_seconds"][labels] == pytest.approx(10 * left, rel=0.1)
    assert late["anabranch_slots_used"] == {(): 2}
    assert late["anabranch_runs_open"] == {(): 1}


def test_a_value_whose_message_was_missed_is_counted(anabranch_system: Start) -> None:
    from anabranch.core.names import session_key
    from anabranch.ports import Write

    traced = Traced(measures=True)
    s = anabranch_system(telemetry=traced.telemetry)
    waiting = task("t", "echo", inputs="{go}", dependencies=["go"], external_dependencies=["go"])
    run = s.submit(request(waiting, session_id="one"))
    announced = s.submit(request(waiting, session_id="two"))
    s.advance(1)
    s.wait(s.embedded.store.put([Write(session_key("one", "go"), b"1", 60.0)]))
    s.publish("two", "go", 2)

    assert (run.result(60).status, announced.result(60).status) == ("completed", "completed")
    assert shown(traced)["anabranch_notifications_recovered_total"] == {(): 1}


def test_a_silent_run_is_nudged_and_counted(anabranch_system: Start) -> None:
    async def long(task: Task) -> None:
        await asyncio.sleep(100)

    traced = Traced(measures=True)
    s = anabranch_system(agents={"long": long}, telemetry=traced.telemetry, nudge_after=30.0)
    s.run(request(task("t", "long")), timeout=200)

    assert shown(traced)["anabranch_nudges_total"][()] >= 1


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_shown_by_the_name_that_the_registry_says(metric: Metric) -> None:
    traced = Traced(measures=True)
    labels = dict.fromkeys(metric.labels, "x")
    if metric.kind == "counter":
        traced.telemetry.count(metric, 2, **labels)
    elif metric.kind == "gauge":
        traced.telemetry.show(metric, {tuple(labels.values()): 2})
    else:
        traced.telemetry.observe(metric, 2, **labels)

    suffix = "_sum" if metric.kind == "histogram" else ""
    assert shown(traced)[metric.prometheus + suffix] == {tuple(sorted(labels.items())): 2}
    kinds = {"counter": "counter", "gauge": "gauge", "histogram": "histogram"}
    [family] = text_string_to_metric_families(traced.telemetry.exposition().decode())
    assert (family.type, family.documentation) == (kinds[metric.kind], metric.about)


def test_names_are_unique_and_labels_few() -> None:
    assert (
        len({metric.name for metric in METRICS}) == len({metric.prometheus for metric in METRICS}) == len(METRICS)
    )
    declared = [value for value in vars(names).values() if isinstance(value, Metric)]
    assert set(declared) == set(METRICS)
    # No label whose values are as many as runs, sessions or tasks: each value is a series.
    assert {label for metric in METRICS for label in metric.labels} == {
        "agent",
        "code",
        "delivery",
        "kind",
        "level",
        "operation",
        "outcome",
        "place",
        "pool",
        "reason",
        "route",
        "state",
        "status",
        "topic",
    }


async def test_the_health_port_serves_the_metrics() -> None:
    traced = Traced(measures=True)
    traced.telemetry.count(names.NUDGES)
    server = HealthServer(lambda: Health(True, True), "test", metrics=traced.telemetry.exposition)
    port = await server.start(0, "127.0.0.1")
    try:

        def ask() -> tuple[str, str]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return answer.headers["Content-Type"], answer.read().decode()

        kind, text = await asyncio.to_thread(ask)
    finally:
        await server.stop()

    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert "anabranch_nudges_total 1.0\n" in text


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (PRODUCER, True),
        (PRODUCER.upper(), False),
        ("01" + PRODUCER[2:] + "-more", True),
        (PRODUCER + "-more", False),
        ("ff" + PRODUCER[2:], False),
        ("00-" + "0" * 32 + PRODUCER[35:], False),
        (PRODUCER[:36] + "0" * 16 + "-01", False),
        ("", False),
        (None, False),
        (PRODUCER + "\n", False),
    ],
)
def test_a_traceparent_is_taken_by_the_standard(text: str | None, valid: bool) -> None:
    found = parse_traceparent(text)

    assert (found is not None) is valid
    if found is not None:
        assert (found.trace_id, found.parent, found.sampled) == (TRACE_ID, PRODUCER_SPAN, True)
