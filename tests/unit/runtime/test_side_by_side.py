"""Two steps of a turn at the same time: both end before the turn continues, whatever one of them raises."""

from __future__ import annotations

import asyncio

import pytest

from anabranch.core.errors import AnabranchError, ServerUnavailable
from anabranch.runtime.side_by_side import side_by_side
from anabranch.runtime.until_available import until_available


class Steps:
    """Coroutines that note when they begin and end."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.go = asyncio.Event()

    async def waits(self, name: str) -> None:
        """Wait for `go`."""
        self.seen.append(f"{name} begins")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.seen.append(f"{name} is cancelled")
            raise
        self.seen.append(f"{name} ends")

    async def fails(self) -> None:
        """Raise once the other has begun."""
        await asyncio.sleep(0)
        raise LookupError("no")


async def test_both_run_at_the_same_time() -> None:
    steps = Steps()
    task = asyncio.create_task(side_by_side(steps.waits("first"), steps.waits("second")))
    await asyncio.sleep(0.01)
    assert steps.seen == ["first begins", "second begins"]

    steps.go.set()
    await task

    assert steps.seen[2:] == ["first ends", "second ends"]


async def test_an_error_of_the_first_cancels_the_second() -> None:
    steps = Steps()

    with pytest.raises(LookupError):
        await side_by_side(steps.fails(), steps.waits("second"))

    assert steps.seen == ["second begins", "second is cancelled"]


async def test_an_error_of_the_second_is_raised_when_the_first_has_ended() -> None:
    steps = Steps()
    asyncio.get_running_loop().call_later(0.01, steps.go.set)

    with pytest.raises(LookupError):
        await side_by_side(steps.waits("first"), steps.fails())

    assert steps.seen == ["first begins", "first ends"]


async def test_a_cancellation_ends_both() -> None:
    steps = Steps()
    task = asyncio.create_task(side_by_side(steps.waits("first"), steps.waits("second")))
    await asyncio.sleep(0.01)

    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert set(steps.seen[2:]) == {"first is cancelled", "second is cancelled"}


async def test_a_first_attempt_by_the_caller_counts_as_an_attempt(caplog: pytest.LogCaptureFixture) -> None:
    noted: list[AnabranchError] = []
    error = ServerUnavailable("Redis", "h:6379", "away")

    async def action() -> str:
        return "done"

    found = await until_available(action, "write", delay=0.01, on_failure=noted.append, failed=error)

    assert (found, noted) == ("done", [error])
    assert "cannot write, retrying in 0.01 s" in caplog.text
