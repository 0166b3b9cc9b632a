"""Members that run as Jobs of the cluster, amid the loss of their worker and of their run."""

from __future__ import annotations

import json
import os
import signal
import time
from urllib.parse import urlsplit

from checks.disturbances import process_of, restarts
from checks.release import Release, await_that, expect
from checks.workload import Workload

AGENT = "count_in_job"
MEMBERS = 200
AT_ONCE = 8
"""Jobs that one worker follows at once: the node has two processors."""
MADE_BY = "app.kubernetes.io/managed-by=anabranch"

MEMBER_CODE = """
import json, os, socket, time
inputs = json.load(open(os.environ["ANABRANCH_INPUT"]))
store = socket.create_connection((os.environ["EFFECTS_HOST"], int(os.environ["EFFECTS_PORT"])))
replies = store.makefile("rb")
def ask(command):
    store.sendall(command.encode() + b"\\r\\n")
    reply = replies.readline()
    assert reply[:1] in b"+:", reply
ask("SELECT " + os.environ["EFFECTS_DATABASE"])
ask("HINCRBY began:{mark} {member} 1".format(**inputs))
time.sleep(float(inputs["seconds"]))
ask("HINCRBY ended:{mark} {member} 1".format(**inputs))
json.dump(int(inputs["member"]), open(os.environ["ANABRANCH_OUTPUT"], "w"))
"""
"""The agent of the other checks, as a program in a container of its own.

It speaks Valkey's protocol itself: to import the client takes most of the processor time of such a Job."""


def members_as_jobs(release: Release) -> dict[str, object]:
    """200 members as Jobs; a worker is killed amid them: each Job ran once, and none is left."""
    _turn_on(release)
    began = time.monotonic()
    load = Workload(release, "jobs", MEMBERS, seconds=1, agent=AGENT)
    await_that("members have ended", lambda: load.ended() >= 10, 240)
    killed = release.pods("taskgroup")[0]
    known = restarts(release, killed)
    os.kill(process_of(release, killed), signal.SIGKILL)
    await_that(f"{killed} has restarted", lambda: restarts(release, killed) > known, 120)
    counts = load.await_result(1_200)
    seconds = time.monotonic() - began
    expect(counts.began == counts.ended == MEMBERS, f"Jobs of members were repeated: {counts}")
    return {"members": MEMBERS, "seconds": round(seconds, 1), "removed_seconds": _await_nothing(release)}


def cancelled_jobs(release: Release) -> dict[str, object]:
    """A run is cancelled amid its Jobs: they end, and no Job, pod or ConfigMap of them is left."""
    load = Workload(release, "jobs-cancelled", MEMBERS, seconds=600, agent=AGENT)
    await_that("Jobs run", lambda: load.began() >= AT_ONCE, 240)
    release.cancel(load.run_id)
    figures: dict[str, object] = {"began": load.began(), "removed_seconds": _await_nothing(release)}
    expect(load.ended() == 0, "a Job ended that was cancelled")
    return figures


def _turn_on(release: Release) -> None:
    """Let the workers run Jobs of the product's own image, which has Python."""
    effects = urlsplit(release.effects_url)
    program = {
        "kind": "kubernetes",
        "image": "localhost/anabranch:before",
        "command": ["/opt/anabranch/bin/python", "-I", "-S", "-c", MEMBER_CODE],
        "env": {
            "EFFECTS_HOST": str(effects.hostname),
            "EFFECTS_PORT": str(effects.port),
            "EFFECTS_DATABASE": effects.path.removeprefix("/"),
        },
        "resources": {"cpu": 0.05, "memory": "64Mi"},
        "options": {"image_pull_policy": "Never"},
    }
    executors = {"enabled": ["kubernetes"], "settings": {"kubernetes_concurrency": AT_ONCE}}
    release.upgrade(
        *("--set", "image.tag=before"),
        *("--set-json", f"taskgroup.programs={json.dumps({AGENT: program})}"),
        *("--set-json", f"taskgroup.executors={json.dumps(executors)}"),
    )


def _await_nothing(release: Release) -> float:
    """Wait until nothing of the workers' Jobs is left; returns for how long, in seconds."""
    began = time.monotonic()
    await_that("no Job is left", lambda: not _left(release), 180)
    return round(time.monotonic() - began, 1)


def _left(release: Release) -> list[str]:
    return release.kubectl("get", "jobs,pods,configmaps", "-l", MADE_BY, "-o", "name").split()
