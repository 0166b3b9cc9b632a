"""Makes the chart's README.md from its values.yaml, or checks that it is in step.

Usage: chart_readme.py CHART [--check]

A comment above a value describes it; `# ---- Title` begins a section. Block mappings are read line by line, as
values.yaml is written; a value on the line of its key is shown as the default.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):(?: (?P<value>.*))?$")
_SECTION = "# ---- "
_INDENT = 2


@dataclass(frozen=True, slots=True)
class Value:
    """One value: its path with dots, its default as in the file, and what its comment says."""

    path: str
    default: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what is said below it, and its values."""

    title: str
    text: str
    values: tuple[Value, ...]


def read_sections(text: str) -> Iterator[Section]:
    """The sections of a values file. Text before the first is not part of any."""
    for part in text.split(f"\n{_SECTION}")[1:]:
        title, _, body = part.partition("\n")
        intro, values = _read_values(body)
        yield Section(title.strip(), intro, tuple(values))


def _read_values(body: str) -> tuple[str, list[Value]]:
    intro: list[str] = []
    comment: list[str] = []
    path: list[str] = []
    found: list[Value] = []
    for line in body.splitlines():
        if line.strip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
        elif not line.strip():
            intro += comment
            comment = []
        elif match := _KEY.match(line):
            path = [*path[: len(match["indent"]) // _INDENT], match["key"]]
            if match["value"] or comment:
                found.append(Value(".".join(path), match["value"] or "", " ".join(comment)))
            comment = []
    return " ".join(intro), found


def as_markdown(chart: Path) -> str:
    """The README of a chart."""
    described = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    lines = [
        "<!-- Generated from values.yaml by `make helm-readme`. Do not edit: change the comments there. -->",
        "",
        f"# Chart {described['name']} {described['version']}",
        "",
        described["description"],
        "",
        f"Kubernetes {described['kubeVersion'].removesuffix('-0')}. How it is used is described in "
        "`docs/deployment.md` of the project, complete sets of values are in `ci/`.",
    ]
    for section in read_sections((chart / "values.yaml").read_text(encoding="utf-8")):
        lines += ["", f"## {section.title}", ""]
        if section.text:
            lines += [section.text, ""]
        lines += ["| value | default | meaning |", "|---|---|---|"]
        for each in section.values:
            default = f"`{each.default}`" if each.default else ""
            lines.append(f"| `{each.path}` | {_cell(default)} | {_cell(each.text)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(chart: Path, is_check: bool) -> int:
    """Write the README, or return 1 if it is not in step."""
    path, text = chart / "README.md", as_markdown(chart)
    if not is_check:
        path.write_text(text, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{path} is not in step with values.yaml: run `make helm-readme`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), "--check" in sys.argv[2:]))
