"""Agents of warehouse.yaml: rows of three sources, cleaned, combined and loaded. Data only, no network."""

from __future__ import annotations

from typing import Any

from anabranch import Task, agent

ROWS: dict[str, list[dict[str, Any]]] = {
    "orders": [{"id": 1, "amount": 30}, {"id": 2, "amount": 12}, {"id": 3, "amount": -1}],
    "returns": [{"id": 2, "amount": -12}],
    "fees": [{"id": 9, "amount": 4}, {"id": 8, "amount": 6}],
}


@agent("extract")
def extract(task: Task) -> dict[str, Any]:
    """All rows of one source. A source that is busy answers at the second attempt, an unknown one never."""
    source = task.inputs["source"]
    if source == "fees" and task.attempt < 2:
        raise TimeoutError("fees is busy")
    return {"source": source, "rows": ROWS[source]}


@agent("clean")
def clean(task: Task) -> dict[str, Any]:
    """Drop the rows of an order without a price, and count them."""
    source = task.inputs["extracted"]["source"]
    rows = task.inputs["extracted"]["rows"]
    kept = [row for row in rows if source == "returns" or row["amount"] > 0]
    return {"source": source, "rows": kept, "dropped": len(rows) - len(kept)}


@agent("judge")
def judge(task: Task) -> dict[str, Any]:
    """The share of rows that are usable, over all sources that were read."""
    parts = [part for part in task.inputs["cleaned"] if part is not None]
    kept = sum(len(part["rows"]) for part in parts)
    total = kept + sum(part["dropped"] for part in parts)
    return {"share": kept / total if total else 0.0, "rows": kept}


@agent("load")
def load(task: Task) -> dict[str, Any]:
    """Load all rows into `inputs.table`: their number, and the sum of their amounts."""
    rows = [row for part in task.inputs["cleaned"] if part is not None for row in part["rows"]]
    return {"table": task.inputs["table"], "rows": len(rows), "sum": sum(row["amount"] for row in rows)}
