"""Traces the members of one task in one worker: which get spans, and under which span their agents are called.

The agent of a sampled member is called within the member's own span, so that spans of what it calls are its
children. All others are called within their task's span, marked as not sampled: services that they call continue
the trace and record nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from anabranch.core import telemetry as names
from anabranch.core.expansion.members import member_name
from anabranch.core.tracing import FAILURES, Attribute, RunTrace, Span, SpanEvent, member_span, task_span, trace_of
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import Telemetry
from anabranch.runtime.instrumentation.correlation import within_producer_span, within_span, working_for
from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.attempt_errors import AttemptFailure

Outcome = Literal["completed", "failed", "retried"]


@dataclass(slots=True)
class TaskTrace:
    """The trace of one task's members in this worker.

    Args:
        failures_left: spans of failed attempts that members which are not sampled may still emit.
    """

    telemetry: Telemetry
    worker: str
    document: TaskDocument
    failures_left: int = FAILURES

    @property
    def every(self) -> int:
        """Each member whose index is a multiple of it is sampled; 0 if no spans are wanted. The owner of the
        session has decided that."""
        return self.document.trace_every

    @property
    def trace(self) -> RunTrace:
        """The trace of the run."""
        return trace_of(self.document.run_id, self.document.traceparent)

    @property
    def ids(self) -> dict[str, str]:
        """The ids of run and task for log lines."""
        document = self.document
        ids = {"run": document.run_id, "group": document.group, "task": document.order.name}
        if document.trace_every or (document.traceparent is not None and self.trace.parent is not None):
            ids["trace_id"] = f"{self.trace.trace_id:032x}"
        return ids

    @property
    def is_only_ids(self) -> bool:
        """True if `ids` are all that the members need of their context: each has a span of its own, or none has
        and the producer has none either."""
        document = self.document
        return document.traceparent is None if not document.trace_every else document.trace_every == 1

    @contextmanager
    def around(self) -> Iterator[None]:
        """The context in which the members run. It also adds the ids of run and task to log lines."""
        with working_for(**self.ids), self._context():
            yield

    def _context(self) -> AbstractContextManager[None]:
        if not self.every:
            return within_producer_span(self.trace)
        # Not sampled: services that agents call continue the trace without recording anything. A sampled member
        # overrides this with `within`.
        return within_span(self.trace.trace_id, self._task_span(), sampled=False)

    def picks(self, index: int) -> bool:
        """True if a member is sampled."""
        return index % self.every == 0

    def within(self, index: int, attempt: int) -> AbstractContextManager[None]:
        """The context in which the agent of a sampled member is called."""
        return within_span(self.trace.trace_id, self._span_id(index, attempt), sampled=True)

    def ended(
        self,
        index: int,
        attempt: int,
        began: float,
        ended: float,
        outcome: Outcome,
        error: AttemptFailure | None = None,
    ) -> None:
        """Emit the span of an attempt that ended: of sampled members always, of others the first that failed.

        Args:
            began, ended: seconds since the epoch.
        """
        if not self.picks(index):
            if error is None or not self.failures_left:
                return
            # Limited, because a task may have a million failing members.
            self.failures_left -= 1
        self.telemetry.emit(self._span(index, attempt, began, ended, outcome, error))

    def _span(
        self, index: int, attempt: int, began: float, ended: float, outcome: Outcome, error: AttemptFailure | None
    ) -> Span:
        document, order = self.document, self.document.order
        member = order.name if order.expansion is None else member_name(order.name, index)
        attributes: dict[str, Attribute] = {
            names.RUN_ID: document.run_id,
            names.SESSION_ID: document.session_id,
            names.GROUP: document.group,
            names.TASK: order.name,
            names.MEMBER: member,
            names.ATTEMPT: attempt,
            names.AGENT: order.agent,
            names.WORKER: self.worker,
            names.STATUS: outcome,
        }
        if order.expansion is not None:
            attributes[names.INDEX] = index
        events: tuple[SpanEvent, ...] = ()
        if error is not None:
            attributes[names.ERROR_TYPE] = error.type
            events = (_exception(error, ended),)
        return Span(
            name=f"member {member}",
            trace_id=self.trace.trace_id,
            span_id=self._span_id(index, attempt),
            parent=self._task_span(),
            start=began,
            end=ended,
            attributes=attributes,
            error=None if error is None else f"{error.type}: {error.message}",
            events=events,
        )

    def _span_id(self, index: int, attempt: int) -> int:
        document = self.document
        return member_span(
            document.run_id, document.group, document.order.name, index, attempt, document.iteration
        )

    def _task_span(self) -> int:
        document = self.document
        return task_span(document.run_id, document.group, document.order.name, document.iteration)


def _exception(error: AttemptFailure, at: float) -> SpanEvent:
    attributes: dict[str, Attribute] = {names.EXCEPTION_TYPE: error.type, names.EXCEPTION_MESSAGE: error.message}
    return SpanEvent("exception", at, attributes)


async def run_within_span(
    trace: TaskTrace, index: int, attempt: int, run: Callable[[Task], Awaitable[Any]], task: Task
) -> Any:
    """Make an attempt of a sampled member within its own span."""
    with trace.within(index, attempt):
        return await run(task)
