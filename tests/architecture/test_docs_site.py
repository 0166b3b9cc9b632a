"""The documentation site: generated pages match the code, the site builds without warnings, and it loads nothing
from other hosts."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from doc_blocks import missing_lines
from source_tree import ROOT, shown

import anabranch
from anabranch.runtime.process.settings import Settings
from contract.docstrings import attribute_notes
from docs_site.building import build
from docs_site.diagrams import forgotten, without_drawing
from docs_site.pages import drift
from docs_site.reference import API, reference_pages

_LOADED = re.compile(r"<(?:script|link|img|source|iframe)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'> ]+)")
_CANONICAL = re.compile(r"<link[^>]*rel=[\"']?(?:canonical|next|prev)[^>]*>")


def test_generated_pages_are_up_to_date() -> None:
    assert list(drift(reference_pages())) == [], "update them: make reference"


def test_every_setting_has_a_description() -> None:
    notes = attribute_notes(Settings)

    assert [each.name for each in fields(Settings) if each.name not in notes] == []


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")

    assert {name for _, _, names in API for name in names} <= set(anabranch.__all__)
    assert [name for name in anabranch.__all__ if f"`{name}`" not in page and not name.startswith("_")] == []


def test_every_diagram_is_drawn() -> None:
    assert without_drawing() == [], "draw them: make diagrams"
    assert [shown(path) for path in forgotten()] == []


def test_the_site_builds_without_warnings_and_loads_nothing_from_other_hosts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = build(tmp_path / "site")

    assert code == 0, capfd.readouterr().err
    pages = sorted((tmp_path / "site").rglob("*.html"))
    foreign = {
        found for page in pages for found in _LOADED.findall(_CANONICAL.sub("", page.read_text(encoding="utf-8")))
    }
    pictures = [path for folder in ("diagrams", "screens") for path in (ROOT / "docs" / folder).glob("*.svg")]
    assert len(pages) > 40
    assert foreign == set()
    assert [path.name for path in pictures if "url(http" in path.read_text(encoding="utf-8")] == []


def test_output_is_compared_by_lines_in_order() -> None:
    output = "├── level 1\n│   └── a [echo]   after x\nRun 4711 completed in 3.1 s: 5 of 5.\n"

    assert missing_lines("level 1\na [echo] after x\nRun … completed in …: 5 of 5.\n", output) == []
    assert missing_lines("a [echo]\nlevel 1\n", output) == ["level 1"]
    assert missing_lines("Run … completed in …: 4 of 5.\n", output) == ["Run … completed in …: 4 of 5."]
