"""The job of `anabranch demo`: agents and request that analyse the Python files of this installation.

The agents count regular expression matches and do not parse the code, so the figures are approximate.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from anabranch.core.errors import GiveUp
from anabranch.sdk.agents import agent
from anabranch.sdk.task import Task

MAX_FILES = 2_500
TOP = 8
METRICS = ("lines", "functions", "branches", "todos")
KINDS = ("library", "tests")

_PATTERNS = {
    "functions": re.compile(rb"^[ \t]*(?:async[ \t]+)?def[ \t]", re.MULTILINE),
    "classes": re.compile(rb"^[ \t]*class[ \t]", re.MULTILINE),
    "branches": re.compile(rb"^[ \t]*(?:if|elif|for|while|except|case|with)\b", re.MULTILINE),
    "todos": re.compile(rb"#.*\b(?:TODO|FIXME|XXX)\b"),
}
_IMPORT = re.compile(rb"^[ \t]*(?:from[ \t]+(\w+)[\w.]*[ \t]+import\b|import[ \t]+(\w+))", re.MULTILINE)


def source_folders() -> list[Path]:
    """Folders of the standard library and of the installed packages."""
    return [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]


@agent("demo.find")
def find(task: Task) -> dict[str, Any]:
    """List the files below `inputs.folders`, at most MAX_FILES, and their total size in bytes."""
    folders = task.inputs["folders"]
    found = [each for folder in folders for each in _files(Path(folder))][:MAX_FILES]
    if not found:
        raise GiveUp(f"no Python sources below {' or '.join(folders)}")
    return {"files": found, "total_bytes": sum(each["bytes"] for each in found)}


def _files(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder)
        if not {"site-packages", "dist-packages"} & set(relative.parts):
            yield {"folder": str(folder), "path": str(relative), "bytes": path.stat().st_size}


@agent("demo.analyse")
def analyse(task: Task) -> dict[str, Any]:
    """Count lines, functions, classes, branches and TODO comments of the file `inputs.path` in `inputs.folder`."""
    # Processor time of this thread: the other agents of this process would be part of any other time.
    began = time.thread_time()
    path = task.inputs["path"]
    text = (Path(task.inputs["folder"]) / path).read_bytes()
    figures = {name: len(pattern.findall(text)) for name, pattern in _PATTERNS.items()}
    imports = {(first or second).decode() for first, second in _IMPORT.findall(text)}
    return {
        "path": path,
        "kind": "tests" if re.search(r"(^|/)(idle_)?tests?(/|_|$)", path) else "library",
        "lines": text.count(b"\n"),
        **figures,
        "imports": sorted(imports),
        "ms": round((time.thread_time() - began) * 1000, 3),
    }


@agent("demo.rank")
def rank(task: Task) -> dict[str, Any]:
    """Rank the files of one kind by one metric: one member of the matrix."""
    metric, kind = task.inputs["metric"], task.inputs["kind"]
    files = [each for each in task.context["analysed"] if each["kind"] == kind]
    files.sort(key=lambda each: (-each[metric], each["path"]))
    top = [{"path": each["path"], metric: each[metric]} for each in files[:TOP]]
    return {"metric": metric, "kind": kind, "total": sum(each[metric] for each in files), "top": top}


@agent("demo.imports")
def imports(task: Task) -> list[dict[str, Any]]:
    """List the modules that the most files import."""
    counted = Counter(name for each in task.context["analysed"] for name in each["imports"])
    return [{"module": name, "imported_by": number} for name, number in counted.most_common(TOP)]


@agent("demo.slowest")
def slowest(task: Task) -> list[dict[str, Any]]:
    """List the files that took the most processor time to analyse."""
    longest = sorted(task.context["analysed"], key=lambda each: -each["ms"])[:TOP]
    return [{"path": each["path"], "ms": each["ms"]} for each in longest]


@agent("demo.report")
def report(task: Task) -> dict[str, Any]:
    """Combine all results into one report."""
    context = task.context
    analysed = context["analysed"]
    return {
        "python": sys.version.split()[0],
        "files": len(analysed),
        "bytes": context["total_bytes"],
        "totals": {name: sum(each[name] for each in analysed) for name in (*METRICS, "classes")},
        "rankings": context["rankings"],
        "most_imported": context["most_imported"],
        "slowest": context["slowest"],
    }


def request(folders: Sequence[Path]) -> dict[str, Any]:
    """The request: list the files, analyse them in a fan-out, rank them in a matrix, join all in a report."""
    return {
        "name": "demo",
        "context": {
            "folders": [str(folder) for folder in folders],
            "metrics": list(METRICS),
            "kinds": list(KINDS),
        },
        "task_groups": [
            {"name": "find", "tasks": [_find()]},
            {"name": "analyse", "tasks": [_analyse()]},
            {"name": "look", "dependencies": ["analysed"], "tasks": [_rank(), _imports(), _slowest()]},
            {"name": "report", "tasks": [_report()]},
        ],
    }


def _find() -> dict[str, Any]:
    return {
        "name": "list the files",
        "agent": "demo.find",
        "dependencies": ["folders"],
        "inputs": {"folders": "{folders}"},
        "result_keys": ["files", "total_bytes"],
    }


def _analyse() -> dict[str, Any]:
    return {
        "name": "analyse",
        "agent": "demo.analyse",
        "dependencies": ["files"],
        "expansion_config": {"type": "array", "array_mapping": {"file": "files"}, "output_format": "merge"},
        "inputs": {"folder": "{file.folder}", "path": "{file.path}"},
        "result_keys": ["analysed"],
        "tolerated_failures": "5%",
        "retry": {"strategy": "immediate", "max_attempts": 2},
    }


def _rank() -> dict[str, Any]:
    matrix = {"type": "matrix", "array_mapping": {"metric": "metrics", "kind": "kinds"}}
    return {
        "name": "rank",
        "agent": "demo.rank",
        "dependencies": ["metrics", "kinds"],
        "expansion_config": matrix,
        "inputs": {"metric": "{metric}", "kind": "{kind}"},
        "result_keys": ["rankings"],
    }


def _imports() -> dict[str, Any]:
    return {"name": "count imports", "agent": "demo.imports", "result_keys": ["most_imported"]}


def _slowest() -> dict[str, Any]:
    return {"name": "find the slowest", "agent": "demo.slowest", "result_keys": ["slowest"]}


def _report() -> dict[str, Any]:
    return {
        "name": "write the report",
        "agent": "demo.report",
        "dependencies": ["analysed", "total_bytes", "rankings", "most_imported", "slowest"],
        "result_keys": ["report"],
    }
