"""Durations in options, such as `90s` or `5m`."""

from __future__ import annotations

from anabranch.core.durations import parse_duration
from anabranch.core.errors import Misconfigured


def seconds_of(option: str, text: str) -> float:
    """Parse the value of an option; returns seconds.

    Raises:
        Misconfigured: the text is not a duration; the error names the option.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Misconfigured(option, str(error)) from error
