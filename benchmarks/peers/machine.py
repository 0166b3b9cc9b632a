"""Describes the machine of a measurement: cores, memory, CPU, system, libraries, servers. Read-only."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from redis import Redis
from servers.finder import BROKERS_VARIABLE
from servers.kafka_node import VERSION


def machine() -> dict[str, str]:
    """Properties of the machine, by name."""
    return {
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "CPU": _cpu(),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.2f} over one minute",
    }


def server_versions(redis_url: str) -> dict[str, str]:
    """Versions of the broker and of Redis, by name."""
    named = BROKERS_VARIABLE in os.environ
    with Redis.from_url(redis_url) as redis:
        found = redis.info("server")
    name = found.get("server_name", "redis")
    return {
        "broker": f"Kafka, named in {BROKERS_VARIABLE}" if named else f"Kafka {VERSION}",
        "Redis": f"{name} {found.get(f'{name}_version', found['redis_version'])}",
    }


def libraries() -> str:
    """Versions of Anabranch and its client libraries."""
    return ", ".join(f"{name} {version(name)}" for name in ("anabranch", "confluent-kafka", "redis"))


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
