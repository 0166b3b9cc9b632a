"""Masks secrets in the message and the traceback of an agent's exception. Pure.

Masked are the values that the process knows to be secret, passwords within URLs, URL parameters that are named
like a secret, and HTTP credentials. Any other text stays as it is, and so do the lines of source in a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

MASK: Final = "***"
SHORTEST: Final = 6
"""Minimum length of a masked secret: a shorter one would mask ordinary words."""

# The repetitions before the marked part are bounded: an unbounded one would make a long text take quadratic time.
_PATTERNS: Final = (
    (re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/:@\"'<>]{0,200}:)[^\s\"'<>]{1,1000}@"), rf"\1{MASK}@"),
    (
        re.compile(
            r"([?&][\w.-]{0,40}(?:password|passwd|secret|token|key|signature)[\w.-]{0,40}=)[^\s&#\"'<>]+", re.I
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b(Bearer|Basic) +[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
)


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that masks these values and all text in the form of a credential."""
    # The longest first: a secret that begins with another one is masked as a whole.
    known = sorted({each for each in secrets if len(each) >= SHORTEST}, key=len, reverse=True)
    values = re.compile("|".join(map(re.escape, known))) if known else None

    def redacted(text: str) -> str:
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text if values is None else values.sub(MASK, text)

    return redacted
