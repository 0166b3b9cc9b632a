"""Lists as tables, JSON and CSV, `top`, `logs` and completion: on a whole system in this process."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from embedded_commands import system_after_a_run
from rich.console import Console
from waiting import eventually_true

from anabranch import Task, agent
from anabranch.cli import completion
from anabranch.cli.commands.context import show_context
from anabranch.cli.commands.control import TOPIC_COLUMNS
from anabranch.cli.commands.dlq import list_dead_letters, show_dead_letter
from anabranch.cli.commands.events import LogFilter, show_events, show_logs
from anabranch.cli.commands.list_status_result import list_runs, show_status
from anabranch.cli.commands.registry import show_agents, show_workers
from anabranch.cli.commands.why import why
from anabranch.cli.main import main
from anabranch.cli.render.rates import RateMeter
from anabranch.cli.render.tables import Form, Listing, form_of, plain, show
from anabranch.cli.render.tree import UNICODE
from anabranch.cli.top.command import TopOptions, top
from anabranch.cli.top.drawing import Frame, draw_frame
from anabranch.cli.top.keys import decode_keys
from anabranch.cli.top.screen import Screen, after_key
from anabranch.cli.top.snapshot import Snapshot, Sort, row_of
from anabranch.core.errors import Misconfigured
from anabranch.core.waiting import WITHOUT_WORKERS
from anabranch.core.wire.run_view import RunView
from anabranch.embedded import Embedded
from anabranch.ports import TopicSpec
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.reading.views import list_views, load_view

REQUEST: dict[str, Any] = {
    "request_id": "talk-1",
    "name": "=talk",
    "task_groups": [
        {
            "name": "g",
            "tasks": [
                {
                    "name": "t",
                    "agent": "talk",
                    "result_keys": ["x"],
                    "expansion_config": {"type": "array", "array_mapping": {"n": [0, 1, 2]}},
                    "inputs": {"n": "{n}"},
                    "tolerated_failures": 1,
                }
            ],
        }
    ],
}


@agent("talk")
def talk(task: Task) -> int:
    task.log.info("at %d", task.inputs["n"], extra={"table": "orders"})
    if task.index == 1:
        task.log.warning("odd")
        raise ValueError("not this one")
    return 1


@pytest.fixture
async def system(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Embedded]:
    async with system_after_a_run(monkeypatch, talk, REQUEST) as found:
        yield found


Output = Callable[[], str]


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Output:
    return lambda: capsys.readouterr().out


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


async def test_every_list_has_a_table_a_document_and_rows(system: Embedded, out: Output) -> None:
    settings = Settings()
    calls: dict[str, Callable[[Form], Any]] = {
        "list": lambda form: list_runs(settings, limit=5, status=None, form=form),
        "events": lambda form: show_events(settings, "talk-1", follow=False, form=form),
        "logs": lambda form: show_logs(settings, "talk-1", LogFilter(), follow=False, form=form),
        "context": lambda form: show_context(settings, "talk-1", at=None, between=None, form=form),
        "changes": lambda form: show_context(settings, "talk-1", at=None, between=(0, 1), form=form),
        "dlq": lambda form: list_dead_letters(settings, run=None, signature=None, every=False, form=form),
        "top": lambda form: top(settings, TopOptions(form, once=True)),
        "agents": lambda form: show_agents(settings, form=form),
        "workers": lambda form: show_workers(settings, form=form),
    }
    outputs = {}
    for name, call in calls.items():
        for form in Form:
            assert await call(form) == 0
            outputs[name, form] = out()

    for name in calls:
        assert json.loads(outputs[name, Form.JSON])
        assert rows(outputs[name, Form.CSV])
        assert "\x1b" not in outputs[name, Form.TABLE]
    assert rows(outputs["list", Form.CSV])[0]["name"] == "=talk"
    assert [row["message"] for row in rows(outputs["logs", Form.CSV]) if row["index"] == "1"] == ["at 1", "odd"]
    assert "at 2 table=orders" in outputs["logs", Form.TABLE]
    assert rows(outputs["context", Form.CSV])[0]["value"] == "[1,1]"
    assert rows(outputs["changes", Form.CSV])[0]["change"] == "added"
    assert rows(outputs["dlq", Form.CSV])[0]["error"] == "ValueError: not this one"
    assert "ValueError: not this one" in outputs["top", Form.TABLE]
    assert json.loads(outputs["top", Form.JSON])["dead_letters"]["open"] == 1
    assert [row["name"] for row in rows(outputs["agents", Form.CSV])][-1] == "talk"
    assert rows(outputs["workers", Form.CSV])[0]["state"] == "live"


async def test_a_run_without_any_worker_says_so(system: Embedded, out: Output) -> None:
    wait = {"name": "t", "agent": "sleep", "inputs": {"seconds": 60}}
    run = await system.client.submit({"request_id": "left-1", "task_groups": [{"name": "g", "tasks": [wait]}]})

    async def is_running() -> bool:
        view = await load_view(system.store, system.names, run.run_id)
        return view is not None and any(task.started for _, _, task in view.tasks())

    await eventually_true(is_running)
    await show_status(Settings(), "left-1", form=Form.JSON)
    assert json.loads(out())["waits_for"] is None

    [worker] = await system.client.workers()
    await system.store.delete([system.names.worker(worker["id"])])
    await show_status(Settings(), "left-1", form=Form.JSON)
    assert json.loads(out())["waits_for"] == WITHOUT_WORKERS
    await run.cancel()


async def test_status_and_a_dead_letter_show_the_traceback_of_the_agent(
    system: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings()
    await list_dead_letters(settings, run=None, signature=None, every=False, form=Form.JSON)
    [group] = json.loads(capsys.readouterr().out)["groups"]

    await show_dead_letter(settings, group["example"], json=False)
    dead_letter = capsys.readouterr().out
    await show_dead_letter(settings, group["example"], json=True)
    document = json.loads(capsys.readouterr().out)
    await show_status(settings, "talk-1", form=Form.TABLE)
    status = capsys.readouterr().err

    assert document["member"]["traceback"].endswith("ValueError: not this one\n")
    for shown in (dead_letter, status):
        assert "    Traceback (most recent call last):\n" in shown
        assert "test_lists.py" in shown
        assert ", in talk\n" in shown


async def test_a_status_and_its_reasons_as_rows(system: Embedded, out: Output) -> None:
    await show_status(Settings(), "talk-1", form=Form.CSV)
    [task] = rows(out())
    await why(Settings(), "talk-1", heal=False, form=Form.CSV)

    assert (task["group"], task["members"], task["completed"], task["failed"]) == ("g", "3", "2", "1")
    assert out() == "task,members,reason,since,log_position\n"


async def test_logs_are_filtered_by_level_and_member_and_unknown_runs_are_reported(
    system: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    warnings = LogFilter(level="warning")
    await show_logs(Settings(), "talk-1", warnings, follow=True, form=Form.JSON)
    [line] = json.loads(capsys.readouterr().out)
    assert (line["level"], line["index"], line["message"]) == ("warning", 1, "odd")

    assert await show_logs(Settings(), "talk-1", LogFilter(index=7), follow=False, form=Form.TABLE) == 0
    assert "No log line matches" in capsys.readouterr().err
    assert await show_logs(Settings(), "nobody", LogFilter(), follow=False, form=Form.TABLE) == 2


async def test_top_opens_a_run_and_returns_to_the_list(system: Embedded) -> None:
    views = await list_views(system.store, system.names)
    snapshot = Snapshot(2.0, [row_of(view, 2.0, RateMeter()) for view in views])
    [run] = snapshot.runs

    inside = after_key(Screen(), "enter", Screen().rows(snapshot))

    assert (inside.shows_details, inside.selected_id) == (True, run.run_id)
    assert "3 of 3 members, 1 failed" in frame(snapshot, inside)
    assert "consumer group" in frame(snapshot, after_key(inside, "escape", [run]))


def frame(snapshot: Snapshot, screen: Screen, height: int | None = 24) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(draw_frame(snapshot, screen, Frame(100, height, UNICODE, "here")))
    return console.file.getvalue()  # type: ignore[attr-defined]


def view(number: int, **more: Any) -> RunView:
    task = {"status": "running", "members": 10, "started": 5, "completed": number, "failed": 0}
    groups = {"g": {"status": "running", "tasks": {"t": task}}}
    base = {
        "run_id": f"run-{number}",
        "name": f"name {number}",
        "status": "running",
        "submitted_at": float(number),
        "tasks_total": 1,
    }
    return RunView.from_document({**base, "groups": groups, **more})


def snapshot_of(*views: RunView) -> Snapshot:
    return Snapshot(100.0, [row_of(each, 100.0, RateMeter()) for each in views])


def test_open_runs_come_first_unless_another_order_is_chosen() -> None:
    ended = view(9, ended_at=99.0, status="failed")
    snapshot = snapshot_of(view(1), ended, view(3))

    def names(screen: Screen) -> list[str]:
        return [row.run_id for row in screen.rows(snapshot)]

    assert names(Screen()) == ["run-3", "run-1", "run-9"]
    assert names(Screen(Sort.DONE)) == ["run-1", "run-3", "run-9"]
    assert names(Screen(open_only=True)) == ["run-3", "run-1"]
    assert names(Screen(text="FAILED")) == ["run-9"]


def test_the_selected_run_stays_selected_and_visible() -> None:
    snapshot = snapshot_of(*(view(number) for number in range(40)))
    screen = Screen()
    for key in ("end", "up", "up"):
        screen = after_key(screen, key, screen.rows(snapshot))

    assert screen.selected_id == "run-2"
    assert "name 2" in frame(snapshot, screen)
    assert frame(snapshot, screen).count("\n") <= 24
    assert frame(snapshot, screen, height=None).count("running") == 40


def test_a_filter_is_typed_applied_or_discarded() -> None:
    screen = Screen()
    for key in ("/", "q", "x", "backspace", "enter"):
        screen = after_key(screen, key, [])
    assert (screen.text, screen.typing, screen.quits) == ("q", False, False)

    assert after_key(screen, "escape", []).text == ""
    assert after_key(screen, "q", []).quits
    assert after_key(screen, "s", []).sort is Sort.NAME


def test_keys_of_a_terminal() -> None:
    assert decode_keys(b"q\x1b[A\x1b[B\r\x7f\x1b") == ["q", "up", "down", "enter", "backspace", "escape"]
    assert decode_keys("\x1b[1;5Cö".encode()) == ["ö"]


def test_cells_of_csv_are_plain_values() -> None:
    assert [plain(value) for value in (None, 0, "a,b", [1], {"a": None}, True)] == [
        "",
        0,
        "a,b",
        "[1]",
        '{"a":null}',
        "true",
    ]


def test_the_message_of_an_empty_list_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    empty = Listing(TOPIC_COLUMNS, [], {"topics": []}, "No topics.")
    outputs = {}
    for form in Form:
        show(empty, form)
        outputs[form] = capsys.readouterr()

    assert [outputs[form].err for form in Form] == ["No topics.\n", "", "No topics.\n"]
    assert [outputs[form].out for form in Form] == ["", '{\n  "topics": []\n}\n', "topic,now,partitions\n"]
    show(Listing(TOPIC_COLUMNS, [("created", TopicSpec("[red]t", 3))], {}, ""), Form.TABLE)
    assert "[red]t" in capsys.readouterr().out


def test_json_and_another_form_contradict_each_other() -> None:
    assert [form_of(None, True), form_of(Form.JSON, True), form_of(Form.CSV, False)] == ["json", "json", "csv"]
    with pytest.raises(Misconfigured, match="contradict"):
        form_of(Form.CSV, True)


# --- completion -----------------------------------------------------------------------------------


def test_completion_offers_run_ids_with_names() -> None:
    views = [RunView("ab", "order-1", "s", name="n", status="running")]

    assert completion.matching_ids(views, "") == [("ab", "n, running"), ("order-1", "n, running")]
    assert completion.matching_ids(views, "o") == [("order-1", "n, running")]


def test_completion_is_silent_without_a_server(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANABRANCH_REDIS_URL", "redis://127.0.0.1:1/0")

    assert completion.runs("a") == []
    assert capfd.readouterr() == ("", "")


def test_completion_offers_request_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    for name in ("a.yaml", "b.txt", ".hidden.yaml", "more/c.json"):
        (tmp_path / name).touch()

    assert list(completion.request_files("")) == ["a.yaml", "more/"]
    assert list(completion.request_files("more/")) == ["more/c.json"]
    assert list(completion.request_files("gone/")) == []


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_each_shell_has_a_completion_script(
    shell: str, mark: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_ANABRANCH_COMPLETE", f"source_{shell}")

    assert main([]) == 0

    assert mark in capsys.readouterr().out


def test_a_mistyped_file_name_gets_a_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.yaml").write_text("{}")

    assert main(["run", "word.yaml", "--embedded"]) == 2

    assert "did you mean words.yaml?" in capsys.readouterr().err
