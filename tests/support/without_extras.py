"""`python -m without_extras ARGUMENTS` (with this folder on the path): the command without any extra installed.

Importing a module of an extra fails as if its package were missing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from anabranch.runtime.process.extras import EXTRAS

MISSING = tuple(module for modules in EXTRAS.values() for module in modules)


class MissingExtras:
    """A finder on `sys.meta_path` that refuses the modules of all extras."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if any(name == module or name.startswith(f"{module}.") for module in MISSING):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


if __name__ == "__main__":
    sys.meta_path.insert(0, MissingExtras())
    # Imported after the finder is installed: modules that are loaded already would not be refused.
    from anabranch.cli.main import main

    sys.exit(main())
