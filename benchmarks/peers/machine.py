"""Describes the machine of a measurement: cores, memory, CPU, system, interpreter, libraries. Read-only."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


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


def libraries() -> str:
    """Versions of Anabranch and its client libraries."""
    return ", ".join(f"{name} {version(name)}" for name in ("anabranch", "confluent-kafka", "redis"))


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
