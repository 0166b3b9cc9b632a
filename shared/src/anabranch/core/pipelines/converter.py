"""The converter of pipelines: recognizes the system that a document is of, and converts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from anabranch.core.errors import Code, Problem
from anabranch.core.json_values import NotJson, as_json
from anabranch.core.pipelines.celery import convert_canvas
from anabranch.core.pipelines.conversion import Conversion
from anabranch.core.pipelines.github.workflow import Engine, convert_workflow
from anabranch.core.request.admission import read_request

System = Literal["github", "celery"]
SYSTEMS: Final[tuple[System, ...]] = ("github", "celery")


class PipelineConverter:
    """Turns workflows of GitHub Actions and canvases of Celery into requests. Pure: it reads no file.

    What a request cannot express is an error with its path and the reason, and there is no request. What is left
    out, or means something slightly different, is a warning.

    Args:
        actions: shell scripts that replace the `uses` of steps, by the name of the action with or without its
            version: `{"actions/checkout": "git clone --depth 1 https://example.com/repository ."}`.
        engine: the built-in agent that runs jobs of GitHub Actions without `container`.
        container_engine: that of jobs with `container`.
    """

    def __init__(
        self,
        *,
        actions: Mapping[str, str] | None = None,
        engine: Engine = "process",
        container_engine: Engine = "container",
    ) -> None:
        self._actions = dict(actions or {})
        self._engine = engine
        self._container_engine = container_engine

    def convert(self, document: Any, system: System | None = None) -> Conversion:
        """Convert a document of a system; None: the system is recognized by the document's fields."""
        try:
            document = as_json(document)
        except NotJson as error:
            return Conversion(None, (Problem(Code.SCHEMA, "", f"the pipeline is not JSON: {error}"),))
        match system or recognize(document):
            case "github":
                return self.from_github(document)
            case "celery":
                return self.from_celery(document)
        problem = Problem(
            Code.SCHEMA, "", "this is no workflow of GitHub Actions (`jobs`), and no canvas of Celery (`task`)",
            f"name its system: one of {', '.join(SYSTEMS)}",
        )  # fmt: skip
        return Conversion(None, (problem,))

    def from_github(self, workflow: Any) -> Conversion:
        """Convert a workflow of GitHub Actions, as its parsed YAML."""
        if not isinstance(workflow, Mapping):
            return Conversion(None, (Problem(Code.SCHEMA, "", "a workflow of GitHub Actions is an object"),))
        found = convert_workflow(
            workflow, actions=self._actions, engine=self._engine, container_engine=self._container_engine
        )
        return _admissible(found)

    def from_celery(self, canvas: Any) -> Conversion:
        """Convert a canvas of Celery: a signature as JSON, with `chain`, `group` and `chord`."""
        return _admissible(convert_canvas(canvas))


def recognize(document: Any) -> System | None:
    """The system that a document is of; None if no system has such documents."""
    if isinstance(document, list):
        return "celery"
    if not isinstance(document, Mapping):
        return None
    if "jobs" in document:
        return "github"
    return "celery" if "task" in document else None


def _admissible(found: Conversion) -> Conversion:
    """The conversion, refused if its request would be: because of names or limits of requests."""
    if found.request is None:
        return found
    errors = read_request(found.request).errors
    return found if not errors else Conversion(None, errors, found.warnings)
