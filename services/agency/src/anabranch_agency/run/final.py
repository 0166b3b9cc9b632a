"""The final record of a run: how it ended, and every result by value or by reference. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import itemgetter
from typing import Any

import orjson

from anabranch.core.costs import GroupCosts, document_of, no_costs, total_of
from anabranch.core.failures import fit_failures
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names, failures_key
from anabranch.core.outputs import reference_count
from anabranch.core.sub_runs import CANCELLED as SUB_RUN_CANCELLED
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.messages import Counts, Failure, SkippedTask
from anabranch.core.wire.results import has_mark, is_reference, reference_document
from anabranch.core.wire.run_record import RunRecord
from anabranch_agency.run.state import Run

RESULTS_BYTES = 600_000
"""Bytes of results in the final record. Beyond it the largest values, and then all values, become references."""
FAILURES_BYTES = 250_000
BODY_BYTES = 1_000_000
"""Bytes of the whole body, if the limit of the log allows it. Labels and warnings come first; failures and results
share the rest."""
FAILURES_SHARE = 4
"""Failures use at most one such part of the body."""
MAX_SKIPPED = 1_000
SKIPPED_BYTES, SKIPPED_SHARE = 100_000, 10
"""Bytes of skipped tasks in the body, and the part of it that they use at most."""
COSTS_BYTES, COSTS_SHARE = 100_000, 10
"""The same of costs by task."""


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value that the final record refers to: a key in the store, and the manifest or page to store under it."""

    key: str
    value: bytes


def final_status(run: Run) -> str:
    """The status of an ended run. A stop counts only if it stopped a group; else a group that failed or timed out
    makes the run fail. Without a stop, a group is cancelled if a sub-run of it was cancelled, which fails the run,
    or if another run took the key of one of its tasks, which cancels the run."""
    if run.fault:
        return "failed"
    if run.stopping is not None and run.statuses & {"cancelled", "timed_out"}:
        return run.stopping
    if run.statuses <= {"completed"}:
        return "completed"
    if not run.statuses <= {"completed", "cancelled"}:
        return "failed"
    return "failed" if any(each.error_type == SUB_RUN_CANCELLED for each in run.failures) else "cancelled"


