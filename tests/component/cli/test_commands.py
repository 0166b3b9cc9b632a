"""The command line: what is printed where, and with which exit code. No server runs here."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from anabranch import ServerUnavailable
from anabranch.cli.main import main
from anabranch.core.costs import no_costs
from anabranch.runtime.process.settings import Settings

REQUEST: dict[str, Any] = {
    "request_id": "r 1",
    "context": {"docs": ["a", "b"]},
    "task_groups": [
        {
            "name": "g",
            "tasks": [
                {"name": "one", "agent": "echo", "result_keys": ["x"], "message_template": "hi"},
                {
                    "name": "many",
                    "agent": "echo",
                    "result_keys": ["y"],
                    "dependencies": ["docs", "x"],
                    "message_template": "{d} {index}",
                    "expansion_config": {"type": "array", "array_mapping": {"d": "docs"}},
                },
            ],
        }
    ],
}


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Command:
    """Calls the command in this process, in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Outcome:
        self._capsys.readouterr()
        code = main(list(arguments))
        printed = self._capsys.readouterr()
        return Outcome(code, printed.out, printed.err)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("BROKERS", "BOOTSTRAP_SERVERS", "REDIS_URL", "PREFIX", "AGENTS", "CONFIG"):
        monkeypatch.delenv(f"ANABRANCH_{name}", raising=False)
    Path("request.json").write_text(json.dumps(REQUEST))
    return Command(capsys)


def wrong(**changes: Any) -> str:
    Path("wrong.json").write_text(json.dumps({**REQUEST, **changes}))
    return "wrong.json"


def test_plan_prints_one_document(command: Command) -> None:
    done = command("plan", "request.json", "--json")

    assert (done.code, done.err) == (0, "")
    assert done.document["counts"] == {"task_groups": 1, "tasks": 2, "executions": 3}
    assert done.document["levels"] == [["g/one"], ["g/many"]]
    assert done.document["bytes"] > 300
    assert "expanded" not in done.document["tasks"][0]


def test_plan_expands_every_member(command: Command) -> None:
    done = command("plan", "request.json", "--json", "--expand")

    members = done.document["tasks"][1]["expanded"]
    assert [(each["name"], each["index"], each["variables"], each["message"]) for each in members] == [
        ("many_1", 0, {"d": "a"}, "a 0"),
        ("many_2", 1, {"d": "b"}, "b 1"),
    ]


def test_plan_without_json_shows_a_tree(command: Command) -> None:
    done = command("plan", "request.json", "--expand")

    assert done.code == 0
    assert "1 group, 2 tasks, 3 executions" in done.out
    assert "g/many [echo] × 2  after docs, x  → y" in done.out
    assert "many_2" in done.out


def test_plan_reads_yaml_and_standard_input(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "task_groups:\n  - name: g\n    tasks:\n      - {name: t, agent: echo, result_keys: [x]}\n"
    Path("request.yml").write_text(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    from_file, from_stdin = command("plan", "request.yml", "--json"), command("plan", "-", "--json")

    assert (from_file.code, from_stdin.code) == (0, 0)
    assert from_file.document == from_stdin.document


def test_plan_lists_every_error_and_exits_with_2(command: Command) -> None:
    done = command("plan", wrong(steps=[], request_id=5), "--json")

    assert done.code == 2
    assert not done.document["valid"]
    assert {error["path"] for error in done.document["errors"]} == {"/steps", "/request_id"}
    people = command("plan", "wrong.json")
    assert people.code == 2
    assert "The request is invalid" in people.err


def test_plan_knows_the_agents_that_are_named(command: Command) -> None:
    Path("shop_plan_agents.py").write_text("from anabranch import agent\n@agent('sell')\ndef sell(task): ...\n")
    task = {"name": "t", "agent": "sell", "result_keys": ["x"]}
    file = wrong(
        task_groups=[{"name": "g", "tasks": [task, {**task, "name": "u", "agent": "sel", "result_keys": ["y"]}]}]
    )

    known = command("plan", file, "--agents", "shop_plan_agents", "--json")
    unknown = command("plan", file, "--json")

    assert [error["code"] for error in known.document["errors"]] == ["unknown_agent"]
    assert unknown.code == 0


@pytest.mark.parametrize("name", ["plan", "run"])
@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("none.json", None, "unreadable"),
        ("bad.json", '{"task_groups": [', "not_json"),
        ("bad.yaml", "a: [1\nb: 2", "not_yaml"),
        ("twice.yaml", "a: 1\na: 2", "not_yaml"),
        ("list.json", "[]", "not_a_request"),
    ],
)
def test_a_file_that_is_no_request_exits_with_2_and_a_document(
    command: Command, name: str, file: str, content: str | None, code: str
) -> None:
    if content is not None:
        Path(file).write_text(content)

    done = command(name, file, "--json")

    assert done.code == 2
    assert [error["code"] for error in done.document["errors"]] == [code]


