"""Follows one execution from its watch to its outcome, and passes on its log."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from anabranch.sdk.programs.spec import MAX_LINE_BYTES, MAX_OUTPUT_BYTES, ProgramSpec
from anabranch_taskgroup.worker.executors.programs.engine import EngineUnavailable, LineSink, ProgramOutcome
from anabranch_taskgroup.worker.executors.programs.kubernetes.api import Api
from anabranch_taskgroup.worker.executors.programs.kubernetes.handles import JobHandle
from anabranch_taskgroup.worker.executors.programs.kubernetes.log_follower import LogFollower
from anabranch_taskgroup.worker.executors.programs.kubernetes.manifest import CONTAINER, SIDECAR, uses_sidecar
from anabranch_taskgroup.worker.executors.programs.kubernetes.objects import PodState
from anabranch_taskgroup.worker.executors.programs.kubernetes.outcome import Ended, Waits, gone, judge
from anabranch_taskgroup.worker.executors.programs.kubernetes.results import (
    KeptLog,
    reads_log,
    with_log,
    with_message,
    with_sidecar,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes.watches import Watch

LOG_SECONDS = 10.0
"""How long the rest of a log is waited for after the end of the program."""
RESULT_SECONDS = 60.0
"""The same where the log is the result."""


class Following:
    """One call of `follow`."""

    def __init__(
        self, api: Api, watch: Watch, handle: JobHandle, spec: ProgramSpec, on_line: LineSink, stuck_seconds: float
    ) -> None:
        self._api = api
        self._watch = watch
        self._handle = handle
        self._spec = spec
        self._on_line = on_line
        self._stuck_seconds = stuck_seconds
        self._stuck_since: float | None = None
        self._why = ""
        self._kept = KeptLog(spec.output)
        self._log: LogFollower | None = None
        self._log_task: asyncio.Task[None] | None = None

    async def outcome(self) -> ProgramOutcome:
        """Wait for the end.

        Raises:
            EngineUnavailable: the watch is broken for long, or the result cannot be read now.
            ApiError, ApiUnreachable: the API refuses a call or does not answer.
        """
        try:
            async with self._watch.changes(self._handle.name) as changed:
                # The view may be behind: it may not show a new Job yet, and still show one that was removed.
                if await self._api.get("jobs", self._handle.namespace, self._handle.name) is None:
                    return gone(str(self._handle))
                if not self._is_known():
                    await self._first_seen(changed)
                return await self._until_ended(changed)
        finally:
            if self._log_task is not None:
                self._log_task.cancel()
                with suppress(asyncio.CancelledError):
                    await self._log_task

    def _is_known(self) -> bool:
        return self._handle.name in self._watch.view.jobs

    async def _first_seen(self, changed: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(RESULT_SECONDS):
                await changed.wait()
        except TimeoutError:
            raise EngineUnavailable(f"the watch does not show {self._handle}, which exists") from None

    async def _until_ended(self, changed: asyncio.Event) -> ProgramOutcome:
        name, view = self._handle.name, self._watch.view
        while True:
            changed.clear()
            pod = view.pods.get(name)
            self._follow_log(pod)
            verdict = judge(str(self._handle), view.jobs.get(name), pod, view.failed_creates.get(name, ""))
            if isinstance(verdict, Ended):
                if not self._waits_for_sidecar(verdict.outcome, pod):
                    return await self._with_output(verdict.outcome, pod)
                verdict = Waits()
            self._tell(verdict.why)
            remaining = self._stuck_remaining(verdict)
            if remaining is not None and remaining <= 0 and verdict.stuck_outcome is not None:
                return verdict.stuck_outcome
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await changed.wait()
            await self._watch.synced()

    def _follow_log(self, pod: PodState | None) -> None:
        """Begin to read the log once the program has started, and notice its end."""
        if pod is None or pod.program is None or pod.program.state == "waiting":
            if self._log is not None and pod is None:
                self._log.container_ended()
            return
        if self._log is None:
            self._log = LogFollower(
                self._api,
                (self._handle.namespace, pod.name, CONTAINER),
                self._line,
                MAX_OUTPUT_BYTES if reads_log(self._spec) else 2 * MAX_LINE_BYTES,
            )
            self._log_task = asyncio.create_task(self._log.run())
        if pod.program.state == "terminated" or pod.is_over:
            self._log.container_ended()

    def _line(self, text: str) -> None:
        self._kept.line(text)
        self._on_line("stdout", cut(text.rstrip("\r")))

    def _tell(self, why: str) -> None:
        if why and why != self._why:
            self._on_line("stderr", cut(f"kubernetes: {why}"))
        self._why = why

    def _stuck_remaining(self, verdict: Waits) -> float | None:
        """Seconds until a state that may be final is an outcome; None if it is not such a state."""
        if verdict.stuck_outcome is None:
            self._stuck_since = None
            return None
        now = asyncio.get_running_loop().time()
        if self._stuck_since is None:
            self._stuck_since = now
        return self._stuck_since + self._stuck_seconds - now

    def _waits_for_sidecar(self, outcome: ProgramOutcome, pod: PodState | None) -> bool:
        return outcome.exit_code == 0 and uses_sidecar(self._spec) and pod is not None and not pod.is_over

    async def _with_output(self, outcome: ProgramOutcome, pod: PodState | None) -> ProgramOutcome:
        await self._rest_of_log()
        if outcome.exit_code != 0 or outcome.reason or pod is None or pod.program is None:
            return outcome
        if reads_log(self._spec):
            return with_log(outcome, self._kept)
        if uses_sidecar(self._spec):
            return with_sidecar(outcome, await self._sidecar_log(pod))
        return with_message(outcome, pod.program.message)

    async def _rest_of_log(self) -> None:
        """Wait for the rest of the log. An incomplete one is an error only where the log is the result."""
        if self._log is None or self._log_task is None:
            return
        needed = reads_log(self._spec)
        self._log.container_ended()
        await asyncio.wait([self._log_task], timeout=RESULT_SECONDS if needed else LOG_SECONDS)
        if self._log_task.done() and not self._log_task.cancelled():
            self._log_task.result()
        if self._log.is_complete:
            return
        cause = self._log.failure or "the stream of the log does not end"
        if needed:
            raise EngineUnavailable(f"cannot read the result of {self._handle} from its log: {cause}")
        self._on_line("stderr", cut(f"kubernetes: the rest of the log is missing: {cause}"))

    async def _sidecar_log(self, pod: PodState) -> KeptLog:
        kept = KeptLog("stdout-json")
        log = LogFollower(self._api, (self._handle.namespace, pod.name, SIDECAR), kept.line, MAX_OUTPUT_BYTES)
        log.container_ended()
        with suppress(TimeoutError):
            async with asyncio.timeout(RESULT_SECONDS):
                await log.run()
        if not log.is_complete:
            raise EngineUnavailable(f"cannot read the result of {self._handle} from its sidecar: {log.failure}")
        return kept


def cut(text: str) -> str:
    """A line of at most `MAX_LINE_BYTES`."""
    if len(text) * 4 <= MAX_LINE_BYTES:
        return text
    return text.encode()[:MAX_LINE_BYTES].decode(errors="ignore")
