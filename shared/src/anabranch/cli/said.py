"""Who gives a command, and why: the options `--by` and `--reason`."""

from __future__ import annotations

import getpass
from typing import NamedTuple


class Said(NamedTuple):
    """Who gives a command, and why; None where it is not known.

    Attributes:
        by: a gateway that knows its caller does not take it over.
    """

    by: str | None = None
    reason: str | None = None


NOTHING = Said()


def said_by(by: str | None, reason: str | None) -> Said:
    """The options of a command; without `--by` it is the user of this system."""
    return Said(by or _user(), reason)


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a process without an entry in the user database
        return None
