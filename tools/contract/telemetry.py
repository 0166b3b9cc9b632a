"""Generates the tables of docs/telemetry.md from the registry of metrics, spans and attributes. Pure.

`python -m contract --tables docs/telemetry.md` updates them between their HTML comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from anabranch.core.telemetry import ATTRIBUTES, METRICS, SPANS

_TABLE = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def metric_table() -> str:
    """The table of metrics."""
    rows = (
        (
            f"`{metric.name}`",
            f"`{metric.prometheus}`",
            metric.kind,
            ", ".join(f"`{label}`" for label in metric.labels),
            ", ".join(metric.services),
            metric.about,
        )
        for metric in METRICS
    )
    return _table(("OTLP", "Prometheus", "kind", "labels", "services", "meaning"), rows)


def span_table() -> str:
    """The table of kinds of spans."""
    rows = (
        (f"`{kind.prefix} NAME`", kind.by, kind.about, ", ".join(f"`{each}`" for each in kind.attributes))
        for kind in SPANS
    )
    return _table(("span", "recorded by", "meaning", "attributes"), rows)


def attribute_table() -> str:
    """The table of attributes of spans."""
    return _table(("attribute", "meaning"), ((f"`{name}`", about) for name, about in ATTRIBUTES.items()))


TABLES: Mapping[str, Callable[[], str]] = {
    "metrics": metric_table,
    "spans": span_table,
    "attributes": attribute_table,
}


def with_tables(document: str) -> str:
    """A document with updated tables. Raises KeyError for a comment that names no table."""
    return _TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", document)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
