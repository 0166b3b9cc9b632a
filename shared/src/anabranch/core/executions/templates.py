"""Types of workflows: the built-in one, and requests that an operator has named. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch.core.executions.drafts import CONTAINERIZED, ExecutionDraft
from anabranch.core.tasks.errors import TaskRefused


def request_of_type(draft: ExecutionDraft, templates: Mapping[str, Mapping[str, Any]]) -> ExecutionDraft:
    """The draft, which holds the request of its type of workflow if that is a template.

    Raises:
        TaskRefused: there is no such type, or a request is given that is no object.
    """
    if draft.workflow_type == CONTAINERIZED:
        given = draft.workflow_params.get("request")
        if given is not None and not isinstance(given, Mapping):
            raise TaskRefused(("workflow_params.request must be an object: a request",))
        return draft
    if (template := templates.get(draft.workflow_type)) is None:
        known = ", ".join(sorted((CONTAINERIZED, *templates)))
        raise TaskRefused((f"workflow type {draft.workflow_type!r} does not exist; there are: {known}",))
    return draft.model_copy(update={"workflow_params": {**draft.workflow_params, "request": dict(template)}})
