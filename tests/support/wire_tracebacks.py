"""Samples of records with tracebacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wire_samples import CHUNK, RUN

from anabranch.core.wire import messages as m

TRACEBACK = 'Traceback (most recent call last):\n  File "/app/agents.py", line 17, in page\nValueError: no\n'
FAILED: Mapping[str, Any] = {"error_type": "ValueError", "message": "no", "traceback": TRACEBACK}

WITH_TRACEBACKS: Mapping[str, m.Message] = {
    "members-reported-traceback": m.MembersReported(
        **CHUNK,
        worker="w-1",
        failed=(m.MemberFailed(index=2, attempts=4, **FAILED),),
        retried=(m.MemberRetry(index=4, attempt=1, delay=0.5, **FAILED),),
    ),
    "group-finished-traceback": m.GroupFinished(
        run_id=RUN,
        group="fetch",
        status="failed",
        results={},
        failures=(m.Failure(group="fetch", task="page ü", attempts=1, **FAILED),),
        failure_count=1,
    ),
}
