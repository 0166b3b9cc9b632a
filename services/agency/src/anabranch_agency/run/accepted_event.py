"""The data of the event that a run was admitted. Pure."""

from __future__ import annotations

from typing import Any

from anabranch.core.wire.messages import SubmitRun
from anabranch_agency.run.final import ORIGIN
from anabranch_agency.run.known_plans import PlannedRequest
from anabranch_agency.run.state import Run


def said(submit: SubmitRun) -> dict[str, str]:
    """Who asked for a retry, and why, where its command says it."""
    return {name: value for name, value in (("by", submit.by), ("reason", submit.reason)) if value}


def accepted_data(run: Run, planned: PlannedRequest) -> dict[str, Any]:
    """What the event of an admission says about the run."""
    data = {
        "project": planned.plan.project,
        "name": run.name,
        "labels": run.labels,
        "task_groups": len(planned.plan.groups),
        "tasks": planned.plan.tasks,
        "deadline": run.deadline,
    }
    if run.retry_of is not None:
        data["retry_of"] = run.retry_of
    for name in ORIGIN:
        if name in run.tombstone.accepted:
            data[name] = run.tombstone.accepted[name]
    return data
