"""`python -m skewed_service SECONDS SERVICE ...`: runs a service whose clock is ahead by SECONDS."""

from __future__ import annotations

import sys
import time

from anabranch.runtime.process import clock


def main() -> int:
    """Shift the clock, then run the unchanged command."""
    ahead = float(sys.argv.pop(1))
    clock.SystemClock.now = lambda self: time.time() + ahead  # type: ignore[method-assign]
    from anabranch.cli.main import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
