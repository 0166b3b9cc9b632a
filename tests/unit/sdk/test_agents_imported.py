"""Modules of agents that cannot be imported, or are next to files that hide Python's own: one line, code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anabranch import Misconfigured, Registry

GOOD = "from anabranch import agent\n@agent('a')\ndef a(task): return 1\n"
REQUEST = '{"task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "a", "result_keys": ["r"]}]}]}'


COMMANDS = ([str(Path(sys.executable).with_name("anabranch"))], [sys.executable, "-m", "anabranch"])
"""The second cannot do anything against a `types.py`: Python itself falls over it."""


def planned(
    command: list[str], folder: Path, agents: tuple[str, ...] = ("--agents", "mine")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, "plan", "-", *agents, "--json"],
        cwd=folder,
        input=REQUEST,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def refused(folder: Path, text: str) -> str:
    (folder / "odd_module.py").write_text(text)
    with pytest.raises(Misconfigured) as error:
        Registry().load("odd_module")
    message = str(error.value)
    assert message.startswith("agents: ")
    assert "\n" not in message
    assert "\x1b" not in message
    return message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\nsys.exit(0)\n", "SystemExit: 0 ("),
        ("import sys\nsys.exit('no licence')\n", "SystemExit: no licence"),
        ("class Own(BaseException): ...\nraise Own('odd')\n", "Own: odd"),
        ("raise GeneratorExit\n", "GeneratorExit ("),
        ("import asyncio\nraise asyncio.CancelledError\n", "CancelledError"),
        (
            "class Bad(Exception):\n  def __str__(self): raise OSError\nraise Bad\n",
            "the message of this Bad is not available",
        ),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines"),
        ("def f(:\n", "SyntaxError: invalid syntax (odd_module.py, line 1)"),
        ("\n\n1 / 0\n", "odd_module.py:3)"),
        ("from odd_module import nothing\n", "circular import"),
        ("import no_such_library\n", "No module named 'no_such_library'"),
        (
            "from anabranch import agent\n@agent('g')\nclass A:\n  def __init__(self): raise OSError('no model')\n"
            "  def __call__(self, task): return 1\n",
            "the agent 'g' cannot be created: odd_module.A() raised OSError: no model (",
        ),
        (
            "from anabranch import agent\n@agent('g')\nclass A:\n  def __init__(self): exit(3)\n"
            "  def __call__(self, task): return 1\n",
            "'g' cannot be created: odd_module.A() raised SystemExit: 3",
        ),
        (
            "from anabranch import agent\n@agent('g')\nclass A:\n  def __init__(self, model): ...\n"
            "  def __call__(self, task): return 1\n",
            "'g' cannot be created: odd_module.A() raised TypeError: A.__init__() missing 1 required",
        ),
        ("from anabranch import agent\n@agent('a')\ndef a(): return 1\n", "must take one argument"),
        ("from anabranch import agent\n@agent('a', retry={'x': 1})\ndef a(task): ...\n", "retry of the agent 'a'"),
        ("x = 1\n", "module odd_module has no agent"),
    ],
)
def test_why_a_module_cannot_be_loaded_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


def test_an_interrupt_at_import_is_one(tmp_path: Path) -> None:
    (tmp_path / "odd_module.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        Registry().load("odd_module")


@pytest.mark.parametrize(
    "name", ["json.py", "types.py", "logging.py", "random/__init__.py", "redis.py", "rich.py"]
)
def test_a_file_that_hides_a_needed_module_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise RuntimeError('not what was wanted')\n")

    message = refused(tmp_path, GOOD)

    assert (
        f"{name.partition('/')[0]} in {tmp_path} has the name of a module that Python or Anabranch needs"
        in message
    )
    assert message.endswith("rename what is yours")


@pytest.mark.parametrize("name", ["code.py", "test/__init__.py", "statistics.py", "unittest/__init__.py"])
def test_a_file_with_the_name_of_a_module_that_nobody_imports_is_left_alone(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise RuntimeError('not what was wanted')\n")
    (tmp_path / "odd_module.py").write_text(GOOD + "import json\n")

    assert Registry().load("odd_module").names == {"a"}


@pytest.mark.parametrize(
    "text",
    ["import statistics", "from statistics import mine", "def f():\n    import statistics.x", "import helper"],
)
def test_a_file_is_refused_if_the_agents_import_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "statistics.py").write_text("mine = 1\n")
    (tmp_path / "helper.py").write_text("from statistics import mine\n")

    message = refused(tmp_path, f"{GOOD}{text}\n")

    assert f"statistics.py in {tmp_path} has the name of a module that odd_module imports" in message


def test_packages_that_a_command_loads_late_are_refused(tmp_path: Path) -> None:
    (tmp_path / "multidict.py").write_text("raise RuntimeError\n")
    assert "multidict.py in " in refused(tmp_path, GOOD)


def test_the_agents_module_itself_may_hide_one(tmp_path: Path) -> None:
    for name in ("secrets", "statistics"):
        (tmp_path / f"{name}.py").write_text(GOOD)
        with pytest.raises(Misconfigured, match=rf"{name}\.py in .* has the name of a module"):
            Registry().load(name)
        (tmp_path / f"{name}.py").unlink()


def test_folders_that_are_no_packages_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "odd_module.py").write_text(GOOD)

    assert Registry().load("odd_module").names == {"a"}


def test_the_current_directory_is_searched_before_what_is_installed_and_after_python(tmp_path: Path) -> None:
    (tmp_path / "odd_module.py").write_text(GOOD)
    Registry().load("odd_module")

    here, standard = sys.path.index(str(tmp_path)), sys.path.index(os.path.dirname(os.__file__))
    installed = min(index for index, each in enumerate(sys.path) if each.endswith("site-packages"))
    assert standard < here < installed


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mine.py": GOOD, "json.py": "raise RuntimeError"}, "json.py in "),
        ({"mine.py": GOOD, "types.py": "raise RuntimeError"}, "types.py in "),
        ({"mine.py": "raise SystemExit(0)"}, "SystemExit: 0"),
        ({"mine.py": "import os\nos.rmdir(os.getcwd() + '/gone')"}, "FileNotFoundError"),
    ],
)
def test_the_command_prints_one_line_and_exits_with_2(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for command in COMMANDS if "types.py" not in files else COMMANDS[:1]:
        ended = planned(command, tmp_path)
        assert ended.returncode == 2, ended
        assert ended.stderr.count("\n") == 1
        assert message in ended.stderr


def test_such_files_break_no_command_that_loads_no_agents(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError")
    (tmp_path / "rich.py").write_text("raise RuntimeError")
    for command in COMMANDS:
        ended = planned(command, tmp_path, agents=())
        assert (ended.returncode, ended.stderr) == (0, ""), ended


def test_what_a_module_prints_at_its_import_is_not_in_the_document(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GOOD + "import os\nprint('hello')\nos.system('echo there')\n")
    ended = planned(COMMANDS[0], tmp_path)

    assert (ended.returncode, ended.stdout[0]) == (0, "{")
    assert "hello" in ended.stderr
