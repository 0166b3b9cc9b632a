"""Checks within two seconds whether a Kafka broker accepts connections: the Kafka client retries for longer."""

from __future__ import annotations

import asyncio
import contextlib

PROBE_SECONDS = 1.2
DEFAULT_PORT = 9092


async def unreachable_reason(brokers: str, *, patient: bool = False) -> str | None:
    """Why no broker of these bootstrap servers accepts a connection; None if one does. With `patient` also None if
    the attempts time out: the Kafka client may wait longer."""
    attempts = [asyncio.ensure_future(_refusal(each, patient)) for each in brokers.split(",")]
    try:
        reasons = []
        # The first broker that accepts decides: the others of a cluster may be down.
        for attempt in asyncio.as_completed(attempts):
            reason = await attempt
            if reason is None:
                return None
            reasons.append(reason)
        return reasons[0]
    finally:
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)


async def _refusal(broker: str, patient: bool) -> str | None:
    host, _, port = broker.strip().rpartition(":") if ":" in broker else (broker.strip(), "", "")
    host = host.rpartition("://")[2].strip("[]")  # PLAINTEXT://host:9092, [::1]:9092
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port or DEFAULT_PORT))
    except TimeoutError:
        return None if patient else f"no answer within {PROBE_SECONDS:g} s"
    except (OSError, ValueError) as error:
        return connection_failure(error)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


def connection_failure(error: BaseException) -> str:
    """Reason of a failed connection attempt, in lower case."""
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "connection refused"
    return (getattr(error, "strerror", None) or str(error)).lower()
