"""How the members of one task are traced in one worker: which have spans, under which context agents are called.

A member that is sampled is called within its own span, so that what its agent does is under it. All others are
called within their task's span as not sampled: what they call knows the trace, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from anabranch.core import telemetry as names
from anabranch.core.expansion.members import member_name
from anabranch.core.tracing import FAILURES, Attribute, RunTrace, Span, SpanEvent, member_span, task_span, trace_of
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import Telemetry
from anabranch.runtime.instrumentation.correlation import within_producers, within_span, working_for
from anabranch_taskgroup.worker.attempt_errors import AttemptFailure

Outcome = Literal["completed", "failed", "retried"]


@dataclass(slots=True)
class TaskTrace:
    """The trace of one task's members in this worker; `every` is 0 where no spans are wanted."""

    telemetry: Telemetry
    document: TaskDocument
    trace: RunTrace
    worker: str
    every: int
    failures_left: int = FAILURES

    @classmethod
    def of(cls, telemetry: Telemetry, document: TaskDocument, worker: str) -> TaskTrace:
        """As the owner of the session said: it has decided whether the run is sampled."""
        trace = trace_of(document.run_id, document.traceparent)
        return cls(telemetry, document, trace, worker, document.trace_every)

    @property
    def members(self) -> TaskTrace | None:
        """Itself where members have spans."""
        return self if self.every else None

    @contextmanager
    def around(self) -> Iterator[None]:
        """Members run within this, and log lines say whose they are."""
        document = self.document
        ids = {"run": document.run_id, "group": document.group, "task": document.order.name}
        if self.every or self.trace.parent is not None:
            ids["trace_id"] = f"{self.trace.trace_id:032x}"
        with ExitStack() as stack:
            stack.enter_context(working_for(**ids))
            stack.enter_context(self._context())
            yield

    def _context(self) -> AbstractContextManager[None]:
        if not self.every:
            return within_producers(self.trace)
        return within_span(self.trace.trace_id, self._task_span(), sampled=False)

    def picks(self, index: int) -> bool:
        """Whether a member is sampled."""
        return index % self.every == 0

    def within(self, index: int, attempt: int) -> AbstractContextManager[None]:
        """A sampled member's agent is called within this."""
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
        """Tell the span of an attempt: of a sampled member each, of others those that failed, up to so many."""
        if not self.picks(index):
            if error is None or not self.failures_left:
                return
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
        return member_span(document.run_id, document.group, document.order.name, index, attempt)

    def _task_span(self) -> int:
        return task_span(self.document.run_id, self.document.group, self.document.order.name)


def _exception(error: AttemptFailure, at: float) -> SpanEvent:
    said = {names.EXCEPTION_TYPE: error.type, names.EXCEPTION_MESSAGE: error.message}
    return SpanEvent("exception", at, said)
