"""The engine of Jobs when the API, the cluster or people get in its way, on an API in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from kubernetes_api import KubernetesApi, kubernetes_api
from program_engines import EngineUnderTest, Lines

from anabranch.runtime.process.settings import Settings
from anabranch.sdk.programs.spec import ProgramLimits
from anabranch_taskgroup.worker.executors.programs import kubernetes
from anabranch_taskgroup.worker.executors.programs.engine import (
    EngineUnavailable,
    Execution,
    ProgramEngine,
    ProgramOutcome,
    ProgramRefused,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes import api as client
from anabranch_taskgroup.worker.executors.programs.kubernetes import credentials

FOREVER = "echo up; while :; do sleep 0.1; done"
NAMESPACE = "jobs"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    async with kubernetes_api(tmp_path) as api:
        yield api


class Jobs:
    """An engine on the API, and what its executions print."""

    def __init__(self, api: KubernetesApi, folder: Path, **settings: Any) -> None:
        self.api = api
        overrides = {"kubernetes_kubeconfig": str(api.kubeconfig(folder)), **settings}
        self.engine: ProgramEngine = kubernetes.open_engine(Settings.load({}, overrides=overrides))
        self.make = EngineUnderTest("kubernetes", "tests/shell", "t", lambda: self.engine)
        self.lines = Lines()
        self.changed = asyncio.Event()

    def on_line(self, stream: str, text: str) -> None:
        self.lines(stream, text)
        self.changed.set()

    async def printed(self, text: str) -> None:
        async with asyncio.timeout(20):
            while not any(text in line for _, line in self.lines.all):
                self.changed.clear()
                await self.changed.wait()

    async def started(self, execution: Execution) -> asyncio.Task[ProgramOutcome]:
        handle = await self.engine.start(execution)
        return asyncio.create_task(self.engine.follow(handle, execution.spec, self.on_line))

    async def running(self, script: str = FOREVER, **spec: Any) -> tuple[Execution, asyncio.Task[ProgramOutcome]]:
        """An execution whose program has printed its first line."""
        execution = self.make.execution(script, **spec)
        following = await self.started(execution)
        await self.printed("up")
        return execution, following

    def pod_of(self, execution: Execution) -> str:
        pod = self.api.node.pod_of(NAMESPACE, execution.name)
        assert pod is not None
        name: str = pod["metadata"]["name"]
        return name


@pytest.fixture
async def jobs_with(api: KubernetesApi, tmp_path: Path) -> AsyncIterator[Callable[..., Jobs]]:
    """Makes engines with further settings."""
    async with AsyncExitStack() as stack:

        def made(**settings: Any) -> Jobs:
            jobs = Jobs(api, tmp_path, **settings)
            stack.push_async_callback(jobs.engine.close)
            return jobs

        yield made


@pytest.fixture
def jobs(jobs_with: Callable[..., Jobs]) -> Jobs:
    return jobs_with()


async def test_a_program_without_memory_is_oom_killed(jobs: Jobs) -> None:
    execution, following = await jobs.running(limits=ProgramLimits(memory=1 << 20))

    jobs.api.node.out_of_memory(NAMESPACE, jobs.pod_of(execution))
    outcome = await following

    assert (outcome.exit_code, outcome.reason) == (137, "OOMKilled")
    assert "resources.memory" in outcome.message


async def test_an_evicted_pod_says_what_its_node_lacks(jobs: Jobs) -> None:
    execution, following = await jobs.running()

    jobs.api.node.evict(NAMESPACE, jobs.pod_of(execution))
    outcome = await following

    assert outcome.reason == "Evicted"
    assert "low on resource: memory" in outcome.message


async def test_a_pod_that_somebody_deletes_is_a_failed_attempt(jobs: Jobs) -> None:
    execution, following = await jobs.running()

    await jobs.api.node.end_pod(NAMESPACE, jobs.pod_of(execution), 0)
    outcome = await following

    assert outcome.reason == "PodDeleted"
    assert not outcome.is_permanent


@pytest.mark.parametrize("propagation", ["Foreground", "Background"])
async def test_a_job_that_somebody_deletes_is_gone(jobs: Jobs, propagation: str) -> None:
    execution, following = await jobs.running("trap 'exit 1' TERM; " + FOREVER)

    await jobs.api.node.delete_job(NAMESPACE, execution.name, propagation)
    outcome = await following

    assert outcome.reason == "Gone"
    assert f"Job jobs/{execution.name}" in outcome.message


async def test_a_job_past_its_timeout_is_ended(jobs: Jobs) -> None:
    _, following = await jobs.running(timeout=1.0)

    outcome = await following

    assert outcome.reason == "DeadlineExceeded"
    assert "timeout" in outcome.message


async def test_an_image_that_is_missing_fails_after_a_while(
    api: KubernetesApi, jobs_with: Callable[..., Jobs]
) -> None:
    jobs = jobs_with(kubernetes_image_pull_timeout="1s")
    execution = jobs.make.execution("true", image="missing/image:1")

    outcome = await (await jobs.started(execution))

    assert outcome.reason == "ImagePullBackOff"
    assert "missing/image:1" in outcome.message
    assert any(stream == "stderr" and "ImagePullBackOff" in text for stream, text in jobs.lines.all)
    assert not outcome.is_permanent


async def test_a_name_that_is_no_image_fails_for_good(jobs: Jobs) -> None:
    outcome = await (await jobs.started(jobs.make.execution("true", image="No Image!")))

    assert (outcome.reason, outcome.is_permanent) == ("InvalidImageName", True)


async def test_a_job_without_a_node_waits_and_says_so(jobs: Jobs) -> None:
    execution = jobs.make.execution("true", options={"node_selector": "gpu=yes"})
    following = await jobs.started(execution)

    await jobs.printed("0/1 nodes are available")

    assert not following.done()
    following.cancel()


async def test_a_pod_that_the_cluster_refuses_fails_for_good(jobs: Jobs) -> None:
    jobs.api.node.refused_pods = 'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest"'

    outcome = await (await jobs.started(jobs.make.execution("true")))

    assert (outcome.reason, outcome.is_permanent) == ("FailedCreate", True)
    assert "PodSecurity" in outcome.message


async def test_a_quota_of_pods_makes_a_job_wait(jobs: Jobs) -> None:
    jobs.api.node.refused_pods = 'Error creating: pods "x" is forbidden: exceeded quota: small, requested: cpu=1'
    following = await jobs.started(jobs.make.execution("true"))

    await jobs.printed("exceeded quota: small")

    assert not following.done()
    following.cancel()


async def test_a_quota_of_jobs_is_waited_for(jobs: Jobs) -> None:
    jobs.api.quota = 'jobs.batch "x" is forbidden: exceeded quota: small, used: count/jobs.batch=5'

    with pytest.raises(EngineUnavailable, match="exceeded quota: small"):
        await jobs.engine.start(jobs.make.execution("true"))


@pytest.mark.parametrize(
    ("verb", "resource", "group"),
    [("create", "jobs", "'batch'"), ("create", "configmaps", ""), ("patch", "jobs", "")],
)
async def test_a_role_that_lacks_a_verb_is_named(jobs: Jobs, verb: str, resource: str, group: str) -> None:
    jobs.api.forbidden = {(verb, resource)}

    with pytest.raises(ProgramRefused) as refused:
        await jobs.engine.start(jobs.make.execution("true", inputs="x" * 20_000))

    assert f"lacks the verb '{verb}' on '{resource}'" in str(refused.value)
    assert "in namespace 'jobs'" in str(refused.value)
    assert group in str(refused.value)


async def test_a_watch_that_is_forbidden_is_unavailable(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anabranch_taskgroup.worker.executors.programs.kubernetes.watches.SYNC_SECONDS", 0.5)
    jobs.api.forbidden = {("watch", "pods")}
    execution = jobs.make.execution("true")

    with pytest.raises(EngineUnavailable, match="lacks the verb 'watch' on 'pods'"):
        await (await jobs.started(execution))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_fails_is_unavailable(jobs: Jobs, status: int) -> None:
    jobs.api.failing = status

    with pytest.raises(EngineUnavailable, match=str(status)):
        await jobs.engine.start(jobs.make.execution("true"))
    with pytest.raises(EngineUnavailable):
        await jobs.engine.found("t")


async def test_a_server_that_is_away_is_unavailable(jobs: Jobs) -> None:
    await jobs.api.stop()

    with pytest.raises(EngineUnavailable, match="does not answer"):
        await jobs.engine.start(jobs.make.execution("true"))


async def test_a_follower_waits_while_the_server_restarts(jobs: Jobs, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f'echo up; while [ ! -e {go} ]; do sleep 0.1; done; echo done; echo 1 > "$ANABRANCH_OUTPUT"'
    _, following = await jobs.running(script)
    port = int(jobs.api.url.rpartition(":")[2])

    await jobs.api.stop()
    go.touch()
    await asyncio.sleep(0.5)
    await jobs.api.start(port)
    outcome = await following

    assert (outcome.exit_code, json.loads(outcome.output or b"")) == (0, 1)
    assert jobs.lines.stdout == ["up", "done"]


async def test_a_watch_that_is_too_old_lists_again(jobs: Jobs) -> None:
    execution, following = await jobs.running("trap 'exit 4' TERM; " + FOREVER)

    jobs.api.objects.compact()
    jobs.api.objects.close_watches()
    jobs.api.objects.update("jobs", NAMESPACE, execution.name, lambda job: job["metadata"].update(touched="1"))
    jobs.api.objects.compact()
    jobs.api.objects.close_watches()
    await jobs.api.node.end_pod(NAMESPACE, jobs.pod_of(execution), 5)

    assert (await following).reason == "PodDeleted"
    assert jobs.api.calls.count(("list", "jobs")) >= 2


def test_a_silent_watch_ends_before_it_counts_as_broken() -> None:
    """An API server sends nothing at all in a watch of events while there are none."""
    assert client.WATCH_SECONDS < client.SILENT_SECONDS


async def test_a_log_that_breaks_goes_on_without_a_line_twice(jobs: Jobs) -> None:
    jobs.api.log_breaks_after = 3
    script = "echo up; for i in 1 2 3 4 5; do echo $i; done; sleep 1; echo end"
    execution, following = await jobs.running(script, output="stdout-json")

    outcome = await following

    assert jobs.lines.stdout == ["up", "1", "2", "3", "4", "5", "end"]
    assert (outcome.output or b"").decode().split("\n") == jobs.lines.stdout
    assert jobs.api.calls.count(("get", "pods/log")) >= 2
    assert execution.name


async def test_a_token_that_is_rotated_is_read_again(jobs: Jobs, tmp_path: Path) -> None:
    await jobs.engine.start(jobs.make.execution("true"))

    jobs.api.token = "token-2"
    (tmp_path / "token").write_text("token-2")
    await jobs.engine.start(jobs.make.execution("true"))

    (tmp_path / "token").write_text("wrong")
    jobs.api.token = "token-3"
    with pytest.raises(EngineUnavailable, match="does not accept the worker's credentials"):
        await jobs.engine.start(jobs.make.execution("true"))
    assert credentials.TOKEN_SECONDS > 0


async def test_a_result_that_is_too_large_is_no_cut_result(jobs: Jobs) -> None:
    execution = jobs.make.execution('head -c 5000 /dev/zero | tr "\\0" 1 > "$ANABRANCH_OUTPUT"')

    outcome = await (await jobs.started(execution))

    assert (outcome.reason, outcome.output) == ("OutputTooLarge", None)
    assert "sidecar" in outcome.message


async def test_a_sidecar_hands_over_a_large_result(api: KubernetesApi, jobs_with: Callable[..., Jobs]) -> None:
    jobs = jobs_with(kubernetes_helper_image="tests/helper")
    script = 'printf \'["%s"]\\n\' "$(head -c 300000 /dev/zero | tr "\\0" 1)" > "$ANABRANCH_OUTPUT"'
    execution = jobs.make.execution(script, options={"result": "sidecar"})

    outcome = await (await jobs.started(execution))

    assert len(json.loads(outcome.output or b"")[0]) == 300_000


async def test_jobs_belong_to_the_owner_of_their_namespace(
    api: KubernetesApi, jobs_with: Callable[..., Jobs]
) -> None:
    api.objects.create("deployments", {"metadata": {"name": "workers", "namespace": NAMESPACE}})
    settings = {"kubernetes_owner": "apps/v1/Deployment/workers", "executor_namespaces": "others"}
    jobs = jobs_with(**settings)
    here, there = jobs.make.execution("true"), jobs.make.execution("true", namespace="others")

    await jobs.engine.start(here)
    await jobs.engine.start(there)

    owners = api.objects.get("jobs", NAMESPACE, here.name)["metadata"]["ownerReferences"]
    assert [(each["kind"], each["name"]) for each in owners] == [("Deployment", "workers")]
    assert "ownerReferences" not in api.objects.get("jobs", "others", there.name)["metadata"]
    assert len(await jobs.engine.found("t")) == 2


async def test_an_owner_that_does_not_exist_stops_no_job(
    api: KubernetesApi, jobs_with: Callable[..., Jobs]
) -> None:
    jobs = jobs_with(kubernetes_owner="apps/v1/Deployment/missing")

    execution = jobs.make.execution("true")
    await jobs.engine.start(execution)

    assert "ownerReferences" not in api.objects.get("jobs", NAMESPACE, execution.name)["metadata"]


async def test_large_inputs_go_with_their_job(jobs: Jobs) -> None:
    execution = jobs.make.execution("true", inputs="x" * 20_000)
    handle = await jobs.engine.start(execution)
    await jobs.engine.follow(handle, execution.spec, jobs.on_line)

    config_map = jobs.api.objects.get("configmaps", NAMESPACE, execution.name)
    await jobs.engine.remove(handle)
    await jobs.engine.stop(handle, 0)

    assert config_map["metadata"]["ownerReferences"][0]["kind"] == "Job"


async def test_a_job_of_somebody_else_is_not_adopted(jobs: Jobs) -> None:
    execution = jobs.make.execution("true")
    foreign = {"metadata": {"name": execution.name, "namespace": NAMESPACE}, "spec": {"suspend": True}}
    jobs.api.objects.create("jobs", foreign)

    with pytest.raises(ProgramRefused, match="that is not the execution's"):
        await jobs.engine.start(execution)


async def test_fifty_jobs_share_three_watches_and_nothing_is_polled(jobs: Jobs) -> None:
    executions = [jobs.make.execution("sleep 2", output="last-line") for _ in range(50)]
    following = [await jobs.started(each) for each in executions]

    outcomes = await asyncio.gather(*following)

    assert {each.exit_code for each in outcomes} == {0}
    calls = {each: jobs.api.calls.count(each) for each in set(jobs.api.calls)}
    assert calls.pop(("create", "jobs")) == 50
    # One read while the program runs, and one once it has ended.
    assert calls.pop(("get", "pods/log")) <= 100
    # A Job that the watch has not shown yet.
    assert calls.pop(("get", "jobs"), 0) <= 50
    assert calls == {(verb, kind): 1 for verb in ("list", "watch") for kind in ("jobs", "pods", "events")}
