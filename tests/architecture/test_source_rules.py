"""Rules of the code that no linter checks: sizes, names, docstrings, and forbidden content of public files."""

from __future__ import annotations

import ast
import re
from collections import Counter

from source_tree import CODE, parsed, python_files, shown, tracked_files

MODULE_LINES = 500
FUNCTION_LINES = 60
DRAWERS = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}

# Concatenated, so that this file does not contain the forbidden text itself.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("maven", "apache", "org"),
        ("repo1", "maven", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
        ("deb", "debian", "org"),
        ("docker", "io"),
        ("quay", "io"),
        ("ghcr", "io"),
        ("gcr", "io"),
    )
]
A_REGISTRY_HOST = re.compile("|".join(re.escape(host) for host in REGISTRY_HOSTS))


def test_modules_have_a_bounded_length() -> None:
    lines = {shown(path): len(path.read_bytes().splitlines()) for path in python_files(*CODE, "tests")}

    assert {name: count for name, count in lines.items() if count > MODULE_LINES} == {}


def test_functions_fit_on_a_screen() -> None:
    long = {
        f"{shown(path)}:{node.lineno} {node.name}": lines
        for path in python_files(*CODE)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    }

    assert long == {}


def test_no_module_has_a_catch_all_name() -> None:
    assert [shown(path) for path in python_files(*CODE, "tests") if path.name in DRAWERS] == []


def test_every_module_has_a_docstring() -> None:
    silent = [
        shown(path)
        for path in python_files(*CODE, "tests")
        if parsed(path).body and ast.get_docstring(parsed(path)) is None
    ]

    assert silent == []


def test_test_folders_are_not_packages() -> None:
    assert [shown(path) for path in python_files("tests") if path.name == "__init__.py"] == []


def test_test_files_have_unique_names() -> None:
    names = Counter(path.name for path in python_files("tests") if path.name.startswith("test_"))

    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_names_a_registry_host() -> None:
    named = [
        f"{shown(path)}:{number}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if A_REGISTRY_HOST.search(line)
    ]

    assert named == []
