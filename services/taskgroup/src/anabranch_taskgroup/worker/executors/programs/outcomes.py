"""Turns the outcome of a program into the result of a member, or into the error of its attempt. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from anabranch.core.errors import AnabranchError, AttemptTimeout, GiveUp, ResultError
from anabranch.sdk.programs.spec import MAX_OUTPUT_BYTES, ProgramSpec
from anabranch_taskgroup.worker.executors.programs.engine import ProgramOutcome

MAX_REASON = 60


class ProgramFailed(AnabranchError):
    """A program ended with another exit code than 0, or its platform ended it. The class of the error is named
    after the reason where there is one, such as `OOMKilled`, so that a retry policy can name it."""

    def __str__(self) -> str:
        return str(self.args[0])


@lru_cache(maxsize=128)
def failure_class(reason: str, is_permanent: bool) -> type[ProgramFailed]:
    """The class of the errors with this reason: a `GiveUp` where a further attempt cannot succeed."""
    name = reason if reason.isidentifier() and len(reason) <= MAX_REASON else ProgramFailed.__name__
    if not is_permanent:
        return ProgramFailed if name == ProgramFailed.__name__ else type(name, (ProgramFailed,), {})
    return type(name, (ProgramFailed, GiveUp), {})


def result_of(outcome: ProgramOutcome, spec: ProgramSpec, last_lines: str) -> Any:
    """The result of a program that has succeeded.

    Args:
        last_lines: of its stdout and stderr, for the error.

    Raises:
        ProgramFailed: it has failed.
        AttemptTimeout: its platform ended it, because its time was over.
        ResultError: its output is no JSON.
    """
    if outcome.reason == "DeadlineExceeded" and spec.timeout is not None:
        raise AttemptTimeout(round(spec.timeout, 3))
    if outcome.exit_code != 0 or outcome.reason:
        raise failure_class(outcome.reason, outcome.is_permanent)(_message(outcome, last_lines))
    output = outcome.output
    if output is None or not output.strip():
        if spec.output == "stdout-json":
            raise ResultError("the program has written nothing to stdout, which should be its result as JSON")
        return None
    if spec.output == "last-line":
        return _last_line(output)
    try:
        return orjson.loads(output)
    except orjson.JSONDecodeError as error:
        where = "to $ANABRANCH_OUTPUT" if spec.output == "file" else "to stdout"
        raise ResultError(
            f"what the program has written {where} is no JSON: {error}{_shown(last_lines)}"
        ) from None


def _last_line(output: bytes) -> Any:
    line = output.rstrip().rpartition(b"\n")[2].strip()
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return line.decode("utf-8", "replace")


def _message(outcome: ProgramOutcome, last_lines: str) -> str:
    said = outcome.message
    if not said and outcome.reason:
        said = f"the program was ended: {outcome.reason}"
    if not said:
        said = "the program ended without an exit code"
        if outcome.exit_code is not None:
            said = f"the program ended with exit code {outcome.exit_code}"
    if outcome.reason == "OutputTooLarge" and not outcome.message:
        said = f"the output of the program has more than {MAX_OUTPUT_BYTES:,} bytes"
    return said + _shown(last_lines)


def _shown(last_lines: str) -> str:
    return f"; its last lines:\n{last_lines}" if last_lines else ""
