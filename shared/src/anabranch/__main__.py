"""`python -m anabranch`: the command, where its script is not on the path."""

from __future__ import annotations

import os
import sys


def _as_the_script() -> None:
    """Take the current directory off the front of the path, where `python -m` puts it: a file named as a module of
    the standard library would break the command. `--agents` searches it by itself."""
    first = sys.path[0] if sys.path else None
    if first == "" or (first is not None and os.path.exists(first) and os.path.samefile(first, ".")):
        del sys.path[0]


if __name__ == "__main__":
    _as_the_script()
    from anabranch.cli.main import main

    sys.exit(main())
