"""What members of random workloads return: a function of their inputs, so it is the same on every worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import orjson

from anabranch.testing.simulator.extremes import nested


def answer(name: str, index: int | None, inputs: Mapping[str, Any], seen: Mapping[str, Any]) -> Any:
    """The return value of a member: has its input, and a checksum of the dependencies that it sees."""
    visible = {key: seen[key] for key in inputs["deps"] if key in seen}
    digest = crc32(orjson.dumps(visible, option=orjson.OPT_SORT_KEYS))
    if "gives" in inputs:
        return inputs["item"] if inputs["gives"] == "{each}" else inputs["gives"]
    if "poses" in inputs:
        return inputs["poses"] | {"count": index or 0}
    if "deep" in inputs:
        return nested(inputs["deep"], name if index is None else index)
    value = {"of": name, "index": index, "item": inputs.get("item"), "seen": digest}
    if "salt" in inputs:
        value["salt"] = inputs["salt"]
    if inputs.get("bytes"):
        value["pad"] = "x" * inputs["bytes"]
    return [value, inputs.get("item")] if inputs.get("listed") else value
