"""Runs a complete system in one process with a virtual clock, for tests of agents and requests.

    from anabranch import agent
    from anabranch.testing import system

    @agent("double")
    async def double(task):
        return 2 * task.inputs["n"]

    def test_double():
        spec = {"name": "t", "agent": "double", "inputs": {"n": 21}, "result_keys": ["twice"]}
        with system(agents=[double]) as s:
            result = s.run({"task_groups": [{"name": "g", "tasks": [spec]}]})
        assert result.results == {"twice": 42}

Names are imported on first use, because pytest imports this package in every run for its fixture.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anabranch.testing.async_system import AsyncSystem as AsyncSystem
    from anabranch.testing.loop import VirtualClock as VirtualClock
    from anabranch.testing.loop import VirtualLoop as VirtualLoop
    from anabranch.testing.systems import ServiceStopped as ServiceStopped
    from anabranch.testing.systems import System as System
    from anabranch.testing.systems import SystemRun as SystemRun
    from anabranch.testing.systems import system as system

_HOME = {
    "AsyncSystem": "anabranch.testing.async_system",
    "ServiceStopped": "anabranch.testing.systems",
    "System": "anabranch.testing.systems",
    "SystemRun": "anabranch.testing.systems",
    "VirtualClock": "anabranch.testing.loop",
    "VirtualLoop": "anabranch.testing.loop",
    "system": "anabranch.testing.systems",
}

__all__ = ["AsyncSystem", "ServiceStopped", "System", "SystemRun", "VirtualClock", "VirtualLoop", "system"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'anabranch.testing' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    # Later accesses find the name without this function.
    globals()[name] = value
    return value
