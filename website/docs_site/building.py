"""Stages the project's pages as they lie, and has MkDocs build the site of them, strictly.

Pages link to each other and to files by their place in the project, so the stage has the same places: a link that
works in the sources works on the site.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from docs_site.diagrams import with_drawings
from docs_site.pages import ROOT

STAGED = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md", "docs", "examples")
LINKED = ("deploy/helm/anabranch/values.yaml", "tests/data/README.md")
CONFIG = ROOT / "website" / "mkdocs.yml"
_ATTRIBUTES = re.compile(r"^(```\w+) (?!title=).*$", re.MULTILINE)
"""What stands behind a block's language is for the tests; but its title is shown."""


def build(into: Path) -> int:
    """Build the site into a folder, which is emptied first; returns MkDocs' exit code."""
    stage = into.resolve().parent / f"{into.name}-pages"
    staged(stage)
    settings = {"DOCS_SITE_PAGES": str(stage), "DOCS_SITE_INTO": str(into.resolve()), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(CONFIG)]
    return subprocess.run(command, env={**os.environ, **settings}, check=False).returncode


def staged(stage: Path) -> None:
    """Copy the pages to a folder, which is emptied first, with drawings in place of diagrams."""
    shutil.rmtree(stage, ignore_errors=True)
    for name in STAGED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, stage / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            stage.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, stage / name)
    for name in LINKED:
        if (ROOT / name).is_file():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, stage / name)
    shutil.copytree(ROOT / "website" / "assets", stage / "assets")
    for page in stage.rglob("*.md"):
        to_root = "../" * (len(page.relative_to(stage).parts) - 1)
        page.write_text(_for_the_site(page.read_text(encoding="utf-8"), to_root), encoding="utf-8")


def _for_the_site(text: str, to_root: str) -> str:
    return _ATTRIBUTES.sub(r"\1", with_drawings(text, to_root))
