"""A run in a client: wait for its end, follow its events, control it.

A `Client` creates a `Run`, which can be used while the client is open.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anabranch.core.costs import costs_in
from anabranch.core.wire.events import EventBatch
from anabranch.sdk.approvals import Answerable, Decision, send_decision
from anabranch.sdk.references import resolve, resolve_all
from anabranch.sdk.run_events import Start, follow_batches, follow_events
from anabranch.sdk.run_result import RunResult, no_executions, origin_of
from anabranch.sdk.watch import Body, RunWatch

if TYPE_CHECKING:
    from anabranch.sdk.client import Client


@dataclass(frozen=True, slots=True)
class Published:
    """One published result of a run; `value` is resolved."""

    key: str
    value: Any
    task: str | None = None


class Run:
    """A submitted run.

    Attributes:
        run_id: the run's id; always the same for one request id.
        request_id: the request's id; None if the run was looked up by its run id.
        session_id: the run's session; None if the run was looked up and the store does not know its session.
    """

    def __init__(
        self, client: Client, watch: RunWatch, session_id: str | None, start: Start, warnings: tuple[str, ...] = ()
    ) -> None:
        self.run_id = watch.run_id
        self.request_id = watch.request_id
        self.session_id = session_id
        self.warnings = warnings
        self._client = client
        self._watch = watch
        self._start = start

    async def result(self, timeout: float | None = None, *, check: bool = False) -> RunResult:
        """Wait for the end of the run and return its outcome with all references resolved.

        Args:
            timeout: maximum seconds to wait. The run itself continues after the timeout.
            check: raise an error unless the run completed.

        Raises:
            TimeoutError: the run has not ended within `timeout`.
            RunFailed, RunCancelled, RunTimedOut, RequestRefused: with `check`, the run did not complete.
            ServerUnavailable: a value cannot be read from the store.
        """
        async with asyncio.timeout(timeout):
            # The future is shared: the timeout of one caller must not cancel it for the others.
            body = await asyncio.shield(self._watch.final)
            links, session = self._client, body.get("session_id") or ""
            results = await resolve_all(links.store, links.names, body.get("results") or {}, within=session)
        result = result_of(body, results, self)
        return result.check() if check else result

    async def ended(self, timeout: float | None = None) -> str:
        """Wait for the run's end and return its status, without reading its results.

        Raises:
            TimeoutError: the run has not ended within `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            body = await asyncio.shield(self._watch.final)
        return str(body["status"])

    @property
    def acknowledged(self) -> bool:
        """True once a record of the run has arrived: it was accepted or rejected."""
        return self._watch.acknowledged

    async def events(self, *, until_now: bool = False) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the run's lifecycle events in order: `{type, time, seq, run_id, group, task, index, attempt,
        ...}`. Ends with the run, or with `until_now` after the events that are on the log now.

        Raises:
            ServerUnavailable: the log cannot be reached.
        """
        links = self._client
        async with contextlib.aclosing(
            follow_events(links.log, links.names, self.run_id, self._start, self._watch.final, until_now)
        ) as events:
            async for event in events:
                yield event

    async def event_batches(self) -> AsyncGenerator[EventBatch, None]:
        """Yield the run's events in batches, each entry with many members: for views that count. Batches may be
        repeated."""
        links = self._client
        async with contextlib.aclosing(
            follow_batches(links.log, links.names, self.run_id, self._start, self._watch.final)
        ) as batches:
            async for batch in batches:
                yield batch

    async def results(self) -> AsyncGenerator[Published, None]:
        """Yield each result once, as it is published. Results that were published before this run was watched
        follow at its end. Raises ServerUnavailable if a value cannot be read."""
        seen: set[str] = set()
        async with contextlib.aclosing(self._watch.published()) as published:
            async for body in published:
                key = str(body.get("result_key"))
                seen.add(key)
                yield Published(key, await self._resolved(body, body.get("value")), body.get("task_name"))
        final = await asyncio.shield(self._watch.final)
        results = await self._resolved(final, final.get("results") or {})
        for key, value in results.items():
            if key not in seen:
                yield Published(key, await self._resolved(final, value))

    async def cancel(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Request cancellation of the run; `result` returns once it has ended. `by` and `reason` are shown. Raises
        ServerUnavailable."""
        await self._client.control("cancel", run_id=self.run_id, by=by, reason=reason)

    async def fork(
        self,
        tasks: Sequence[str] = (),
        values: Mapping[str, Any] | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a fork of the run, which has ended; see `Client.fork`."""
        return await self._client.fork(self.run_id, tasks=tasks, values=values, request=request)

    async def terminate(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Cancel the run without what it does after a cancellation. Raises ServerUnavailable."""
        await self._client.control("terminate", run_id=self.run_id, by=by, reason=reason)

    async def pause(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Request a pause: no further members start. Raises ServerUnavailable."""
        await self._client.control("pause", run_id=self.run_id, by=by, reason=reason)

    async def resume(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Resume a paused run. Raises ServerUnavailable."""
        await self._client.control("resume", run_id=self.run_id, by=by, reason=reason)

    async def redrive(
        self, group: str | None = None, task: str | None = None, indexes: Sequence[int] | None = None
    ) -> None:
        """Run held members (`on_failure: hold`) again. An omitted argument means all of them.

        Raises:
            RequestRefused: `indexes` is given without `task`.
            ServerUnavailable: the request could not be published.
        """
        await self._client.control("redrive", run_id=self.run_id, group=group, task=task, indexes=indexes)

    async def dismiss(
        self, group: str | None = None, task: str | None = None, indexes: Sequence[int] | None = None
    ) -> None:
        """Count held members as failed, so that their join continues. Arguments and errors as for `redrive`."""
        await self._client.control("dismiss", run_id=self.run_id, group=group, task=task, indexes=indexes)

    async def signal(self, name: str, value: Any = None, *, signal_id: str | None = None) -> None:
        """Send a signal: its value is that of the first task that waits for `name`, now or later.

        Args:
            signal_id: a repeated id counts once; by default each call is a signal of its own.

        Raises:
            RequestRefused: the name or the id is not valid.
            ServerUnavailable: the signal could not be published.
        """
        await self._client.control("signal", run_id=self.run_id, name=name, value=value, signal_id=signal_id)

    async def approve(
        self,
        task: str,
        decision: str = "approve",
        *,
        group: str | None = None,
        index: int | None = None,
        data: Any = None,
        comment: str = "",
        by: str | None = None,
        decision_id: str | None = None,
    ) -> Decision:
        """Decide about a task that waits for an approval, and return once the decision counts.

        Args:
            decision: one of the options of the approval.
            group: the group of the task, if several have a task of this name.
            index: the member of an expanded task; by default the first that waits.
            data: what was filled into the form of the approval.
            by: the person who decides.
            decision_id: a repeated id counts once; by default each call is a decision of its own.

        Raises:
            DecisionRefused: it does not count, for example because another one came first.
            ServerUnavailable: the decision could not be published.
        """
        return await send_decision(
            self._client.links,
            Answerable(
                self.run_id,
                task,
                decision,
                group=group,
                index=index,
                data=data,
                comment=comment,
                by=by,
                decision_id=decision_id,
            ),
        )

    async def _resolved(self, body: Body, value: Any) -> Any:
        """Resolve a record's value."""
        within = body.get("session_id") or ""
        return await resolve(self._client.store, self._client.names, value, within=within)

    def __repr__(self) -> str:
        return f"<Run {self.run_id}>"


def result_of(body: Body, results: Mapping[str, Any], run: Run) -> RunResult:
    """The result of a run from its final record or rejection, with resolved results."""
    counts = body.get("executions") or no_executions()
    return RunResult(
        run_id=run.run_id,
        request_id=str(body.get("request_id") or run.request_id or ""),
        session_id=str(body.get("session_id") or run.session_id or ""),
        status=body["status"],
        results=results,
        failures=tuple(body.get("failures") or ()),
        executions={name: counts.get(name, 0) for name in no_executions()},
        warnings=tuple(dict.fromkeys([*run.warnings, *(body.get("warnings") or ())])),
        duration_seconds=float(body.get("duration_seconds") or 0.0),
        errors=tuple(body.get("errors") or ()),
        retry_of=body.get("retry_of"),
        taken_over=int(body.get("taken_over") or 0),
        skipped=tuple(body.get("skipped") or ()),
        handled_failures=int(body.get("handled_failures") or 0),
        stopped_by=body.get("stopped_by"),
        origin=origin_of(body),
        compensation=body.get("compensation"),
        costs=costs_in(body),
    )
