"""Shared by the clients of all peers: warms up, prints `ready`, measures one fan-out and its join, prints it.

Independent of the libraries. `python APP.py N` prints `ready` and then one JSON document.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

LIMIT_SECONDS = int(os.environ.get("PEER_LIMIT_SECONDS", "60"))
WARM = 20


def drive(fan_out: Callable[[int], int]) -> None:
    """Measure `fan_out`, which starts the given number of no-op tasks, waits for all results, and returns their
    number."""
    count = int(sys.argv[1])
    fan_out(WARM)
    print("ready", flush=True)
    began = time.perf_counter()
    got = fan_out(count)
    seconds = time.perf_counter() - began
    if got != count:
        raise SystemExit(f"{got} of {count} results were joined")
    print(json.dumps({"seconds": seconds}), flush=True)
