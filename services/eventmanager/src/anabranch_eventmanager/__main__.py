"""`python -m anabranch_eventmanager`: the event manager as a process, set up by environment and file."""

from __future__ import annotations

import sys

from anabranch.core.errors import Misconfigured
from anabranch.runtime.process import EXIT_MISCONFIGURED
from anabranch.runtime.settings import Settings
from anabranch_eventmanager import app


def run() -> int:
    """Runs until it is asked to stop; returns the exit code."""
    try:
        settings = Settings.load()
    except Misconfigured as error:
        sys.stderr.write(f"anabranch: {error}\n")
        return EXIT_MISCONFIGURED
    return app.main(settings)


if __name__ == "__main__":
    sys.exit(run())
