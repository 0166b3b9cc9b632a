"""`python -m anabranch`: the command, where its script is not on the path."""

from __future__ import annotations

import os
import sys


def _as_the_script() -> None:
    """Remove the current directory from the front of `sys.path`, where `python -m` puts it.

    A file there with the name of a standard library module would break the command. `--agents` searches the
    current directory itself."""
    first = sys.path[0] if sys.path else None
    if first == "" or (first is not None and os.path.exists(first) and os.path.samefile(first, ".")):
        del sys.path[0]


if __name__ == "__main__":
    _as_the_script()
    from anabranch.cli.main import main

    sys.exit(main())
