"""`python -m anabranch_gateway`: the gateway as a process, set up by environment and file."""

from __future__ import annotations

import sys

from anabranch.compose import main

if __name__ == "__main__":
    sys.exit(main("gateway"))
