"""The gateway as a separate process on a real Kafka and Redis: long waits, SIGKILL, isolation of projects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from cluster import Cluster, Process, await_true

_URL = re.compile(rb"Dashboard and API: (\S+)")
TASK = {"name": "t", "agent": "echo", "message_template": "hi", "result_keys": ["k"]}


def one_task(**fields: Any) -> dict[str, Any]:
    return {"task_groups": [{"name": "g", "tasks": [{**TASK, **fields}]}]}


def serving(cluster: Cluster, *options: str) -> tuple[Process, str]:
    """A gateway on any free port, with its address."""
    process = cluster.start("gateway", "--port", "0", *options)
    process.await_ready()
    await_true(lambda: _URL.search(process.log.read_bytes()) is not None, 30)
    found = _URL.search(process.log.read_bytes())
    assert found is not None
    return process, found[1].decode().rstrip("/")


@contextmanager
def events(url: str, run: str, last: str | None = None) -> Iterator[Iterator[tuple[str, str]]]:
    """Id and type of each event of a run after the given id."""
    headers = {"accept": "text/event-stream", **({"last-event-id": last} if last else {})}
    with httpx.stream("GET", f"{url}/v1/runs/{run}/events", headers=headers, timeout=30) as response:
        assert response.status_code == 200
        yield _read(response)


def _read(response: httpx.Response) -> Iterator[tuple[str, str]]:
    place = ""
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            place = value
        elif name == "event":
            yield place, value


def test_a_stream_continues_at_another_gateway_after_the_first_was_killed(cluster: Cluster) -> None:
    """SIGKILL while a client reads events: the next gateway sends the missing events, and none twice."""
    first, url = serving(cluster)
    waited = httpx.post(f"{url}/v1/runs", json=one_task(), headers={"prefer": "wait=30"}, timeout=40)
    accepted = httpx.post(f"{url}/v1/runs", json=one_task(external_dependencies=["never"]))
    run = accepted.json()["run_id"]
    with events(url, run) as stream:
        received = [next(stream)]
        first.kill()
        with pytest.raises(httpx.HTTPError):
            received.extend(stream)
    second, url = serving(cluster)
    with events(url, run, received[-1][0]) as stream:
        assert httpx.post(f"{url}/v1/runs/{run}/cancel").status_code == 202
        received.extend(stream)
    with events(url, run) as stream:
        whole = list(stream)
    second.terminate()

    assert (waited.status_code, waited.json()["status"]) == (200, "completed")
    assert waited.json()["results"] == {"k": "hi"}
    assert received == whole
    assert (received[0][1], received[-1][1]) == ("run.accepted", "run.cancelled")


def test_two_projects_of_a_keys_file_do_not_see_each_other(cluster: Cluster) -> None:
    made = [json.loads(cluster.run("keys", "create", "--project", each, "--json").stdout) for each in ("a", "b")]
    file = cluster.folder / "keys.yaml"
    file.write_text(json.dumps({"keys": [each["entry"] for each in made]}))
    a, b = ({"authorization": f"Bearer {each['key']}"} for each in made)
    process, url = serving(cluster, "--set", f"gateway_keys={file}")
    with httpx.Client(base_url=url, timeout=40) as http:
        run = http.post("/v1/runs", json=one_task(), headers={**a, "prefer": "wait=30"}).json()["run_id"]

        def is_listed(headers: dict[str, str]) -> bool:
            return run in [each["run_id"] for each in http.get("/v1/runs", headers=headers).json()["runs"]]

        # The list is of views, which follow the result.
        await_true(lambda: is_listed(a), 30, cluster.logs)
        seen = {
            name: (http.get(f"/v1/runs/{run}/result", headers=headers).status_code, is_listed(headers))
            for name, headers in (("a", a), ("b", b))
        }
        nobody = http.get("/v1/runs")
        elsewhere = http.post("/v1/runs", json={**one_task(), "project": "a"}, headers=b)
    process.terminate()

    assert seen == {"a": (200, True), "b": (404, False)}
    assert (nobody.status_code, elsewhere.status_code) == (401, 403)
