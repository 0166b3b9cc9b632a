"""A rolling upgrade and its rollback, under load: the previous version's processes beside those of this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from chaos import chosen_seed
from cluster import Cluster, Process, cluster_with_agents
from previous_version import COMMIT, is_in_history, unpack
from servers.process import free_port
from steady_load import Load

MEMBERS, PAUSE = 60, 2.0
MORE = 3
"""Runs that end between two steps."""
ORDER = ("taskgroup", "taskgroup", "agency", "eventmanager", "gateway")
"""As docs/handbook.md says: readers of internal messages before their writers."""

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not is_in_history(),
        reason=f"the history has no commit {COMMIT} (a shallow clone): only its golden files are tested",
    ),
]


@dataclass
class Versions:
    """A cluster of processes, each of one of two versions."""

    old: Cluster
    new: Cluster

    def roll(self, load: Load, source: Cluster, target: Cluster, order: tuple[str, ...]) -> None:
        """Replace the processes of `source` by those of `target`, one by one, while the load continues."""
        for service in order:
            [leaving, *_] = source.of(service)
            started = self.begin(target, service)
            load.until(lambda started=started: _is_ready(started))  # type: ignore[misc]
            leaving.popen.terminate()
            load.until(lambda leaving=leaving: leaving.popen.poll() is not None)  # type: ignore[misc]
            assert leaving.popen.returncode == 0, leaving.log.read_text()
            load.go_on(1)

    def begin(self, cluster: Cluster, service: str) -> Process:
        """Start a process, the gateway on any free port."""
        options = {
            "taskgroup": ("--concurrency", "8", "--agents", "system_agents"),
            "gateway": ("--port", str(free_port())),
        }
        return cluster.start(service, *options.get(service, ()))


def _is_ready(process: Process) -> bool:
    assert process.popen.poll() is None, process.log.read_text()
    return b" ready" in process.log.read_bytes()


def _package_of(cluster: Cluster) -> str:
    """The folder from which the processes of a cluster import."""
    shown = "import anabranch, anabranch_taskgroup; print(anabranch.__file__, anabranch_taskgroup.__path__)"
    found = subprocess.run(
        [sys.executable, "-c", shown], env=cluster.variables, capture_output=True, text=True, check=True
    )
    return found.stdout


@pytest.fixture
def versions(kafka: str, redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Versions]:
    new = cluster_with_agents(tmp_path, kafka, redis_url, prefix, ANABRANCH_PARTITIONS="4")
    previous = tmp_path / "previous"
    path = unpack(previous)
    folder = tmp_path / "old"
    folder.mkdir()
    environ = {**new.environ, "PYTHONPATH": os.pathsep.join((path, new.environ["PYTHONPATH"]))}
    old = replace(new, folder=folder, environ=environ, processes=[])
    assert str(previous) in _package_of(old)
    assert str(previous) not in _package_of(new)
    try:
        yield Versions(old, new)
    finally:
        old.stop()
        new.stop()


def test_a_cluster_is_upgraded_under_load_and_rolled_back(versions: Versions) -> None:
    """Two TaskGroups, Agency, EventManager and gateway of the previous version are replaced one by one, and then
    those of this version by the previous one, while a run starts every two seconds."""
    old, new = versions.old, versions.new
    created = old.run("topics", "create")
    assert created.returncode == 0, created.stderr
    for process in [versions.begin(old, service) for service in ORDER]:
        process.await_ready()
    load = Load(new, chosen_seed(17), runs=10_000, members=MEMBERS, pause=PAUSE)
    with closing(load):
        load.until_ended(MORE)
        versions.roll(load, old, new, ORDER)
        _see_runs(new)
        load.until_ended(len(load.traffic.asked) - load.traffic.open + MORE)
        versions.roll(load, new, old, ORDER[::-1])
        _see_runs(old)
        load.runs = len(load.traffic.asked) + 1
        load.finish()
        assert load.calls == load.runs * MEMBERS
        assert load.repeated == {}


def _see_runs(cluster: Cluster) -> None:
    """The gateway of this version lists runs of both."""
    [gateway] = cluster.of("gateway")
    found = httpx.get(f"http://127.0.0.1:{gateway.options[1]}/v1/runs", timeout=30)
    assert found.status_code == 200, found.text
    assert found.json()["runs"]
