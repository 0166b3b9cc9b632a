"""`anabranch dev` as a user sees it: every command finds it by itself, and its console shows what happens."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster import await_true
from command_zygote import zygote
from dev_system import DevSystem, dev_system

PARCELS: dict[str, Any] = {
    "request_id": "parcels-1",
    "name": "parcels",
    "context": {"people": ["Ada", "Grace"]},
    "task_groups": [
        {
            "name": "g",
            "tasks": [
                {
                    "name": "t",
                    "agent": "greet",
                    "inputs": "{who}",
                    "expansion_config": {"type": "array", "array_mapping": {"who": "people"}},
                    "dependencies": ["people"],
                    "result_keys": ["greetings"],
                }
            ],
        }
    ],
}


def one_task(request_id: str, agent: str, **more: Any) -> dict[str, Any]:
    task = {"name": "t", "agent": agent, "result_keys": ["k"], **more}
    return {"request_id": request_id, "task_groups": [{"name": "g", "tasks": [task]}]}


@dataclass
class Laptop:
    """A running `dev`, and commands on the same machine: no servers, and no variables that name any."""

    dev: DevSystem
    program: Path
    folder: Path
    environ: dict[str, str]

    def __call__(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.program), *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str, code: int = 0) -> Any:
        done = self(*arguments, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def file(self, request: dict[str, Any]) -> str:
        path = self.folder / f"{request['request_id']}.json"
        path.write_text(json.dumps(request))
        return str(path)

    def says(self, *lines: str) -> None:
        """Wait until `dev` has printed lines with these texts."""
        await_true(
            lambda: all(any(line in printed_line for printed_line in self.dev.output) for line in lines), 20
        )


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    folder = tmp_path_factory.mktemp("laptop")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANABRANCH_")}
    environ["XDG_RUNTIME_DIR"] = runtime = str(folder / "runtime")
    with dev_system("dev_agents", {"XDG_RUNTIME_DIR": runtime}) as dev, zygote(folder) as program:
        yield Laptop(dev, program, folder, environ)


def test_a_run_is_submitted_inspected_and_shown_on_the_console(laptop: Laptop) -> None:
    events = laptop.folder / "events"

    done = laptop("run", laptop.file(PARCELS), "--json", "--events-file", str(events))

    printed = json.loads(done.stdout)
    assert (done.returncode, printed["status"]) == (0, "completed")
    assert printed["results"] == {"greetings": ["Hello Ada", "Hello Grace"]}
    assert "g/t: completed 2 of 2 members" in done.stderr
    run = printed["run_id"]
    laptop.says(
        f"Run {run} (parcels) started: 1 task.",
        f"INFO    {run}/g/t[0]  greeting who=Ada",
        f"INFO    {run}/g/t[1]  greeting who=Grace",
        f"INFO    {run}/g/t[1]  dear",
        f"Run {run} completed in",
    )
    assert laptop.json("result", "parcels-1") == printed
    assert laptop.json("result", "parcels-1", "greetings") == printed["results"]["greetings"]
    assert laptop.json("events", "parcels-1") == [json.loads(line) for line in events.read_text().splitlines()]
    assert [line["message"] for line in laptop.json("logs", "parcels-1", "-f")] == ["greeting", "greeting"]
    await_true(lambda: laptop.json("status", "parcels-1")["status"] == "completed", 20)
    assert "parcels-1" in [each["request_id"] for each in laptop.json("list")["runs"]]
    assert laptop.json("context", "parcels-1")["state"]["greetings"]["value"] == printed["results"]["greetings"]
    assert laptop.json("why", "parcels-1")["missing"] == []
    assert laptop("plan", laptop.file(PARCELS)).returncode == 0


def test_a_failed_run_is_shown_and_retried_and_its_dead_letter_dismissed(laptop: Laptop) -> None:
    done = laptop("run", laptop.file(one_task("refused-1", "refuse")), "--json")

    run = json.loads(done.stdout)["run_id"]
    assert done.returncode == 1
    laptop.says(
        f"{run}/g/t failed: ValueError: no such order",
        f"Run {run} failed in",
        f"WARNING {run}/g/t  no order",
    )
    assert laptop("retry", "refused-1", "--failed", "--request-id", "refused-2").returncode == 1
    [group] = [each for each in laptop.json("dlq", "list")["groups"] if each["agent"] == "refuse"]
    assert laptop.json("dlq", "show", group["example"])["code"] == "member_failed"
    assert laptop("dlq", "redrive", "--run", "refused-1").returncode == 2
    assert laptop.json("dlq", "dismiss", "--signature", group["signature"])["refused"] == []
    assert laptop.json("dlq", "list")["groups"] == []


def test_an_open_run_is_paused_resumed_and_cancelled(laptop: Laptop) -> None:
    submitted = laptop.json("run", laptop.file(one_task("waits-1", "wait")), "--detach")
    assert submitted["status"] == "submitted"

    await_true(lambda: laptop.json("status", "waits-1").get("groups", {}).get("g") is not None, 20)
    assert laptop.json("pause", "waits-1")["known"]
    assert laptop.json("resume", "waits-1")["known"]
    frame = laptop.json("top", "--open", "--once")
    assert [each["request_id"] for each in frame["runs"]] == ["waits-1"]
    assert [each["fact"] for each in laptop.json("why", "waits-1", "--heal")["missing"]] == ["claimed"]
    assert laptop("result", "waits-1").returncode == 2
    assert laptop.json("cancel", "waits-1")["action"] == "cancel"
    assert laptop.json("result", "waits-1", "--wait", "20s", code=3)["status"] == "cancelled"
    laptop.says(f"Run {submitted['run_id']} cancelled in")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status", "nobody"], 2),
        (["result", "nobody"], 2),
        (["events", "nobody"], 2),
        (["logs", "nobody"], 2),
        (["why", "nobody"], 2),
        (["context", "nobody"], 2),
        (["retry", "nobody", "--failed"], 2),
        (["dlq", "show", "0:999"], 2),
    ],
)
def test_unknown_ids_exit_with_2(laptop: Laptop, arguments: Sequence[str], code: int) -> None:
    done = laptop(*arguments)

    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr


def test_a_request_for_an_unknown_agent_is_refused(laptop: Laptop) -> None:
    printed = laptop.json("run", laptop.file(one_task("unknown-1", "nobody")), code=2)

    assert (printed["status"], printed["errors"][0]["code"]) == ("rejected", "unknown_agent")


def test_named_servers_override_a_found_system_and_a_url_overrides_both(laptop: Laptop) -> None:
    dead = {"ANABRANCH_BROKERS": "127.0.0.1:1"}

    assert laptop("list", **dead).returncode == 4
    assert laptop("list", "--url", laptop.dev.url, **dead).returncode == 0
    assert laptop("list", ANABRANCH_URL=laptop.dev.url, **dead).returncode == 0
    gone = laptop("list", "--url", "http://127.0.0.1:1/")
    assert (gone.returncode, len(gone.stderr.splitlines())) == (4, 1)
    assert "anabranch dev" in gone.stderr


def test_a_second_dev_on_its_port_is_an_error(laptop: Laptop) -> None:
    port = laptop.dev.url.rstrip("/").rpartition(":")[2]

    second = laptop("dev", "--port", port)

    assert second.returncode == 2
    assert second.stderr == (
        f"anabranch: port {port} is already in use: `anabranch dev` listens there, process "
        f"{laptop.dev.process.pid}; name another with --port\n"
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_address_file_is_removed_however_dev_ends(how: signal.Signals, laptop: Laptop, tmp_path: Path) -> None:
    own = {"XDG_RUNTIME_DIR": str(tmp_path)}
    file = tmp_path / "anabranch" / "dev.json"
    with dev_system("dev_agents", own) as dev:
        assert json.loads(file.read_text())["url"] == dev.url
        assert laptop("list", **own).returncode == 0
        dev.process.send_signal(how)
        dev.process.wait(30)
    assert file.exists() == (how is signal.SIGKILL)
    with socket.socket() as default:
        if default.connect_ex(("127.0.0.1", 9092)):  # no Kafka at the default address
            assert laptop("list", **own).returncode == 4
