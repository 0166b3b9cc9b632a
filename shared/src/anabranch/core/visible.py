"""Makes control characters visible, for text that goes to a terminal or a spreadsheet.

Names, messages and values come from requests, agents and other systems. Written to a terminal as they are, their
escape sequences could clear it, set its title or forge lines, and overrides of the writing direction could show
another text than there is. Pure.
"""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
"""C0 but for tab and line feed, DEL, C1: also one byte of these starts a sequence in some terminals."""
_DIRECTIONS: Final = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SEPARATORS: Final = r"\u2028\u2029"
_SURROGATES: Final = r"\ud800-\udfff"

_HIDDEN: Final = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_SEPARATORS}{_SURROGATES}]")
_HIDDEN_IN_JSON: Final = re.compile(rf"[\x7f-\x9f{_DIRECTIONS}{_SEPARATORS}]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7e]")


def visible(text: str) -> str:
    """The text with control characters as escapes, such as `\\x1b`; tabs and line feeds stay."""
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(lambda found: escaped(found[0]), text)


def visible_json(text: str, *, ascii_only: bool = False) -> str:
    """JSON text that means the same, with control characters as JSON's own escapes, and with `ascii_only` every
    character that is not ASCII. JSON has such characters in strings only, and C0 as escapes already."""
    if text.isascii() and "\x7f" not in text:
        return text
    return (_NOT_ASCII if ascii_only else _HIDDEN_IN_JSON).sub(_json_escaped, text)


def escaped(character: str) -> str:
    """One character as Python writes it in a string: `\\x1b`, `\\u202e`, `\\r`."""
    return character.encode("unicode_escape").decode()


def _json_escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
