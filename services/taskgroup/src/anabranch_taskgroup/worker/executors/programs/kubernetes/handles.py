"""Handles of executions: the address of a Job, by which every worker of an installation finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anabranch_taskgroup.worker.executors.programs.kubernetes.labels import INSTALLATION


@dataclass(frozen=True, slots=True)
class JobHandle:
    """The address of a Job.

    Attributes:
        installation: value of its label, by which the watch selects it.
    """

    namespace: str
    name: str
    installation: str

    @classmethod
    def parse(cls, text: str) -> JobHandle:
        """Read `NAMESPACE/NAME/INSTALLATION`.

        Raises:
            ValueError: the text is another engine's.
        """
        parts = text.split("/")
        if len(parts) != 3:
            raise ValueError(
                f"{text!r} is not the handle of a Kubernetes Job, which is NAMESPACE/NAME/INSTALLATION"
            )
        return cls(*parts)

    @classmethod
    def of_job(cls, job: Mapping[str, Any]) -> JobHandle:
        """The handle of a Job of the API."""
        metadata = job["metadata"]
        return cls(metadata["namespace"], metadata["name"], (metadata.get("labels") or {}).get(INSTALLATION, ""))

    @property
    def text(self) -> str:
        return f"{self.namespace}/{self.name}/{self.installation}"

    def __str__(self) -> str:
        return f"Job {self.namespace}/{self.name}"
