"""Errors of the task registry. Pure."""

from __future__ import annotations

from anabranch.core.errors import AnabranchError


class TaskStateError(AnabranchError):
    """The status of a task does not allow the call, for example an update of a task that runs. HTTP: 409."""


class TaskRefused(AnabranchError, ValueError):
    """A task cannot be created or changed as asked; `problems` has every reason. HTTP: 422."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__(problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)


class TaskNotFound(AnabranchError, LookupError):
    """There is no task, execution or project with this id. HTTP: 404."""

    def __init__(self, kind: str, id: str) -> None:
        self.kind = kind
        self.id = id
        super().__init__(kind, id)

    def __str__(self) -> str:
        return f"there is no {self.kind} {self.id}"
