"""Escapes control characters in text for a terminal or a spreadsheet.

Names, messages and values come from requests, agents and other systems. Written to a terminal as they are, their
escape sequences could clear it, set its title or forge lines, and overrides of the writing direction could show
another text than there is. Pure.
"""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
"""C0 except tab and line feed, DEL, and C1: some terminals start an escape sequence at a single C1 byte."""
_DIRECTIONS: Final = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SEPARATORS: Final = r"\u2028\u2029"
_SURROGATES: Final = r"\ud800-\udfff"

_HIDDEN: Final = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_SEPARATORS}{_SURROGATES}]")
_HIDDEN_IN_JSON: Final = re.compile(rf"[\x7f-\x9f{_DIRECTIONS}{_SEPARATORS}]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7e]")


def visible(text: str) -> str:
    """Escape control characters, such as `\\x1b`; tabs and line feeds stay."""
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(lambda found: escaped(found[0]), text)


def visible_json(text: str, *, ascii_only: bool = False) -> str:
    """Equivalent JSON text with control characters as JSON escapes, and with `ascii_only` all characters beyond
    ASCII. JSON has such characters only in strings, and C0 as escapes already."""
    if text.isascii() and "\x7f" not in text:
        return text
    return (_NOT_ASCII if ascii_only else _HIDDEN_IN_JSON).sub(_json_escaped, text)


def escaped(character: str) -> str:
    """One character as Python writes it in a string: `\\x1b`, `\\u202e`, `\\r`."""
    return character.encode("unicode_escape").decode()


def _json_escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
