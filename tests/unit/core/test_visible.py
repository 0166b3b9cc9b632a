"""Control characters are visible on terminals and in CSV, and JSON means the same with them escaped."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.panel import Panel
from rich.table import Table
from rich.tree import Tree

import anabranch.cli
from anabranch.cli.render.terminal import Terminal
from anabranch.core.visible import visible, visible_json

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x00\x7f\r\b\u202eevil\u2066\u2028\x85"
RAW = set(HOSTILE) - set("]0;owned[2J31mevil")


def test_each_control_character_is_an_escape() -> None:
    assert visible(HOSTILE) == (r"\x1b]0;owned\x07\x1b[2J\x9b31m\x00\x7f\r\x08\u202eevil\u2066\u2028\x85")
    assert visible("tab\tline\nüñí 🌊 日本語 \u05e9\u05dc\u05d5\u05dd") == (
        "tab\tline\nüñí 🌊 日本語 \u05e9\u05dc\u05d5\u05dd"
    )


@given(st.text())
def test_what_is_visible_has_no_control_character_left_and_stays(text: str) -> None:
    shown = visible(text)

    assert not any(ord(each) < 32 and each not in "\n\t" for each in shown)
    assert not any(0x7F <= ord(each) < 0xA0 or 0x202A <= ord(each) <= 0x202E for each in shown)
    assert visible(shown) == shown


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())), st.booleans())
def test_json_means_the_same(document: object, ascii_only: bool) -> None:
    text = visible_json(json.dumps(document, ensure_ascii=False), ascii_only=ascii_only)

    assert json.loads(text) == document
    assert not any(0x7F <= ord(each) < 0xA0 for each in text)
    assert text.isascii() or not ascii_only


@pytest.mark.parametrize("terminal", [True, False])
def test_whatever_is_printed_on_a_console_is_visible(terminal: bool) -> None:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=terminal, width=400, markup=False, emoji=False, highlight=False)
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    tree = Tree(HOSTILE)
    tree.add(HOSTILE)

    console.print(HOSTILE, table, tree, Panel(HOSTILE))
    console.print("[link=http://evil]x[/link]")

    shown = out.getvalue()
    assert shown.count("owned") == 7
    assert not RAW - {"\x1b"} & set(shown)
    assert not any(each in shown for each in ("\x1b]", "\x1b[2J"))
    assert "[link=http://evil]" in shown


WAYS_OUT = {"output.py", "terminal.py"}
"""The modules of the command through which everything is printed."""

FORBIDDEN = {
    *("print", "Console", "typer.echo", "typer.secho", "click.echo", "pprint"),
    *(
        f"sys.{stream}.{call}"
        for stream in ("stdout", "stderr")
        for call in ("write", "writelines", "buffer.write")
    ),
}


def _calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize(
    "module", sorted(Path(anabranch.cli.__file__).parent.rglob("*.py")), ids=lambda path: str(path.name)
)
def test_modules_of_the_command_print_only_through_the_console(module: Path) -> None:
    calls = set(_calls(ast.parse(module.read_text())))
    found = calls & FORBIDDEN

    assert not found or module.name in WAYS_OUT, f"use say, print_text, print_json, print_csv or terminal: {found}"
