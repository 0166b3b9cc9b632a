"""Exit codes of the command, and the translation of errors into a message and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from anabranch.cli.render.output import print_json, say
from anabranch.core.errors import (
    AnabranchError,
    Misconfigured,
    RequestRefused,
    ServerUnavailable,
    StoreRefused,
)

COMPLETED = 0
FAILED = 1
WRONG = 2
STOPPED = 3
UNREACHABLE = 4

_BY_STATUS = {
    "completed": COMPLETED,
    "failed": FAILED,
    "rejected": WRONG,
    "cancelled": STOPPED,
    "timed_out": STOPPED,
}


def code_for(status: str) -> int:
    """The exit code for a run's final status."""
    return _BY_STATUS[status]


@contextmanager
def errors_as_exit(json: bool) -> Iterator[None]:
    """Turn errors of the user, the configuration and servers into a message and an exit code.

    With `json`, the error is also printed as a JSON document. Other exceptions are bugs and pass with a traceback.
    """
    try:
        yield
    except RequestRefused as error:
        _fail(json, WRONG, str(error), errors_document(error))
    except Misconfigured as error:
        _fail(json, WRONG, str(error), _one_error("misconfigured", str(error), error.fix))
    except (ServerUnavailable, StoreRefused) as error:
        _fail(json, UNREACHABLE, str(error), _one_error("server_unavailable", str(error), error.fix))
    # Last, because it is the base class of the others.
    except AnabranchError as error:
        _fail(json, FAILED, str(error), _one_error("failed", str(error), ""))


def errors_document(error: RequestRefused) -> dict[str, Any]:
    """`{"errors": [...], "warnings": [...]}` for a rejected request."""
    return {
        "errors": [problem.to_document() for problem in error.errors],
        "warnings": list(error.warnings),
    }


def _one_error(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "path": "", "message": message, "hint": hint}], "warnings": []}


def _fail(json: bool, code: int, message: str, document: dict[str, Any]) -> None:
    say(f"anabranch: {message}")
    if json:
        print_json(document)
    raise typer.Exit(code)
