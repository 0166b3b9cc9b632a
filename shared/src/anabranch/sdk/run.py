"""One run as its submitter holds it: wait for its end, follow it, stop it.

A `Run` is made by a `Client` and lives as long as that is open. It polls nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anabranch.core.wire.events import EventBatch
from anabranch.sdk.references import resolve, resolve_all
from anabranch.sdk.run_events import Start, follow_batches, follow_events
from anabranch.sdk.run_result import RunResult, no_executions
from anabranch.sdk.watch import Body, RunWatch

if TYPE_CHECKING:
    from anabranch.sdk.client import Client


@dataclass(frozen=True, slots=True)
class Published:
    """One result of a run, as it was published; `value` is resolved."""

    key: str
    value: Any
    task: str | None = None


class Run:
    """A submitted run.

    Attributes:
        run_id: the run's id; always the same for one request id.
        request_id: the request's id; None where the run was found by its run id.
        session_id: the run's session; None where the run was found by its id and has not ended.
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
        """Wait for the end of the run, whatever it is, and return it with all references resolved.

        Args:
            timeout: seconds to wait; the run itself goes on after it.
            check: raise unless the run completed.

        Raises:
            TimeoutError: the run has not ended within `timeout`.
            RunFailed, RunCancelled, RunTimedOut, RequestRefused: with `check`, how it ended.
            ServerUnavailable: a value that has to be read from the store cannot be.
        """
        async with asyncio.timeout(timeout):
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
    def heard(self) -> bool:
        """Whether the system has answered: the run was accepted, or there is more."""
        return self._watch.heard

    async def events(self, *, until_now: bool = False) -> AsyncGenerator[dict[str, Any], None]:
        """The run's lifecycle events one by one, in order: `{type, time, seq, run_id, group, task, index,
        attempt, ...}`. Ends with the run, or with `until_now` at what there is by now.

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
        """The same as they travel, a chunk of members at once: for views that only count. May repeat."""
        links = self._client
        async with contextlib.aclosing(
            follow_batches(links.log, links.names, self.run_id, self._start, self._watch.final)
        ) as batches:
            async for batch in batches:
                yield batch

    async def results(self) -> AsyncGenerator[Published, None]:
        """Each result as it is published, once; those published before this run was watched come at its end.
        Raises ServerUnavailable where a value cannot be read."""
        told: set[str] = set()
        async with contextlib.aclosing(self._watch.published()) as published:
            async for body in published:
                key = str(body.get("result_key"))
                told.add(key)
                yield Published(key, await self._resolved(body, body.get("value")), body.get("task_name"))
        final = await asyncio.shield(self._watch.final)
        results = await self._resolved(final, final.get("results") or {})
        for key, value in results.items():
            if key not in told:
                yield Published(key, await self._resolved(final, value))

    async def cancel(self) -> None:
        """Ask for the run to be cancelled; `result` tells when it is. Raises ServerUnavailable."""
        await self._client.control("cancel", run_id=self.run_id)

    async def pause(self) -> None:
        """Ask that no further members start. Raises ServerUnavailable."""
        await self._client.control("pause", run_id=self.run_id)

    async def resume(self) -> None:
        """Go on after `pause`. Raises ServerUnavailable."""
        await self._client.control("resume", run_id=self.run_id)

    async def redrive(
        self, group: str | None = None, task: str | None = None, indexes: Sequence[int] | None = None
    ) -> None:
        """Let failed members that are held (`on_failure: hold`) run again. What is left out means all of them.

        Raises:
            RequestRefused: `indexes` without `task`.
            ServerUnavailable: it could not be asked for.
        """
        await self._client.control("redrive", run_id=self.run_id, group=group, task=task, indexes=indexes)

    async def dismiss(
        self, group: str | None = None, task: str | None = None, indexes: Sequence[int] | None = None
    ) -> None:
        """Let failed members that are held count as failed, so that their join goes on. See `redrive`."""
        await self._client.control("dismiss", run_id=self.run_id, group=group, task=task, indexes=indexes)

    async def _resolved(self, body: Body, value: Any) -> Any:
        """Resolve a record's value."""
        within = body.get("session_id") or ""
        return await resolve(self._client.store, self._client.names, value, within=within)

    def __repr__(self) -> str:
        return f"<Run {self.run_id}>"


def result_of(body: Body, results: Mapping[str, Any], run: Run) -> RunResult:
    """The result out of a final record, or of a rejection, whose results have been resolved."""
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
    )
