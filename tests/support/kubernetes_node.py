"""The Job controller and the only node of an in-process Kubernetes: programs of pods run as processes here."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import re
import signal
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes_objects import Event, Objects, Thing

A_VALID_IMAGE = re.compile(r"[a-z0-9./:@_-]+")
MISSING_IMAGE = "missing/"


@dataclass
class Container:
    """A program of a pod: its log, and its process while it runs."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    is_over: bool = False

    def line(self, text: str) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self.lines.append((now.strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{len(self.lines) % 1000:03}Z", text))
        self.tell()

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Node:
    """Runs the pods of Jobs."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects = objects
        self._folder = folder
        self._tasks: set[asyncio.Task[None]] = set()
        self.containers: dict[tuple[str, str], Container] = {}
        self.reasons: dict[str, str] = {}
        self.refused_pods: str | None = None
        objects.on_change.append(self._observed)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for container in self.containers.values():
            if container.process is not None and container.process.returncode is None:
                os.killpg(container.process.pid, signal.SIGKILL)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- the Job controller

    def _observed(self, event: Event) -> None:
        metadata = event.thing["metadata"]
        if event.resource == "jobs" and event.type != "DELETED":
            is_open = not event.thing["spec"].get("suspend") and "deletionTimestamp" not in metadata
            is_new = not (event.thing.get("status") or {}).get("conditions")
            if is_open and is_new and self.pod_of(metadata["namespace"], metadata["name"]) is None:
                self.in_background(self._run_job(event.thing))

    async def _run_job(self, job: Thing) -> None:
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        if self.refused_pods:
            event = {"metadata": {"name": f"{name}.1", "namespace": namespace}, "message": self.refused_pods}
            self._objects.create("events", {**event, "involvedObject": {"kind": "Job", "name": name}})
            return
        template = job["spec"]["template"]
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": name}
        pod = {
            "metadata": {
                **template["metadata"],
                "labels": labels,
                "name": f"{name[:50]}-pod",
                "namespace": namespace,
            },
            "spec": {**template["spec"], "nodeName": "node"},
            "status": {"phase": "Pending"},
        }
        if self._objects.has("pods", namespace, pod["metadata"]["name"]):
            return
        self._objects.create("pods", pod)
        deadline = job["spec"].get("activeDeadlineSeconds")
        running = asyncio.create_task(self._run_pod(pod))
        self._tasks.add(running)
        done, _ = await asyncio.wait([running], timeout=deadline)
        self._tasks.discard(running)
        if not done:
            self._condition("jobs", namespace, name, "FailureTarget", "DeadlineExceeded")
            await self.end_pod(namespace, pod["metadata"]["name"], None)
            self._condition("jobs", namespace, name, "Failed", "DeadlineExceeded")
            await running
            return
        succeeded = self._status(namespace, pod["metadata"]["name"]).get("phase") == "Succeeded"
        reason = "CompletionsReached" if succeeded else "BackoffLimitExceeded"
        self._condition("jobs", namespace, name, "Complete" if succeeded else "Failed", reason)

    async def delete_job(self, namespace: str, name: str, propagation: str) -> None:
        pod = self.pod_of(namespace, name)
        if propagation == "Foreground":
            self._objects.update("jobs", namespace, name, _mark_deleted)
            if pod:
                await self.end_pod(namespace, pod["metadata"]["name"], None)
            self._objects.remove("jobs", namespace, name)
        else:
            self._objects.remove("jobs", namespace, name)
            if pod:
                await self.end_pod(namespace, pod["metadata"]["name"], None)
        for each in self._objects.list("configmaps", namespace, {}):
            owners = each["metadata"].get("ownerReferences") or ()
            if any(owner["name"] == name for owner in owners):
                self._objects.remove("configmaps", namespace, each["metadata"]["name"])

    # --- the node

    def pod_of(self, namespace: str, job: str) -> Thing | None:
        return next(iter(self._objects.list("pods", namespace, {"batch.kubernetes.io/job-name": job})), None)

    async def end_pod(self, namespace: str, name: str, grace: float | None) -> None:
        """Delete a pod: TERM, then KILL, then the object is gone."""
        if not self._objects.has("pods", namespace, name):
            return
        self._objects.update("pods", namespace, name, _mark_deleted)
        container = self.containers.get((namespace, name))
        if container is not None and container.process is not None and not container.is_over:
            spec = self._objects.get("pods", namespace, name)["spec"]
            seconds = spec["terminationGracePeriodSeconds"] if grace is None else grace
            if seconds > 0:
                _signal(container.process, signal.SIGTERM)
                await asyncio.wait([asyncio.ensure_future(container.process.wait())], timeout=seconds)
            _signal(container.process, signal.SIGKILL)
            while not container.is_over:
                await container.changed.wait()
        self._objects.remove("pods", namespace, name)

    async def _run_pod(self, pod: Thing) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        spec = pod["spec"]["containers"][0]
        if pod["spec"].get("nodeSelector"):
            message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
            self._condition("pods", namespace, name, "PodScheduled", "Unschedulable", message, "False")
            return await self._until_gone(namespace, name)
        for image in [spec["image"], *(each["image"] for each in pod["spec"].get("initContainers", ()))]:
            if not A_VALID_IMAGE.fullmatch(image):
                self._waiting(namespace, name, "InvalidImageName", f'Failed to apply default image tag "{image}"')
                return await self._until_gone(namespace, name)
            if image.startswith(MISSING_IMAGE):
                self._waiting(namespace, name, "ErrImagePull", f'failed to pull image "{image}": not found')
                self._waiting(namespace, name, "ImagePullBackOff", f'Back-off pulling image "{image}"')
                return await self._until_gone(namespace, name)
        container = self.containers[namespace, name] = Container()
        self._waiting(namespace, name, "ContainerCreating", "")
        await self._run_program(pod, spec, container)
        return None

    async def _run_program(self, pod: Thing, spec: Thing, container: Container) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        folder = self._folder / name
        variables = self._mounted(pod, spec, folder)
        command = [_plain(each) for each in (*spec.get("command", ["true"]), *spec.get("args", ()))]
        try:
            container.process = await asyncio.create_subprocess_exec(
                *command,
                env={"PATH": os.environ["PATH"], **variables},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError:
            message = f'exec: "{command[0]}": executable file not found in $PATH: unknown'
            container.is_over = True
            container.tell()
            return self._terminated(namespace, name, 128, "StartError", message)
        self._state(namespace, name, {"running": {}}, "Running")
        assert container.process.stdout is not None
        async for line in container.process.stdout:
            container.line(line.decode(errors="replace").rstrip("\n"))
        code = await container.process.wait()
        code = code if code >= 0 else 128 - code
        message_file = folder / "dev/termination-log"
        message = message_file.read_bytes()[-4096:].decode() if message_file.exists() else ""
        sidecar = self.containers[namespace, f"{name}/result"] = Container(is_over=True)
        output = folder / "anabranch/output/result.json"
        if output.exists():
            sidecar.line(str(len(output.read_bytes())))
            for line in output.read_text().splitlines():
                sidecar.line(line)
        reason = self.reasons.get(name) or ("Completed" if code == 0 else "Error")
        self._terminated(namespace, name, code, reason, message)
        container.is_over = True
        container.tell()
        return None

    def _mounted(self, pod: Thing, spec: Thing, folder: Path) -> dict[str, str]:
        """Create the files of the volumes, and return the environment with the places where they are here."""
        for path in ("anabranch/input", "anabranch/output", "dev"):
            (folder / path).mkdir(parents=True, exist_ok=True)
        for volume in pod["spec"]["volumes"]:
            text = None
            if "downwardAPI" in volume:
                item = volume["downwardAPI"]["items"][0]
                annotation = (
                    item["fieldRef"]["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
                )
                text = pod["metadata"]["annotations"][annotation]
            if "configMap" in volume:
                namespace = pod["metadata"]["namespace"]
                config_map = self._objects.get("configmaps", namespace, volume["configMap"]["name"])
                text = config_map["data"]["inputs.json"]
            if text is not None:
                (folder / "anabranch/input/inputs.json").write_text(text)
        values = {each["name"]: _plain(each["value"]) for each in spec["env"]}
        return {
            name: f"{folder}{value}" if value.startswith(("/anabranch/", "/dev/")) else value
            for name, value in values.items()
        }

    async def _until_gone(self, namespace: str, name: str) -> None:
        while self._objects.has("pods", namespace, name):
            changed = asyncio.Event()
            self._objects.on_change.append(lambda _, event=changed: event.set())
            await changed.wait()
            self._objects.on_change.pop()

    # --- states

    def _status(self, namespace: str, name: str) -> Thing:
        if not self._objects.has("pods", namespace, name):
            return {}
        status: Thing = self._objects.get("pods", namespace, name)["status"]
        return status

    def _waiting(self, namespace: str, name: str, reason: str, message: str) -> None:
        self._state(namespace, name, {"waiting": {"reason": reason, "message": message}}, "Pending")

    def _terminated(self, namespace: str, name: str, code: int, reason: str, message: str) -> None:
        state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
        self._state(namespace, name, state, "Succeeded" if code == 0 else "Failed")

    def _state(self, namespace: str, name: str, state: Thing, phase: str) -> None:
        def change(pod: Thing) -> None:
            pod["status"] |= {"phase": phase, "containerStatuses": [{"name": "program", "state": state}]}

        self._objects.update("pods", namespace, name, change)

    def _condition(
        self,
        resource: str,
        namespace: str,
        name: str,
        kind: str,
        reason: str,
        message: str = "",
        status: str = "True",
    ) -> None:
        def change(thing: Thing) -> None:
            found = thing.setdefault("status", {}).setdefault("conditions", [])
            found.append({"type": kind, "status": status, "reason": reason, "message": message})

        self._objects.update(resource, namespace, name, change)

    def evict(self, namespace: str, name: str) -> None:
        """End a pod as a node without memory does."""

        def change(pod: Thing) -> None:
            pod["status"] |= {"reason": "Evicted", "message": "The node was low on resource: memory."}

        self._objects.update("pods", namespace, name, change)
        container = self.containers[namespace, name]
        assert container.process is not None
        _signal(container.process, signal.SIGKILL)

    def out_of_memory(self, namespace: str, name: str) -> None:
        """Kill a program as the kernel does."""
        self.reasons[name] = "OOMKilled"
        container = self.containers[namespace, name]
        assert container.process is not None
        _signal(container.process, signal.SIGKILL)


def _mark_deleted(thing: Thing) -> None:
    thing["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")


def _plain(text: str) -> str:
    """What kubelet makes of a text with `$$`; a `$(NAME)` would be expanded."""
    assert not re.search(r"(?<!\$)(?:\$\$)*\$\(", text), f"kubelet expands {text!r}"
    return text.replace("$$", "$")


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    # A thread of asyncio reaps the process before the event loop learns of its end, so its group may be gone.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def as_json(thing: object) -> bytes:
    return json.dumps(thing).encode()
