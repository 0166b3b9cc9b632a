"""The drawings of the diagrams: each Mermaid block of a page has one, named by a hash of its text.

The site shows the drawing, so that it needs no script and no network; other readers of the sources draw the text
themselves. Drawn by Mermaid in a Chromium, which is only needed when a diagram changes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from docs_site.pages import DOCS, markdown_pages

FOLDER = DOCS / "diagrams"
_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def drawing_of(diagram: str) -> Path:
    """Where the drawing of a diagram is, whether it is there or not."""
    return FOLDER / f"{hashlib.sha256(diagram.encode()).hexdigest()[:16]}.svg"


def diagrams_of(page: Path) -> list[str]:
    """The texts of a page's diagrams."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def without_drawing() -> list[str]:
    """The diagrams that have to be drawn."""
    every = (diagram for page in markdown_pages() for diagram in diagrams_of(page))
    return [diagram for diagram in dict.fromkeys(every) if not drawing_of(diagram).is_file()]


def forgotten() -> list[Path]:
    """Drawings that no page has any more."""
    wanted = {drawing_of(diagram) for page in markdown_pages() for diagram in diagrams_of(page)}
    return [path for path in sorted(FOLDER.glob("*.svg")) if path not in wanted]


def with_drawings(text: str, to_root: str) -> str:
    """A page whose diagrams are pictures; `to_root` leads from the page to the folder of the project."""

    def picture(found: re.Match[str]) -> str:
        path = f"{to_root}docs/diagrams/{drawing_of(found[1]).name}"
        return f"[![diagram]({path}){{ .diagram }}]({path})"

    return _BLOCK.sub(picture, text)


def draw_missing(mermaid: Path) -> Iterator[Path]:
    """Draw what has no drawing, and delete what no page has; gives each new one."""
    from playwright.sync_api import sync_playwright

    for path in forgotten():
        path.unlink()
    wanted = without_drawing()
    if not wanted:
        return
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content("<div id='place'></div>")
        page.add_script_tag(path=mermaid)
        page.evaluate(_SETTINGS)
        for diagram in wanted:
            path = drawing_of(diagram)
            path.write_text(page.evaluate(_DRAW, [f"d{path.stem}", diagram]) + "\n", encoding="utf-8")
            yield path
        browser.close()


_SETTINGS = """() => mermaid.initialize({startOnLoad: false, theme: 'neutral', htmlLabels: false,
    flowchart: {htmlLabels: false}, fontFamily: 'sans-serif', deterministicIds: true})"""
_DRAW = "async ([id, text]) => (await mermaid.render(id, text)).svg"