def final_body(
    names: Names, run: Run, at: float, limit: int = BODY_BYTES
) -> tuple[dict[str, Any], list[StoredValue]]:
    """The body of the final record, of at most `limit` bytes, and the values to store before it is published."""
    # 4,000 bytes are for all other fields: ids, the name, counts and times have limits of their own.
    skipped = fit_skipped(run.skipped, min(SKIPPED_BYTES, limit // SKIPPED_SHARE))
    costs = fit_costs(run.costs, min(COSTS_BYTES, limit // COSTS_SHARE))
    bytes_left = min(limit, BODY_BYTES) - len(orjson.dumps([run.labels, run.warnings, skipped, costs])) - 4_000
    fitting = fit_failures(run.failures, min(FAILURES_BYTES, bytes_left, limit // FAILURES_SHARE))
    failures = [failure.to_document() for failure in fitting]
    results, stored = fit_results(names, run, min(RESULTS_BYTES, bytes_left - len(orjson.dumps(failures))))
    all_failures, failure_pages = list_failures(names, run) if len(failures) < run.failure_count else (None, [])
    body = {
        "request_id": run.request_id,
        "run_id": run.run_id,
        "session_id": run.session_id,
        "status": final_status(run),
        "name": run.name,
        "labels": run.labels,
        "results": results,
        "failures": failures,
        "failure_count": run.failure_count,
        "all_failures": all_failures,
        "executions": run.counts.model_dump(),
        "accepted_at": rfc3339(run.tombstone.accepted_at),
        "ended_at": rfc3339(at),
        "duration_seconds": round(max(0.0, at - run.tombstone.accepted_at), 6),
        "warnings": list(run.warnings),
        "retry_of": run.retry_of,
        "taken_over": run.taken_over,
        **({} if run.compensation is None else {"compensation": run.compensation}),
        "handled_failures": run.handled_failures,
        "skipped": skipped,
        "costs": costs,
        "stopped_by": stopped_by(run),
    }
    accepted = run.tombstone.accepted
    for name in ORIGIN:
        if name in accepted:
            body[name] = accepted[name]
    return body, [*stored, *failure_pages]


def fit_costs(found: Sequence[GroupCosts], limit: int) -> dict[str, Any]:
    """The costs of a run in total, and by task; of the most expensive tasks, as many as fit into `limit` bytes of
    JSON, with the number of the others in `tasks_omitted`."""
    costs, tasks = [], []
    for group, task, *of_task in found:
        costs.append(of_task)
        tasks.append({"group": group, "task": task, **document_of(of_task)})
    total = document_of(total_of(costs))
    if len(orjson.dumps(tasks)) <= limit:
        return {**total, "tasks": tasks, "tasks_omitted": 0}
    shown = []
    for each in sorted(tasks, key=itemgetter("usd", "tokens", "seconds"), reverse=True):
        limit -= len(orjson.dumps(each)) + 1
        if limit < 0:
            break
        shown.append(each)
    return {**total, "tasks": shown, "tasks_omitted": len(tasks) - len(shown)}


def fit_skipped(skipped: Sequence[SkippedTask], limit: int) -> list[dict[str, Any]]:
    """The first skipped tasks, as many as fit into `limit` bytes of JSON."""
    found = []
    for each in skipped:
        document = each.model_dump()
        limit -= len(orjson.dumps(document)) + 1
        if limit < 0:
            break
        found.append(document)
    return found


def stopped_by(run: Run) -> dict[str, Any] | None:
    """The command that stopped a run, as its final record has it; None if none did."""
    command = run.stopped_by
    if command is None or final_status(run) != "cancelled":
        return None
    return {
        "action": command.action,
        "by": command.by or None,
        "reason": command.reason or None,
        "at": rfc3339(command.at),
    }


def final_without_results(names: Names, run: Run, at: float) -> dict[str, Any]:
    """The body of the final record of a run whose results cannot be encoded."""
    # The first failure is the reason, which `note_failure` put in front of the others.
    bare = replace(run, results={}, failure_pages={}, failures=run.failures[:1], failure_count=1)
    body, _ = final_body(names, bare, at)
    return body | {"failure_count": run.failure_count}


def final_of_lost(known: RunRecord, failure: Failure, at: float) -> dict[str, Any]:
    """The body of the final record of a run of which only the record of its admission is left."""
    accepted = known.accepted
    body = {
        "request_id": known.request_id,
        "run_id": accepted["run_id"],
        "session_id": known.session_id,
        "status": "failed",
        "name": accepted.get("name"),
        "labels": accepted.get("labels", {}),
        "results": {},
        "failures": [failure.to_document()],
        "failure_count": 1,
        "all_failures": None,
        "executions": Counts().model_dump(),
        "accepted_at": rfc3339(known.accepted_at),
        "ended_at": rfc3339(at),
        "duration_seconds": round(max(0.0, at - known.accepted_at), 6),
        "warnings": list(accepted.get("warnings", ())),
        "retry_of": accepted.get("retry_of"),
        "taken_over": 0,
        "handled_failures": 0,
        "skipped": [],
        "costs": no_costs(),
        "stopped_by": None,
    }
    return body | {name: accepted[name] for name in ORIGIN if name in accepted}


ORIGIN = ("parent", "definition", "forked_from", "schedule")
"""Fields of a run's records that say where the run is from, and that most runs do not have."""


def list_failures(names: Names, run: Run) -> tuple[dict[str, Any], list[StoredValue]]:
    """A reference to the list of all failures: the pages that groups wrote, and one page with the others."""
    key = failures_key(run.run_id)
    others = [failure.to_document() for failure in run.failures if failure.group not in run.failure_pages]
    data = dumps(others)
    found = [("other", len(others), len(data))] if others else []
    found += [page for pages in run.failure_pages.values() for page in pages]
    starts = accumulate((count for _, count, _ in found), initial=0)
    count, size = sum(each[1] for each in found), sum(each[2] for each in found)
    manifest = {
        "format": "merge",
        "total": count,
        "pages": [
            # Not `strict`: `starts` has one more entry, the total.
            [name, [[at, at + number]], length]
            for at, (name, number, length) in zip(starts, found, strict=False)
        ],
        "large": [],
        "count": count,
        "bytes": size,
    }
    stored = [StoredValue(names.value_manifest(run.session_id, run.run_id, key), dumps(manifest))]
    if others:
        stored.append(StoredValue(names.value_page(run.session_id, run.run_id, key, "other"), data))
    return reference_document(run.session_id, key, run.run_id, count, size), stored


def fit_results(names: Names, run: Run, limit: int = RESULTS_BYTES) -> tuple[dict[str, Any], list[StoredValue]]:
    """Results of at most `limit` bytes. The largest values become references until the rest fits.

    If the references alone are too large, the whole of `results` becomes a reference; also if its keys would make
    it look like one.
    """
    results = dict(run.results)
    # At least as large as the sum of the parts, which are counted only if they may be too much.
    if len(orjson.dumps(results)) <= limit and not has_mark(results):
        return results, []
    sizes = {key: len(orjson.dumps(value)) for key, value in run.results.items()}
    total = sum(sizes.values()) + sum(len(orjson.dumps(key)) + 2 for key in sizes)
    stored: list[StoredValue] = []
    inline = [key for key in sizes if not is_reference(results[key], run.session_id)]
    for key in sorted(inline, key=lambda key: sizes[key], reverse=True):
        # A reference is about as large as 512 bytes, so smaller values would gain nothing.
        if total <= limit or sizes[key] < 512:
            break
        manifest, reference = stored_value(names, run, key, results[key])
        total -= sizes[key] - len(orjson.dumps(reference))
        results[key] = reference
        stored.append(manifest)
    if total <= limit and not has_mark(results):
        return results, stored
    manifest, reference = stored_value(names, run, f"{run.run_id}.results", results)
    return reference, [*stored, manifest]


def stored_value(names: Names, run: Run, key: str, value: Any) -> tuple[StoredValue, dict[str, Any]]:
    """The manifest to store for a value, and the reference to it."""
    data = orjson.dumps(value)
    count = reference_count(value)
    manifest = b'{"format":"inline","count":%d,"bytes":%d,"value":%s}' % (count, len(data), data)
    reference = reference_document(run.session_id, key, run.run_id, count, len(data))
    return StoredValue(names.value_manifest(run.session_id, run.run_id, key), manifest), reference
