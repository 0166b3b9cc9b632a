"""The dashboard, the alert rules and the docs name only existing metrics and labels, and every metric."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from source_tree import ROOT

from anabranch.core.telemetry import METRICS, Metric
from contract.telemetry import with_tables

OBSERVABILITY = ROOT / "deploy" / "observability"
DASHBOARD = OBSERVABILITY / "grafana" / "anabranch.json"
RULES = OBSERVABILITY / "prometheus" / "rules.yaml"

ADDED = {"job", "instance", "le"}
"""Labels that Prometheus adds: the scraped process, and the bounds of buckets."""

_NAME = re.compile(r"\b(anabranch_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')
_BY = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_LEGEND = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


def samples() -> Mapping[str, Metric]:
    """Every sample name of a scrape, with its metric."""
    found = {}
    for metric in METRICS:
        suffixes = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
        found |= {metric.prometheus + suffix: metric for suffix in suffixes}
    return found


SAMPLES = samples()


def dashboard() -> list[Any]:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [
        pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']}-{target['refId']}")
        for panel in panels
        for target in panel.get("targets", ())
    ]


def rules() -> list[Any]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [
        pytest.param(rule["expr"], " ".join(rule["annotations"].values()), id=rule["alert"])
        for group in groups
        for rule in group["rules"]
    ]


def problems(expression: str, shown: str) -> Iterator[str]:
    """Names in an expression, and labels in the text that shows it, that the registry lacks."""
    named = _NAME.findall(expression)
    if not named:
        yield f"no metric of ours in {expression}"
    labels = set(ADDED)
    for name, matchers in named:
        if name not in SAMPLES:
            yield f"there is no {name}"
            continue
        labels |= set(SAMPLES[name].labels)
        for label in _MATCHER.findall(matchers):
            if label not in {*SAMPLES[name].labels, *ADDED}:
                yield f"{name} has no label {label}"
        if ("rate(" in expression or "increase(" in expression) and SAMPLES[name].kind == "gauge":
            yield from () if "deriv(" in expression else (f"{name} is a gauge, and its rate says nothing",)
    grouped = {label.strip() for inner in _BY.findall(expression) for label in inner.split(",")}
    yield from (f"nothing has a label {label}" for label in (grouped | _shown(shown)) - labels)
    # A sum drops labels that it does not group by: a legend or a summary cannot show them.
    if _BY.search(expression) and (lost := _shown(shown) - grouped):
        yield f"{', '.join(sorted(lost))} is shown and not grouped by"


def _shown(text: str) -> set[str]:
    return set(_LEGEND.findall(text)) - {"value"}


@pytest.mark.parametrize(("expression", "shown"), [*dashboard(), *rules()])
def test_dashboard_and_rules_name_existing_metrics_and_labels(expression: str, shown: str) -> None:
    assert list(problems(expression, shown)) == []


@pytest.mark.parametrize(
    ("expression", "shown", "problem"),
    [
        ("rate(anabranch_members_ended[1m])", "", "there is no anabranch_members_ended"),
        ("rate(anabranch_join_lag_seconds[1m])", "", "there is no anabranch_join_lag_seconds"),
        ('anabranch_slots_size{agent="x"}', "", "anabranch_slots_size has no label agent"),
        ("sum by (run) (anabranch_slots_size)", "", "nothing has a label run"),
        ("sum by (topic) (anabranch_claims_total)", "{{ $labels.code }}", "nothing has a label code"),
        ("sum by (agent) (anabranch_attempts_total)", "{{outcome}}", "outcome is shown and not grouped by"),
        ("rate(anabranch_slots_used[5m])", "", "anabranch_slots_used is a gauge, and its rate says nothing"),
        ("up", "", "no metric of ours in up"),
    ],
)
def test_a_wrong_name_is_found(expression: str, shown: str, problem: str) -> None:
    assert problem in list(problems(expression, shown))


def test_the_dashboard_shows_every_metric() -> None:
    text = DASHBOARD.read_text(encoding="utf-8")

    assert [metric.name for metric in METRICS if metric.prometheus not in text] == []


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    places = [panel["gridPos"] for panel in panels]

    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_alerts_have_a_severity_a_summary_and_a_description() -> None:
    [group] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]

    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])


def test_the_metric_tables_of_the_docs_are_up_to_date() -> None:
    """`python -m contract --tables docs/telemetry.md` writes these tables."""
    text = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")

    assert text.count("<!-- generated: ") == 3
    assert with_tables(text) == text
    assert [metric.name for metric in METRICS if f"| `{metric.name}` |" not in text] == []
