"""Names the work of an attempt: for its platform, for people, and for the owner that is asked about it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from anabranch.core.admissions import admission_of
from anabranch.core.wire.messages import Offer, WorkFound, WorkRef
from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.executors.programs.engine import FoundExecution

WORK_LABEL = "work"
"""The label that identifies an attempt for its owner."""
NAME_BYTES = 16


def identity_of(offer: Offer, member: Task) -> dict[str, Any]:
    """What distinguishes an attempt from all others of the installation, as the fields of a `WorkRef`."""
    index = member.index or 0
    return {
        "group": offer.group,
        "task": offer.task,
        "iteration": list(offer.iteration),
        "index": index,
        "attempt": member.attempt,
        "redrive": offer.redrives.get(index, 0),
        "admission": admission_of(offer.fence),
    }


def execution_name(installation: str, offer: Offer, identity: Mapping[str, Any]) -> str:
    """The name of the work of an attempt: the same in every worker, a DNS label of 35 characters."""
    text = orjson.dumps([installation, offer.run_id, *identity.values()])
    return f"ab-{hashlib.blake2b(text, digest_size=NAME_BYTES).hexdigest()}"


def labels_of(installation: str, offer: Offer, member: Task, identity: Mapping[str, Any]) -> dict[str, str]:
    """The labels of an execution, see `Execution`."""
    return {
        "installation": installation,
        "session_id": offer.session_id,
        "run_id": offer.run_id,
        "group": offer.group,
        "task": offer.task,
        "member": member.name,
        "attempt": str(member.attempt),
        WORK_LABEL: orjson.dumps(identity).decode(),
    }


def environment_of(offer: Offer, member: Task) -> dict[str, str]:
    """The variables with which a program knows which attempt it makes."""
    return {
        "ANABRANCH_RUN_ID": offer.run_id,
        "ANABRANCH_SESSION_ID": offer.session_id,
        "ANABRANCH_GROUP": offer.group,
        "ANABRANCH_TASK": offer.task,
        "ANABRANCH_MEMBER": member.name,
        "ANABRANCH_ATTEMPT": str(member.attempt),
        "ANABRANCH_IDEMPOTENCY_KEY": member.idempotency_key,
    }


def question_of(found: list[FoundExecution], worker: str, kind: str) -> WorkFound | None:
    """The question to the owner of a run about executions of it; None if their labels are not readable."""
    works: list[WorkRef] = []
    run_id, session_id = found[0].labels.get("run_id"), found[0].labels.get("session_id")
    for each in found:
        try:
            identity = orjson.loads(each.labels.get(WORK_LABEL, ""))
            works.append(WorkRef(**identity, handle=each.handle))
        except (orjson.JSONDecodeError, ValidationError, TypeError):
            continue
    if not (run_id and session_id and works):
        return None
    return WorkFound(run_id=run_id, session_id=session_id, worker=worker, kind=kind, works=tuple(works))
