"""Results of executions: from the termination message, the log of the sidecar, or the program's own log."""

from __future__ import annotations

from dataclasses import replace

from anabranch.sdk.programs.spec import MAX_OUTPUT_BYTES, ProgramSpec
from anabranch_taskgroup.worker.executors.programs.engine import ProgramOutcome
from anabranch_taskgroup.worker.executors.programs.kubernetes.manifest import MAX_MESSAGE

TOO_LARGE = "OutputTooLarge"


class KeptLog:
    """What is kept of a log for the result of the program."""

    def __init__(self, mode: str, limit: int = MAX_OUTPUT_BYTES) -> None:
        """Keep the whole log for `stdout-json`, the last line that is not empty for `last-line`, else nothing."""
        self._mode = mode
        self._limit = limit
        self._lines: list[str] = []
        self._size = 0

    def line(self, text: str) -> None:
        """Take a line in."""
        if self._mode == "last-line":
            if text.strip():
                self._lines = [text]
        elif self._mode == "stdout-json":
            self._size += len(text.encode()) + 1
            if self._size <= self._limit:
                self._lines.append(text)

    @property
    def is_too_large(self) -> bool:
        return self._size > self._limit

    @property
    def text(self) -> str | None:
        """The lines; None if there is none."""
        return "\n".join(self._lines) if self._lines else None


def with_message(outcome: ProgramOutcome, message: str) -> ProgramOutcome:
    """The outcome with the termination message as its output."""
    output = message.encode()
    if len(output) >= MAX_MESSAGE:
        return replace(
            outcome,
            reason=TOO_LARGE,
            message=f"the result has {MAX_MESSAGE} bytes or more, for which a termination message has no room; "
            "set `options: {result: sidecar}` for larger results",
        )
    return replace(outcome, output=output or None)


def with_log(outcome: ProgramOutcome, kept: KeptLog) -> ProgramOutcome:
    """The outcome with the kept log as its output."""
    if kept.is_too_large:
        message = f"the program printed more than {MAX_OUTPUT_BYTES} bytes as its result; use `output: file`"
        return replace(outcome, reason=TOO_LARGE, message=message)
    text = kept.text
    return outcome if text is None else replace(outcome, output=text.encode())


def with_sidecar(outcome: ProgramOutcome, kept: KeptLog) -> ProgramOutcome:
    """The outcome with what the sidecar printed as its output: the size of the result, then the result."""
    if kept.is_too_large:
        return replace(outcome, reason=TOO_LARGE, message=f"the result has more than {MAX_OUTPUT_BYTES} bytes")
    if kept.text is None:
        return outcome
    size, _, text = kept.text.partition("\n")
    output = text.encode()
    expected = int(size) if size.strip().isdecimal() else -1
    # A line break at the end is not a line of its own.
    if expected - len(output) not in (0, 1):
        return replace(
            outcome,
            reason="OutputLost",
            message=f"the sidecar printed {len(output)} bytes of a result of {size.strip()[:20]} bytes: it is no "
            "UTF-8 text, or the node rotated the log away (containerLogMaxSize of kubelet)",
        )
    return replace(outcome, output=output)


def reads_log(spec: ProgramSpec) -> bool:
    """True if the result is the log, or a line of it."""
    return spec.output != "file"
