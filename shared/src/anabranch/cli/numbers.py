"""Lists of whole numbers in options, such as `1,10,100`."""

from __future__ import annotations

from anabranch.core.errors import Misconfigured


def whole_numbers(option: str, text: str) -> list[int]:
    """Parse the value of an option: positive whole numbers, separated by commas.

    Raises:
        Misconfigured: the text is something else; the error names the option.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise Misconfigured(option, f"{text!r} is not a list of whole numbers", "write 1,10,100")
    return [int(word) for word in words]
