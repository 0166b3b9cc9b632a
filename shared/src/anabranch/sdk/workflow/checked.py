"""Checks the keyword arguments of the builder's calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch.core.request.validation import suggestion
from anabranch.sdk.workflow.places import Place, wrong
from anabranch.sdk.workflow.steps import Step


def checked(kind: Any, options: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The options of a call that have a value, as fields; `kind` is their TypedDict.

    Raises:
        WorkflowError: there is no such option, or one string is given in place of a list.
    """
    known = kind.__annotations__
    for name in options:
        if name not in known:
            hint = suggestion(name, known) or f"the options are: {', '.join(sorted(known))}"
            raise wrong(place, f"there is no option `{name}` here", hint)
    found = {name: value for name, value in options.items() if value is not None}
    for name in ("dependencies", "after", "result_keys", "tools"):
        if isinstance(found.get(name), str):
            raise wrong(place, f"`{name}` is the text {found[name]!r}", f"write a list: {name}=[{found[name]!r}]")
    if "dependencies" in found:
        found["dependencies"] = [each.key if isinstance(each, Step) else each for each in found["dependencies"]]
    return found
