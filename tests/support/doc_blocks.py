"""The code blocks of the documentation: where they are, and what their info string says.

    ```sh skip="needs a cluster"      not run, for this reason
    ```python title="my_agents.py"    written to this file first
    ```text output                    what the blocks before it printed, loosely

Elsewhere the info string is taken for the language and a title; nobody sees the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
_ATTRIBUTE = re.compile(r'(\w+)(?:="([^"]*)")?')


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `line` is where its text begins."""

    path: Path
    line: int
    language: str
    attributes: dict[str, str]
    text: str

    @property
    def title(self) -> str | None:
        return self.attributes.get("title")

    @property
    def skip(self) -> str | None:
        """Why it is not run."""
        return self.attributes.get("skip")

    @property
    def is_output(self) -> bool:
        return "output" in self.attributes


def blocks_of(path: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    page = path.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(page):
        language, _, rest = found["info"].strip().partition(" ")
        line = page.count("\n", 0, found.start("text")) + 1
        yield Block(path, line, language, dict(_ATTRIBUTE.findall(rest)), found["text"])


def without_blocks(page: str) -> str:
    """A page's text alone."""
    return _BLOCK.sub("", page)


def missing_lines(expected: str, said: str) -> list[str]:
    """The lines of `expected` that are not in `said`, in this order; `…` stands for anything. What is in front of
    a line in a tree, and how wide its columns are, does not count."""
    lost = []
    place = 0
    lines = [_plain(line) for line in said.splitlines()]
    for line in filter(None, map(_plain, expected.splitlines())):
        pattern = re.compile(".*?".join(map(re.escape, line.split("…"))))
        found = next((n for n in range(place, len(lines)) if pattern.search(lines[n])), None)
        if found is None:
            lost.append(line)
        else:
            place = found + 1
    return lost


def _plain(line: str) -> str:
    return " ".join(line.lstrip(" │├└─").split())