def test_a_refused_request_is_a_rejected_run(command: Command) -> None:
    done = command("run", wrong(colour=3), "--json", "--embedded")

    assert done.code == 2
    document = done.document
    assert document.pop("run_id")
    assert [error.pop("code") for error in document.pop("errors")] == ["unknown_field"]
    assert document == {
        "request_id": "r 1",
        "session_id": document["session_id"],
        "status": "rejected",
        "results": {},
        "failures": [],
        "handled_failures": 0,
        "executions": {"total": 0, "completed": 0, "failed": 0, "skipped": 0},
        "costs": no_costs(),
        "skipped": [],
        "warnings": [],
        "duration_seconds": 0.0,
    }
    assert "was rejected, 1 error" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "request.json", "--nonsense"],
        ["run", "request.json", "--embedded", "--timeout", "soon"],
        ["run", "request.json", "--embedded", "--timeout", "0"],
        ["run", "request.json", "--embedded", "--detach"],
        ["run", "request.json", "--embedded", "--events-file", "no/such/folder/f"],
        ["run", "request.json", "--agents", "no_such_module"],
        ["run", "request.json", "--set", "nonsense=1"],
        ["run", "request.json", "--set", "prefix"],
        ["run", "request.json", "--redis-url", "http://x"],
        ["result", "r", "--wait", "soon"],
        ["retry", "r"],
        ["dlq", "redrive"],
        ["dlq", "dismiss"],
        ["bench", "fanout", "--tasks", "0"],
    ],
)
def test_wrong_arguments_exit_with_2_and_say_why(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)

    assert done.code == 2
    assert done.out == ""
    assert done.err != ""


def test_retry_requires_the_option_failed(command: Command) -> None:
    done = command("retry", "r", "--json")

    assert (done.code, "--failed" in done.document["errors"][0]["hint"]) == (2, True)


async def refuse_connection(settings: Settings) -> None:
    raise ServerUnavailable("Kafka", settings.brokers, "connection refused", "start it")


async def never_connect(settings: Settings) -> None:
    await asyncio.Event().wait()


def test_a_misspelled_variable_has_a_warning(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_BROKRES", "b:1")

    done = command("plan", "request.json", "--json")

    assert (done.code, done.document["valid"]) == (0, True)
    assert "ANABRANCH_BROKRES is not a setting" in done.err
    assert "ANABRANCH_BROKERS?" in done.err


def test_a_module_that_exits_at_import_is_an_error_in_one_document(command: Command) -> None:
    Path("script_of_agents.py").write_text("import sys\nsys.exit(3)\n")

    done = command("plan", "request.json", "--json", "--agents", "script_of_agents")

    assert (done.code, done.document["errors"][0]["code"]) == (2, "misconfigured")
    assert "SystemExit: 3" in done.err


@pytest.mark.parametrize("arguments", [["run", "request.json"], ["list"], ["cancel", "r"], ["topics", "create"]])
@pytest.mark.parametrize("connect", [refuse_connection, never_connect])
def test_an_unavailable_server_exits_with_4_and_its_address(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str], connect: Any
) -> None:
    monkeypatch.setattr("anabranch.runtime.process.connections.kafka_log", connect)
    monkeypatch.setattr("anabranch.cli.backends.systems.CONNECT_SECONDS", 0.02)
    monkeypatch.setattr("anabranch.cli.commands.control.CONNECT_SECONDS", 0.02)

    done = command(*arguments, "--json", "--brokers", "kafka.test:1")

    assert done.code == 4
    assert "kafka.test:1" in done.err
    assert done.document["errors"][0]["code"] == "server_unavailable"


COMMANDS = (
    *("demo", "dev", "agency", "taskgroup", "worker", "eventmanager", "run", "plan", "list", "status"),
    *("result", "events", "cancel", "pause", "resume", "retry", "topics", "bench"),
)


def test_help_and_version(command: Command) -> None:
    listed = command("--help").out

    assert command("--version").out.startswith("anabranch ")
    assert [name for name in COMMANDS if f"  {name} " not in listed] == []
