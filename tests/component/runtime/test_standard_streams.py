"""Standard streams that are closed, full, without a reader or with a limited encoding change neither the run nor
its result nor the exit code. Each case is a separate process, started by a shell.
"""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_zygote import zygote

from anabranch.runtime.process.streams import LastingText, has_reader

MEANT = ["ü→🌊", "\x9b1m\u202e"]
REQUEST = {
    "task_groups": [
        {
            "name": "größe 🌊",
            "tasks": [
                {
                    "name": "täsk",
                    "agent": "echo",
                    "inputs": ["ü→🌊", "\x9b1m\u202e"],
                    "result_keys": ["schlüssel"],
                },
                {"name": "wide", "agent": "echo", "inputs": "x" * 200_000, "result_keys": ["wide"]},
            ],
        }
    ]
}
FAILING = {"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "fail", "result_keys": ["r"]}]}]}


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with zygote(tmp_path_factory.mktemp("zygote")) as program:
        yield program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.json").write_text(json.dumps(REQUEST))
    (tmp_path / "bad.json").write_text(json.dumps(FAILING))
    return tmp_path


def shell(folder: Path, line: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell line with the command itself, not the zygote: Python opens the streams as it starts."""
    command = Path(sys.executable).with_name("anabranch")
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=folder,
        env={**os.environ, "A": str(command), **environ},
        capture_output=True,
        timeout=120,
        check=False,
    )


CLOSED = ">&- 2>&- <&-"


@pytest.mark.parametrize(
    ("streams", "json_"),
    [(each, "--json") for each in (">/dev/full", ">&-", "2>/dev/full", "2>&-", CLOSED, "| head -1")]
    + [(each, "") for each in (">/dev/full 2>/dev/full", CLOSED)],
)
def test_a_stream_that_cannot_be_written_changes_no_exit_code(folder: Path, streams: str, json_: str) -> None:
    good = shell(folder, f"$A run good.json --embedded {json_} {streams}")
    bad = shell(folder, f"$A run bad.json --embedded {json_} {streams}")

    assert (good.returncode, bad.returncode) == (0, 1)
    assert b"Traceback" not in good.stderr
    assert b"Exception ignored" not in good.stderr + bad.stderr
    assert (b"cannot write standard output (No space left" in good.stderr) is (streams == ">/dev/full")
    if json_ and streams in ("2>/dev/full", "2>&-"):
        assert json.loads(good.stdout)["results"]["schlüssel"] == MEANT


@pytest.mark.parametrize(
    "environ",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_limited_encoding_loses_glyphs_but_no_json(folder: Path, environ: dict[str, str]) -> None:
    run = shell(folder, "$A run good.json --embedded --json", **environ)
    planned = shell(folder, "$A plan good.json", **environ)
    rows = shell(folder, "$A plan good.json --output csv", **environ)
    missing = shell(folder, "$A run größe.json --embedded", **environ)

    assert (run.returncode, planned.returncode, rows.returncode, missing.returncode) == (0, 0, 0, 2)
    assert run.stdout.isascii()
    assert json.loads(run.stdout)["results"]["schlüssel"] == MEANT
    assert b"task" in planned.stdout
    assert b"wide" in rows.stdout
    for ended in (run, planned, rows, missing):
        assert b"Traceback" not in ended.stderr


def test_help_piped_through_head_reports_no_broken_pipe(folder: Path) -> None:
    ended = shell(folder, "$A --help | head -1; $A bench --help | true")

    assert ended.stderr == b""


def test_a_closed_reader_of_a_stream_is_detected() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as inner:
        stream = LastingText(inner, "output")
        stream.write("before\n")
        stream.flush()
        assert has_reader(stream)

        os.close(reading)
        stream.write("after\n")
        stream.flush()
        assert not has_reader(stream)
        stream.write("later\n")
        stream.settle()


@pytest.mark.parametrize("is_buffered", [True, False])
def test_a_stream_that_blocks_for_a_while_is_waited_for(is_buffered: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = "x" * 1_000_000
    found: list[bytes] = []

    def read() -> None:
        while sum(map(len, found)) < len(text):
            found.append(os.read(reading, 65_536))

    reader = threading.Thread(target=read)
    raw = os.fdopen(writing, "wb", buffering=-1 if is_buffered else 0)
    with io.TextIOWrapper(raw, write_through=True) as inner:
        stream = LastingText(inner, "output")
        reader.start()
        stream.write(text)
        stream.flush()
        reader.join(60)

    assert b"".join(found).decode() == text
    os.close(reading)


def test_writing_continues_once_a_full_disk_has_space_again(tmp_path: Path) -> None:
    class Disk(io.BytesIO):
        is_full = True

        def write(self, data: Any) -> int:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    disk = Disk()
    stream = LastingText(io.TextIOWrapper(disk), "error")
    stream.write("lost\n")
    stream.flush()
    disk.is_full = False
    stream.write("kept\n")
    stream.flush()

    assert disk.getvalue() == b"kept\n"
    assert has_reader(stream)


def test_agents_that_close_the_streams_do_not_affect_the_command(folder: Path) -> None:
    (folder / "rough.py").write_text(
        "import sys\nfrom anabranch import agent\nprint('at import')\n"
        "@agent('rough')\ndef rough(task):\n    print('ü' * 10)\n    sys.stdout.close()\n    sys.stderr.close()\n"
        "    return 'done'\n"
    )
    request = {"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "rough", "result_keys": ["r"]}]}]}
    (folder / "rough.json").write_text(json.dumps(request))

    ended = shell(folder, "$A run rough.json --embedded --agents rough --json", PYTHONIOENCODING="ascii")

    assert ended.returncode == 0
    assert json.loads(ended.stdout)["results"] == {"r": "done"}
    assert b"completed in" in ended.stderr


REDIRECTING = """
import io, threading
from contextlib import redirect_stderr, redirect_stdout
from anabranch import agent
both, second_is_in, first_left = threading.Barrier(2), threading.Event(), threading.Event()

@agent("redirects")
def redirects(task):
    if task.index == 1:
        both.wait(10)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        if task.index == 0:
            both.wait(10)
            second_is_in.wait(10)
        else:
            second_is_in.set()
            first_left.wait(10)
    first_left.set()
    return task.index

@agent("removes")
def removes(task):
    import sys
    sys.stdout = sys.stderr = None
    return task.index
"""


@pytest.mark.parametrize("agent", ["redirects", "removes"])
@pytest.mark.parametrize("json_", ["", "--json"])
def test_a_command_writes_to_its_own_streams_even_if_agents_replace_them(
    folder: Path, agent: str, json_: str
) -> None:
    (folder / "redirecting.py").write_text(REDIRECTING)
    pair = {"type": "array", "array_mapping": {"n": [1, 2]}}
    spec = {"name": "t", "agent": agent, "expansion_config": pair, "result_keys": ["r"]}
    (folder / "pair.json").write_text(json.dumps({"task_groups": [{"name": "g", "tasks": [spec]}]}))

    ended = shell(folder, f"$A run pair.json --embedded --agents redirecting {json_}")

    assert ended.returncode == 0, ended.stderr
    assert b"completed in" in ended.stderr.splitlines()[-1]
    assert not json_ or json.loads(ended.stdout)["results"] == {"r": [0, 1]}


def test_a_full_events_file_costs_one_line_of_output(folder: Path, command: Path) -> None:
    ended = subprocess.run(
        [command, "run", "good.json", "--embedded", "--json", "--events-file", "/dev/full"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0
    assert json.loads(ended.stdout)["status"] == "completed"
    assert ended.stderr.count("--events-file: cannot write /dev/full (No space left on device)") == 1
