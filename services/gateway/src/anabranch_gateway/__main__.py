"""`python -m anabranch_gateway`: the gateway as a process, set up by environment and file."""

from __future__ import annotations

import sys

from anabranch.runtime.process.lifecycle import main
from anabranch_gateway.app import build

if __name__ == "__main__":
    sys.exit(main(build))
