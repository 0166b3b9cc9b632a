"""The files that the repository tracks, read once for the architecture tests."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("shared", "services")


@cache
def tracked_files() -> tuple[Path, ...]:
    """All existing files that a commit would contain, including new ones."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = sorted(filter(None, listed.stdout.split("\0")))
    return tuple(path for name in names if (path := ROOT / name).is_file())


def python_files(*folders: str) -> list[Path]:
    """The tracked Python files below these top-level folders."""
    python = (path for path in tracked_files() if path.suffix == ".py")
    return [path for path in python if path.relative_to(ROOT).parts[0] in folders]


def shown(path: Path) -> str:
    """The path as a reader knows it: relative to the repository."""
    return str(path.relative_to(ROOT))


@cache
def parsed(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(tree: ast.Module) -> set[str]:
    """Every module that any import statement of the file names."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found
