"""Payloads of signals, events and decisions have the nesting limit of all values."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from anabranch.core.request.models import ControlRecord


def nested(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"type": "signal", "run_id": "r", "name": "n"}, "value"),
        ({"type": "approve", "run_id": "r", "task": "t", "decision": "approve"}, "data"),
        ({"type": "event", "name": "n", "key": "k"}, "data"),
    ],
)
def test_a_payload_that_no_record_could_hold_is_refused(record: dict[str, Any], field: str) -> None:
    ControlRecord.model_validate({**record, field: nested(199)})
    for levels in (201, 245):
        with pytest.raises(ValidationError, match="over 200 levels"):
            ControlRecord.model_validate({**record, field: nested(levels)})
