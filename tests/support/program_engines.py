"""Engines of programs that the contract suite runs on, and the executions that it starts."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from container_effects import ENGINE_VARIABLE, IMAGE_VARIABLE
from docker_api import docker_api
from kubernetes_api import kubernetes_api

from anabranch.runtime.process.settings import Settings
from anabranch.sdk.programs.spec import ProgramKind, ProgramSpec
from anabranch_taskgroup.worker.executors.programs import container, kubernetes
from anabranch_taskgroup.worker.executors.programs.engine import Execution, ProgramEngine

KUBECONFIG_VARIABLE = "ANABRANCH_TEST_KUBECONFIG"
"""A kubeconfig whose context names a namespace that tests may use."""
KUBERNETES_IMAGE_VARIABLE = "ANABRANCH_TEST_JOB_IMAGE"
"""An image with /bin/sh that the cluster has."""

_numbers = itertools.count(1)


@dataclass
class EngineUnderTest:
    """An engine of the suite.

    Attributes:
        image: an image with `/bin/sh`.
        connect: opens the engine of one more worker.
    """

    kind: ProgramKind
    image: str
    installation: str
    connect: Callable[[], ProgramEngine]
    options: dict[str, str] = field(default_factory=dict)

    def execution(
        self, script: str, inputs: Any = None, labels: dict[str, str] | None = None, **spec: Any
    ) -> Execution:
        """An execution of a shell script with a name of its own."""
        return self.command(["/bin/sh", "-c", script], inputs, labels, **spec)

    def command(
        self, command: list[str], inputs: Any = None, labels: dict[str, str] | None = None, **spec: Any
    ) -> Execution:
        name = f"ab-{self.installation}-{next(_numbers)}"
        found = {"installation": self.installation, "run_id": "run 1", "work": name, **(labels or {})}
        options = {**self.options, **spec.pop("options", {})}
        program = ProgramSpec(
            **{"kind": self.kind, "command": tuple(command), "image": self.image, "options": options, **spec}
        )
        return Execution(name, program, json.dumps(inputs).encode(), found)


@asynccontextmanager
async def kubernetes_in_process(folder: Path, installation: str) -> AsyncIterator[EngineUnderTest]:
    """The engine of Jobs on an API in this process."""
    async with kubernetes_api(folder) as api:
        settings = Settings.load({}, overrides={"kubernetes_kubeconfig": str(api.kubeconfig(folder))})
        yield EngineUnderTest("kubernetes", "tests/shell", installation, lambda: kubernetes.open_engine(settings))


@asynccontextmanager
async def kubernetes_cluster(folder: Path, installation: str) -> AsyncIterator[EngineUnderTest]:
    """The engine of Jobs on the cluster of a kubeconfig."""
    settings = Settings.load({}, overrides={"kubernetes_kubeconfig": os.environ[KUBECONFIG_VARIABLE]})
    image = os.environ[KUBERNETES_IMAGE_VARIABLE]
    options = {"image_pull_policy": "IfNotPresent"}
    yield EngineUnderTest("kubernetes", image, installation, lambda: kubernetes.open_engine(settings), options)


@asynccontextmanager
async def containers_in_process(folder: Path, installation: str) -> AsyncIterator[EngineUnderTest]:
    """The engine of containers on an API in this process."""
    async with docker_api(folder):
        settings = Settings.load({}, overrides={"container_socket": f"unix://{folder}/docker.sock"})
        yield EngineUnderTest("container", "tests/shell", installation, lambda: container.open_engine(settings))


@asynccontextmanager
async def container_engine(folder: Path, installation: str) -> AsyncIterator[EngineUnderTest]:
    """The engine of containers on Docker or Podman."""
    settings = Settings.load({}, overrides={"container_socket": os.environ[ENGINE_VARIABLE]})
    image = os.environ[IMAGE_VARIABLE]
    yield EngineUnderTest("container", image, installation, lambda: container.open_engine(settings))


ENGINES = {"container": containers_in_process, "kubernetes": kubernetes_in_process}
"""What opens an engine, by name. Real ones are tested where the environment names one."""
if ENGINE_VARIABLE in os.environ:
    ENGINES["container-engine"] = container_engine
if KUBECONFIG_VARIABLE in os.environ:
    ENGINES["kubernetes-cluster"] = kubernetes_cluster


class Workers:
    """Engines of several workers, closed at the end."""

    def __init__(self, under_test: EngineUnderTest, stack: AsyncExitStack) -> None:
        self._under_test = under_test
        self._stack = stack

    def one_more(self) -> ProgramEngine:
        engine = self._under_test.connect()
        self._stack.push_async_callback(engine.close)
        return engine


class Lines:
    """Lines that a program printed, each stream for itself."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def __call__(self, stream: str, text: str) -> None:
        self.all.append((stream, text))

    @property
    def stdout(self) -> list[str]:
        return [text for stream, text in self.all if stream == "stdout"]
