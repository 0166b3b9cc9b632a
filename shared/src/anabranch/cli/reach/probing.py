"""Tells quickly whether a Kafka may be there at all: its client would try again and again for seconds."""

from __future__ import annotations

import asyncio
import contextlib

PROBE_SECONDS = 1.2
DEFAULT_PORT = 9092


async def unreachable(brokers: str) -> str | None:
    """Why no broker of these bootstrap servers takes a connection; None where one does, or is only slow."""
    attempts = [asyncio.ensure_future(_refusal(each)) for each in brokers.split(",")]
    try:
        reasons = []
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


async def _refusal(broker: str) -> str | None:
    host, _, port = broker.strip().rpartition(":") if ":" in broker else (broker.strip(), "", "")
    host = host.rpartition("://")[2].strip("[]")  # PLAINTEXT://host:9092, [::1]:9092
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port or DEFAULT_PORT))
    except TimeoutError:
        return f"no answer within {PROBE_SECONDS:g} s"
    except (OSError, ValueError) as error:
        return _words(error)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


def _words(error: OSError | ValueError) -> str:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "connection refused"
    return (getattr(error, "strerror", None) or str(error)).lower()
