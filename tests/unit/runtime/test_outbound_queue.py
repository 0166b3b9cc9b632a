"""The bounded queue of messages on their way to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from anabranch.core.errors import ServerUnavailable
from anabranch.runtime.outbound_queue import OutboundQueue


class Server:
    """Takes batches, unless it is away."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.failures = 0

    async def send(self, batch: Sequence[int]) -> None:
        if self.failures:
            self.failures -= 1
            raise ServerUnavailable("Kafka", "here", "it is away")
        self.batches.append(list(batch))


def queue_to(server: Server, overflow: Literal["drop oldest", "drop newest", "keep"], **options: Any) -> Any:
    given: dict[str, Any] = {"limit": 4, "batch": 3, "delay": 0.001} | options
    return OutboundQueue("numbers", server.send, overflow=overflow, **given)


@pytest.mark.parametrize(("overflow", "sent"), [("drop oldest", [2, 3, 4, 5]), ("drop newest", [0, 1, 2, 3])])
async def test_a_full_queue_drops_and_reports_it(overflow: Any, sent: list[int], caplog: Any) -> None:
    server = Server()
    queue = queue_to(server, overflow)

    queue.put_all(range(6))
    await queue.flush()

    assert [each for batch in server.batches for each in batch] == sent
    assert "dropped 2 numbers" in caplog.text


async def test_a_failed_batch_is_sent_again_before_later_messages() -> None:
    server = Server()
    server.failures = 2
    queue = queue_to(server, "keep")
    running = asyncio.create_task(queue.run())

    queue.put_all([1, 2])
    await asyncio.sleep(0)
    queue.put(3)
    await queue.wait_sent()

    assert [each for batch in server.batches for each in batch] == [1, 2, 3]
    running.cancel()


async def test_a_sender_can_wait_for_space_by_weight() -> None:
    server = Server()
    queue = queue_to(server, "keep", limit=10, weigh=lambda number: number)
    queue.put_all([9, 9])
    assert queue.is_full
    running = asyncio.create_task(queue.run())

    await queue.wait_for_space()

    assert (queue.is_full, len(queue)) == (False, 0)
    running.cancel()


async def test_nothing_waits_for_a_queue_that_was_stopped() -> None:
    queue = queue_to(Server(), "keep")
    running = asyncio.create_task(queue.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    queue.put(1)
    async with asyncio.timeout(1):
        await queue.wait_sent()
