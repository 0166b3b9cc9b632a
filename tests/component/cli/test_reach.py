"""How a command finds a running system: options, the address file of `dev`, and the error without a system."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateways import gateway

from anabranch import GiveUp, Registry, Task, agent
from anabranch.cli.backends import broker_probe, selection
from anabranch.cli.backends.address_file import DevAddress, address_file_path, live_address, publish_address
from anabranch.cli.backends.broker_probe import unreachable_reason
from anabranch.cli.backends.selection import Address, find_gateway
from anabranch.cli.commands.dev import free_port
from anabranch.cli.main import main
from anabranch.cli.render.dev_console import AgentLines, RunLines, with_member_ids
from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.embedded import embedded
from anabranch.runtime.process.listening import PortTaken
from anabranch.runtime.process.settings import Settings

EVERY = {
    "list": [],
    "status": ["r"],
    "result": ["r"],
    "events": ["r"],
    "logs": ["r"],
    "context": ["r"],
    "why": ["r"],
    "cancel": ["r"],
    "pause": ["r"],
    "resume": ["r"],
    "retry": ["r", "--failed"],
    "top": ["--once"],
    "dlq list": [],
    "dlq show": ["0:1"],
    "dlq redrive": ["0:1"],
    "dlq dismiss": ["0:1"],
    "run": ["request.json"],
    "topics create": [],
    "rebuild": ["--all"],
}


@pytest.fixture
def closed_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """No system is configured or running; Kafka's default address is a port without a listener. Yields it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused, the port stays taken
        port = taken.getsockname()[1]
        monkeypatch.setattr(Settings, "__init__", _with_default_broker(f"127.0.0.1:{port}"))
        for name in ("BROKERS", "BOOTSTRAP_SERVERS", "REDIS_URL", "URL", "CONFIG"):
            monkeypatch.delenv(f"ANABRANCH_{name}", raising=False)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
        monkeypatch.chdir(tmp_path)
        request = {"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "echo", "result_keys": ["k"]}]}]}
        Path("request.json").write_text(json.dumps(request))
        yield port


def _with_default_broker(brokers: str) -> Any:
    original = Settings.__init__

    def init(self: Settings, *args: Any, **given: Any) -> None:
        original(self, *args, **{"brokers": brokers, **given})

    return init


@pytest.mark.parametrize("command", EVERY)
def test_one_line_reports_that_no_system_runs(
    command: str, closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*command.split(), *EVERY[command]])

    printed = capsys.readouterr()
    assert (code, printed.out) == (4, "")
    [line] = printed.err.splitlines()
    assert line == (
        f"anabranch: Kafka cannot be reached at 127.0.0.1:{closed_port}: connection refused, and no "
        "`anabranch dev` of this user is running. Pass addresses of servers with --brokers, or of a gateway with "
        "--url; `anabranch dev` starts a local system, and `anabranch run FILE --embedded` needs no server"
    )


@pytest.mark.parametrize("command", ["topics create", "rebuild", "bench latency"])
def test_a_command_that_needs_servers_does_not_deny_a_running_dev(
    command: str, closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with publish_address("http://127.0.0.1:1/", address_file_path()):
        code = main([*command.split(), *EVERY.get(command, [])])

    assert code == 4
    assert capsys.readouterr().err.splitlines() == [
        f"anabranch: Kafka cannot be reached at 127.0.0.1:{closed_port}: connection refused. This command needs "
        "Kafka and Redis, not `anabranch dev` (http://127.0.0.1:1/). Pass their addresses with --brokers"
    ]


@pytest.mark.parametrize("command", ["dev --port", "gateway --port", "agency --health-port"])
def test_a_port_out_of_range_is_named_as_it_was_given(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "70000"]) == 2
    assert f"'{command.split()[1]}'" in capsys.readouterr().err


