"""The import contracts of pyproject.toml hold, and services get their adapters passed in."""

from __future__ import annotations

import subprocess
import sys

from source_tree import ROOT, imported_modules, parsed, python_files, shown


def test_import_contracts_are_kept() -> None:
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"

    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_services_import_no_adapters() -> None:
    strays = [
        f"{shown(path)} imports {module}"
        for path in python_files("services")
        for module in imported_modules(parsed(path))
        if module.startswith("anabranch.adapters")
    ]

    assert strays == []
