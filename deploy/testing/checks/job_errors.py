"""The errors of Jobs on a real node: a program without memory, image, room, time or permission."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from anabranch.runtime.process.settings import Settings
from anabranch.sdk.programs.spec import ProgramLimits, ProgramSpec
from anabranch_taskgroup.worker.executors.programs import kubernetes
from anabranch_taskgroup.worker.executors.programs.engine import (
    EngineUnavailable,
    Execution,
    ProgramEngine,
    ProgramOutcome,
    ProgramRefused,
)
from checks.engine import JOB_IMAGE, namespace_kubeconfig
from checks.release import Release, expect

PYTHON = "/opt/anabranch/bin/python"
FOREVER = "echo up; while :; do sleep 0.2; done"
SECONDS = 120.0
Amid = Callable[[str], object]
"""What happens to a program that runs; called with the name of its Job."""


def job_errors(release: Release) -> dict[str, object]:
    """Each error of docs/programs.md that a node of its own can show, by the engine that the workers have."""
    errors = _namespace(release, "job-errors")
    full = _namespace(release, "job-quota")
    figures = asyncio.run(_observed(errors, full))
    for each in (errors, full):
        each.kubectl("delete", "namespace", each.namespace, "--wait=false")
    return figures


def _namespace(release: Release, name: str) -> Release:
    found = Release(release.cluster, namespace=name)
    found.kubectl("delete", "namespace", name, "--ignore-not-found")
    found.create_namespace()
    return found


async def _observed(errors: Release, full: Release) -> dict[str, object]:
    engine = _engine(errors)
    try:
        found = await asyncio.gather(
            _out_of_memory(engine),
            _image(engine, "localhost/missing:1", "IfNotPresent", ("ErrImagePull", "ImagePullBackOff"), False),
            _image(engine, "localhost/missing:1", "Never", ("ErrImageNeverPull",), True),
            _image(engine, "No Image!", "Never", ("InvalidImageName",), True),
            _ended(engine, "evicted", "Evicted", lambda job: _evict(errors, job)),
            _ended(engine, "deleted", "PodDeleted", lambda job: _delete(errors, *_pod(errors, job).split("/"))),
            _ended(engine, "removed", "Gone", lambda job: _delete(errors, "job", job)),
            _ended(engine, "scratch", "Evicted", None, _shell(_WRITES, options={"scratch": "1Mi"})),
            _ended(engine, "deadline", "DeadlineExceeded", None, _shell(FOREVER, timeout=4.0)),
            _no_node(engine),
            _quota_of_pods(full),
            _without_role(errors),
            return_exceptions=True,
        )
    finally:
        await engine.close()
    await _quota_of_jobs(full)
    failures = [each for each in found if isinstance(each, Exception)]
    if failures:
        raise ExceptionGroup("errors of Jobs that are not as they have to be", failures)
    return {"reasons": sorted(map(str, found))}


_WRITES = "echo up; head -c 5000000 /dev/zero > /tmp/much; sleep 300"


async def _out_of_memory(engine: ProgramEngine) -> str:
    command = (PYTHON, "-c", "import time; time.sleep(1); kept = b'x' * (256 << 20)")
    spec = _spec(command, limits=ProgramLimits(memory=32 << 20))
    return await _ended(engine, "memory", "OOMKilled", None, spec)


async def _image(
    engine: ProgramEngine, image: str, policy: str, reasons: Sequence[str], is_permanent: bool
) -> str:
    spec = _spec(("true",), image=image, options={"image_pull_policy": policy})
    outcome = await _run(engine, f"image-{policy.lower()}-{len(image)}", spec)
    expect(outcome.reason in reasons, f"image {image!r} with {policy}: {outcome}")
    expect(outcome.is_permanent is is_permanent, f"image {image!r}: permanent is {outcome.is_permanent}")
    expect(image in outcome.message, f"the message does not name {image!r}: {outcome.message}")
    return outcome.reason


async def _ended(
    engine: ProgramEngine, name: str, reason: str, amid: Amid | None, spec: ProgramSpec | None = None
) -> str:
    outcome = await _run(engine, name, spec or _shell(FOREVER), amid)
    expect(outcome.reason == reason, f"{name}: {outcome}")
    expect(not outcome.is_permanent and f"ab-errors-{name}" in outcome.message, f"{name}: {outcome}")
    return reason


async def _no_node(engine: ProgramEngine) -> str:
    await _waits(engine, "node", _shell("true", options={"node_selector": "gpu=yes"}), "0/1 nodes are available")
    return "Unschedulable"


async def _quota_of_pods(full: Release) -> str:
    """A Job waits for the quota, says so, and runs once there is room."""
    await asyncio.to_thread(full.kubectl, "create", "quota", "small", "--hard=pods=0")
    engine = _engine(full)
    try:
        started = _Started(engine, "quota")
        following = await started.follow(_shell("true"))
        await started.printed("exceeded quota: small")
        await asyncio.to_thread(_delete, full, "quota", "small")
        async with asyncio.timeout(SECONDS):
            outcome = await following
        expect(outcome.exit_code == 0, f"after the quota was raised: {outcome}")
        await started.remove()
    finally:
        await engine.close()
    return "exceeded quota"


async def _quota_of_jobs(full: Release) -> None:
    """A Job that the quota refuses is no error of its member: the worker tries again."""
    await asyncio.to_thread(full.kubectl, "create", "quota", "none", "--hard=count/jobs.batch=0")
    engine = _engine(full)
    try:
        await engine.start(_execution("quota-of-jobs", _shell("true")))
    except EngineUnavailable as error:
        expect("exceeded quota: none" in str(error), f"a quota of Jobs: {error}")
    else:
        expect(False, "a quota of no Job let a Job be created")
    finally:
        await engine.close()


async def _without_role(errors: Release) -> str:
    """A service account without a Role may not create Jobs; the error names what it lacks."""
    await asyncio.to_thread(errors.kubectl, "create", "serviceaccount", "powerless")
    token = (await asyncio.to_thread(errors.kubectl, "create", "token", "powerless")).strip()
    engine = _engine(errors, token)
    try:
        await engine.start(_execution("role", _shell("true")))
    except ProgramRefused as refused:
        expect("lacks the verb 'create' on 'jobs'" in str(refused), str(refused))
    else:
        expect(False, "an account without a Role created a Job")
    finally:
        await engine.close()
    return "Forbidden"


class _Started:
    """One execution, and the lines that it prints."""

    def __init__(self, engine: ProgramEngine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._lines: list[str] = []
        self._changed = asyncio.Event()
        self._handle = ""

    async def follow(self, spec: ProgramSpec) -> asyncio.Task[ProgramOutcome]:
        """Start it; return the task that waits for its outcome."""
        self._handle = await self._engine.start(_execution(self._name, spec))
        return asyncio.create_task(self._engine.follow(self._handle, spec, self._on_line))

    async def printed(self, text: str) -> None:
        """Wait for a line with this text. Raises TimeoutError with the lines that were printed."""
        try:
            async with asyncio.timeout(SECONDS):
                while not any(text in line for line in self._lines):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{self._name} did not print {text!r}, but {self._lines}") from None

    async def remove(self) -> None:
        """End it, and delete its Job."""
        await self._engine.stop(self._handle, 0)

    def _on_line(self, _: str, text: str) -> None:
        self._lines.append(text)
        self._changed.set()


async def _run(engine: ProgramEngine, name: str, spec: ProgramSpec, amid: Amid | None = None) -> ProgramOutcome:
    started = _Started(engine, name)
    following = await started.follow(spec)
    if amid is not None:
        await started.printed("up")
        await asyncio.to_thread(amid, f"ab-errors-{name}")
    async with asyncio.timeout(SECONDS):
        outcome = await following
    await started.remove()
    return outcome


async def _waits(engine: ProgramEngine, name: str, spec: ProgramSpec, text: str) -> None:
    started = _Started(engine, name)
    following = await started.follow(spec)
    await started.printed(text)
    expect(not following.done(), f"{name} has ended, and should wait")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await started.remove()


def _execution(name: str, spec: ProgramSpec) -> Execution:
    return Execution(f"ab-errors-{name}", spec, b"null", {"installation": "errors", "run_id": name, "work": name})


def _shell(script: str, **fields: Any) -> ProgramSpec:
    return _spec(("/bin/sh", "-c", script), **fields)


def _spec(command: tuple[str, ...], **fields: Any) -> ProgramSpec:
    return ProgramSpec(**{"kind": "kubernetes", "command": command, "image": JOB_IMAGE, **fields})


def _pod(release: Release, job: str) -> str:
    return release.kubectl("get", "pods", "-l", f"batch.kubernetes.io/job-name={job}", "-o", "name").strip()


def _evict(release: Release, job: str) -> None:
    """What `kubectl drain` does with one pod."""
    name = _pod(release, job).removeprefix("pod/")
    path = f"/api/v1/namespaces/{release.namespace}/pods/{name}/eviction"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    release.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction))


def _delete(release: Release, kind: str, name: str) -> None:
    release.kubectl("delete", kind, name, "--wait=false")


def _engine(release: Release, token: str | None = None) -> ProgramEngine:
    """The engine of a worker in this namespace; with a token of its own, or as the administrator."""
    path = str(namespace_kubeconfig(release, token))
    settings = {"kubernetes_kubeconfig": path, "kubernetes_image_pull_timeout": "5s"}
    return kubernetes.open_engine(Settings.load({}, overrides=settings))