def test_a_separate_command_reports_it_after_one_probe(closed_port: int) -> None:
    """The timeout of the probe bounds the command's duration; the test reads no wall clock."""
    environ = {**os.environ, "ANABRANCH_BROKERS": f"127.0.0.1:{closed_port}"}
    done = subprocess.run(
        [sys.executable, "-m", "anabranch", "list", "--json"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 4
    assert json.loads(done.stdout)["errors"][0]["code"] == "server_unavailable"
    assert "--embedded" in done.stderr
    assert "anabranch dev" in done.stderr
    assert max(broker_probe.PROBE_SECONDS, selection.PROBE_SECONDS) < 2.0


async def test_unresponsive_brokers_have_their_own_reason(closed_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"127.0.0.1:{server.getsockname()[1]}"

        assert await unreachable_reason(f"127.0.0.1:{closed_port},{there}") is None
    assert await unreachable_reason(f"127.0.0.1:{closed_port},[::1]:{closed_port}") == "connection refused"
    assert await unreachable_reason("h:not-a-port") is not None


# --- the address file ----------------------------------------------------------------------------


def test_the_address_file_is_private_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "anabranch" / "dev.json"

    with publish_address("http://0.0.0.0:8321/", path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert live_address(path) == DevAddress("http://127.0.0.1:8321/", os.getpid())
    assert list(path.parent.iterdir()) == []


def test_a_later_systems_address_stays_when_an_earlier_one_ends(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    with publish_address("http://127.0.0.1:1/", path):
        later = {"url": "http://127.0.0.1:2/", "pid": os.getppid()}
        path.write_text(json.dumps(later))
        path.chmod(0o600)

    assert live_address(path) == DevAddress("http://127.0.0.1:2/", os.getppid())


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"url": 1, "pid": 1}', '{"url": "http://h/", "pid": -1}', '{"url": "h", "pid": 1e99}'],
)
def test_an_invalid_address_file_is_ignored(text: str, tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(text)

    assert live_address(path) is None


def test_a_file_of_a_process_that_has_ended_or_that_others_could_write_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"url": "http://127.0.0.1:1/", "pid": ended_process()}))
    path.chmod(0o600)
    assert live_address(path) is None
    path.write_text(json.dumps({"url": "http://127.0.0.1:1/", "pid": os.getpid()}))
    assert live_address(path) is not None
    path.chmod(0o666)
    assert live_address(path) is None
    assert live_address(tmp_path / "none") is None


def test_the_address_file_is_where_the_desktop_specification_says() -> None:
    assert address_file_path({"XDG_RUNTIME_DIR": "/run/user/1"}) == Path("/run/user/1/anabranch/dev.json")
    assert address_file_path({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/anabranch/dev.json")
    assert address_file_path({"HOME": "/h"}) == Path("/h/.local/state/anabranch/dev.json")


# --- precedence of systems ------------------------------------------------------------------------


async def test_named_servers_take_precedence_over_a_running_dev(closed_port: int) -> None:
    async with gateway() as running:
        url = running.service.url
        with publish_address(url, address_file_path()):
            assert await find_gateway(Settings.load({})) == Address(url)
            assert await find_gateway(Settings.load({"ANABRANCH_API_KEY": "k"})) == Address(url, "k")
            assert await find_gateway(Settings.load({"ANABRANCH_BROKERS": "h:1"})) is None
            assert await find_gateway(Settings.load({"ANABRANCH_REDIS_URL": "redis://h"})) is None
            named = {"ANABRANCH_URL": "http://h:1", "ANABRANCH_BROKERS": "h:1"}
            assert await find_gateway(Settings.load(named)) == Address("http://h:1/")
            assert await find_gateway(Settings.load(named, overrides={"brokers": "h:2"})) is None
            assert await find_gateway(
                Settings.load({}, overrides={"url": "http://o/", "brokers": "h"})
            ) == Address("http://o/")
        assert await find_gateway(Settings.load({})) is None


async def test_an_unresponsive_dev_is_reported_if_kafka_is_unavailable_too(closed_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes connections, and never answers
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with publish_address(url, address_file_path()):
            with pytest.raises(ServerUnavailable, match=rf"`anabranch dev` .*{url} \(process {os.getpid()}\)"):
                await find_gateway(Settings.load({}))
            broker = Settings(brokers=f"127.0.0.1:{server.getsockname()[1]}")
            assert await find_gateway(broker) is None


@pytest.mark.parametrize("url", ["h:8321", "ftp://h/", "http://", "http://u:p@h/", "http://h/?a=b", "http://h:x/"])
def test_an_invalid_gateway_url_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="ANABRANCH_URL"):
        Settings.load({"ANABRANCH_URL": url})


def test_the_key_is_never_shown() -> None:
    settings = Settings.load({"ANABRANCH_API_KEY": "anb_secret"})

    assert "anb_secret" not in f"{settings!r} {settings.shown()}"


# --- ports ---------------------------------------------------------------------------------------


def test_a_named_port_in_use_is_an_error(closed_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        code = main(["dev", "--port", str(port)])

    printed = capsys.readouterr()
    assert code == 2
    assert printed.err == (
        f"anabranch: port {port} is already in use: another process listens on 127.0.0.1:{port}; "
        "name another with --port\n"
    )


def test_the_dev_that_uses_the_port_is_named(closed_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        named = Settings.load({}, overrides={"gateway_port": port})
        with (
            publish_address(f"http://127.0.0.1:{port}/", address_file_path()),
            pytest.raises(PortTaken, match=f"`anabranch dev` listens there, process {os.getpid()}"),
        ):
            free_port(named)
    assert free_port(named) == port


def test_without_a_named_port_another_one_is_used_and_reported(
    closed_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr("anabranch.cli.commands.dev.DEV_PORT", port)

        assert free_port(Settings.load({})) == 0
        assert f"Port {port} is already in use: another process listens" in capsys.readouterr().err
    assert free_port(Settings.load({})) == port
    assert free_port(Settings.load({}, overrides={"gateway_port": 0})) == 0
    assert capsys.readouterr().err == ""


# --- the console ---------------------------------------------------------------------------------


def batch(*entries: dict[str, Any], run: str = "r") -> EventBatch:
    made = tuple(EventEntry(**{"cause": nth, "time": 1.0, **each}) for nth, each in enumerate(entries))
    return EventBatch(run_id=run, session_id="s", source="groups", entries=made)


def test_starts_failures_and_ends_of_runs_are_printed() -> None:
    console = RunLines()

    printed = [
        *console.lines(batch({"type": "task.failed", "group": "g", "task": "t"}, run="older")),
        *console.lines(batch({"type": "run.accepted", "data": {"name": "parcels", "tasks": 2}})),
        *console.lines(batch({"type": "run.paused"}, {"type": "run.resumed"})),
        *console.lines(
            batch(
                {
                    "type": "task.failed",
                    "group": "g",
                    "task": "t",
                    "spans": ((3, 6),),
                    "data": {"error_type": "ValueError", "message": "not\nthis", "traceback": "Traceback\n  x\n"},
                }
            )
        ),
        *console.lines(
            batch(
                {
                    "type": "run.failed",
                    "time": 3.5,
                    "data": {"executions": {"total": 9, "completed": 5, "failed": 3, "skipped": 1}},
                }
            )
        ),
    ]

    assert printed == [
        "Run r (parcels) started: 2 tasks.",
        "Run r paused.",
        "Run r resumed.",
        "r/g/t[3] failed: ValueError: not this (and 2 more members)",
        "    Traceback",
        "      x",
        "Run r failed in 2.5 s: 5 of 9 executions completed, 3 failed, 1 skipped.",
    ]


def test_a_run_whose_members_all_fail_does_not_flood_the_console() -> None:
    console = RunLines()
    failed = [{"type": "task.failed", "group": "g", "task": "t", "index": nth} for nth in range(50)]

    printed = [*console.lines(batch({"type": "run.accepted"})), *console.lines(batch(*failed))]

    assert len(printed) == 1 + 5 + 1
    assert printed[-1] == "Run r: further failures are not shown here. See: anabranch status r"


@agent("writes")
async def writes(task: Task) -> None:
    await asyncio.sleep(0)
    logging.getLogger("own").warning("at %s", task.name)


@agent("writes_in_a_thread")
def writes_in_a_thread(task: Task) -> None:
    logging.getLogger("own").warning("at %s", task.name)
    raise GiveUp("for the traceback")


@pytest.mark.parametrize("name", ["writes", "writes_in_a_thread"])
async def test_a_line_of_any_logger_has_the_member_that_wrote_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = AgentLines()
    logging.getLogger("own").addHandler(lines)
    task = {"name": "t", "agent": name, "result_keys": ["k"], "inputs": "{n}", "tolerated_failures": 3}
    task["expansion_config"] = {"type": "array", "array_mapping": {"n": [7, 8, 9]}}
    registry = Registry.builtin().add(writes).add(writes_in_a_thread).wrapped(with_member_ids)
    try:
        async with embedded(registry, store="memory") as running:
            run = await running.client.submit({"task_groups": [{"name": "g", "tasks": [task]}]})
            result = await run.result(20, check=True)
    finally:
        logging.getLogger("own").removeHandler(lines)

    printed = sorted(line[9:] for line in capsys.readouterr().err.splitlines())
    assert printed == [f"WARNING {run.run_id}/g/t[{index}]  at t_{index + 1}" for index in range(3)]
    assert all("dev_console" not in (failure.get("traceback") or "") for failure in result.failures)


def test_a_line_of_an_agent_has_its_member(capsys: pytest.CaptureFixture[str]) -> None:
    lines = AgentLines()
    whose = {"run": "r", "group": "g", "task": "t", "attempt": 2}
    for name, extra, level in (
        ("anabranch.agent", {**whose, "member": "t_4", "table": "orders"}, logging.INFO),
        ("anabranch.agent", {**whose, "member": "t", "attempt": 1}, logging.ERROR),
        ("anabranch.owner", {}, logging.INFO),
        ("anabranch.owner", {}, logging.WARNING),
        ("anabranch.attempts", {"attempt": 1}, logging.WARNING),  # the console has it from the events
    ):
        record = logging.getLogger(name).makeRecord(name, level, "f", 1, "said %d", (7,), None, extra=extra)
        lines.handle(record)

    printed = [line[9:] for line in capsys.readouterr().err.splitlines()]
    assert printed == [
        "INFO    r/g/t[3] attempt 2  said 7 table=orders",
        "ERROR   r/g/t  said 7",
        "WARNING anabranch.owner  said 7",
    ]
