"""Canonical JSON: the vectors of RFC 8785, and what has no canonical text."""

from __future__ import annotations

import struct
from typing import Any

import orjson
import pytest

from anabranch.core.canonical_json import NotCanonical, canonical, digest

NUMBERS = [  # RFC 8785, appendix B
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_numbers_are_as_ecmascript_prints_them(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))

    assert canonical(number) == text.encode()
    assert float(text) == number


def test_the_example_of_the_rfc() -> None:
    document = r"""{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }"""

    assert canonical(orjson.loads(document)).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_code_units() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\u00f6"]

    assert list(orjson.loads(canonical(dict.fromkeys(keys, 0)))) == [
        "\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), float("nan"), float("inf"), "\ud800", {"a": [...]}, {1: 2}, b"x"],
    ids=repr,
)
def test_what_has_no_canonical_text(value: Any) -> None:
    with pytest.raises(NotCanonical):
        canonical(value)


def test_a_deep_value_has_no_canonical_text() -> None:
    deep: Any = 0
    for _ in range(5_000):
        deep = [deep]

    with pytest.raises(NotCanonical, match="levels"):
        canonical(deep)


def test_equal_values_have_one_digest() -> None:
    assert digest({"a": 1.0, "b": [1e2, ""]}) == digest({"b": [100, ""], "a": 1})
    assert len({digest(each) for each in ([], {}, None, "", 0, False, "0", [0])}) == 8
