"""The version before this one, as processes: its sources, unpacked from the repository's history."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
COMMIT = "79f0a05f"
"""The last commit of the previous version. A release changes it, and tests/golden/wire/previous."""
PACKAGES = ("shared", "services/agency", "services/taskgroup", "services/eventmanager", "services/gateway")


def is_in_history() -> bool:
    """False in a shallow clone, or in sources without a repository."""
    found = subprocess.run(
        ["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"], cwd=REPOSITORY, capture_output=True, check=False
    )
    return found.returncode == 0


def unpack(folder: Path) -> str:
    """Unpack the sources of the previous version; returns the PYTHONPATH that a process needs to run them.

    The paths precede those of the installed version, so the libraries are the same and the code is not.
    """
    archive = subprocess.run(
        ["git", "archive", COMMIT, "shared", "services"], cwd=REPOSITORY, capture_output=True, check=True
    )
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return os.pathsep.join(str(folder / package / "src") for package in PACKAGES)
