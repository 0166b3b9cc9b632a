"""The images of the product as archives: that of this version, and that of the previous one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from one_node.commands import run
from one_node.layout import REPOSITORY

BUILD_SECONDS = 900
_ASK = "import previous_version as p; print(p.COMMIT if p.is_in_history() else '')"


def product_archive(servers: Path) -> Path:
    """Return the path of the archive that $ANABRANCH_TEST_IMAGE names, or else of one that Podman builds.

    Building uses the layers of the last build. Raises ClusterError if Podman cannot build it here.
    """
    named = os.environ.get("ANABRANCH_TEST_IMAGE")
    return Path(named) if named else _built(servers, "anabranch")


def previous_archive(servers: Path) -> Path | None:
    """The same with the code of the previous version; None in a clone without its history."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests" / "support")}
    commit = run(sys.executable, "-c", _ASK, environment=environment).strip()
    return _built(servers, "previous", commit) if commit else None


def _built(servers: Path, name: str, *commit: str) -> Path:
    archive = servers / "testing" / f"{name}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    run("bash", REPOSITORY / "deploy/testing/product_archive.sh", archive, *commit, timeout=BUILD_SECONDS)
    return archive
