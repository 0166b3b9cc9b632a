"""The code blocks of the documentation: their positions and info strings.

    ```sh skip="needs a cluster"      not run, for this reason
    ```python title="my_agents.py"    written to this file first
    ```text output                    loosely compared with the output of the blocks before it

Other programs read only the language and the title from the info string.
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
    """One fenced block. `line` is the first line of its text."""

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
        """The reason for which it is not run."""
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
    """The text of a page without its blocks."""
    return _BLOCK.sub("", page)


def missing_lines(expected: str, output: str) -> list[str]:
    """The lines of `expected` that are missing in `output`, in this order; `…` matches any text. Tree branches in
    front of a line and the widths of columns are ignored."""
    lost = []
    position = 0
    lines = [_plain(line) for line in output.splitlines()]
    for line in filter(None, map(_plain, expected.splitlines())):
        pattern = re.compile(".*?".join(map(re.escape, line.split("…"))))
        found = next((n for n in range(position, len(lines)) if pattern.search(lines[n])), None)
        if found is None:
            lost.append(line)
        else:
            position = found + 1
    return lost


def _plain(line: str) -> str:
    return " ".join(line.lstrip(" │├└─").split())
