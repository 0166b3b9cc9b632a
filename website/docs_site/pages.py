"""Where the project's pages are, and the files that are generated beside them: compared and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def markdown_pages() -> list[Path]:
    """Every page of the project, in order."""
    return [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted(DOCS.rglob("*.md"))]


def drift(files: Mapping[Path, str]) -> Iterator[str]:
    """A line for each file that is missing or is not what the code makes of it now."""
    for path, text in files.items():
        if not path.is_file():
            yield f"{path.relative_to(ROOT)} is missing"
        elif path.read_text(encoding="utf-8") != text:
            yield f"{path.relative_to(ROOT)} differs from the code"


def write(files: Mapping[Path, str]) -> list[Path]:
    """Write those that differ; returns them."""
    changed = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
    return changed
