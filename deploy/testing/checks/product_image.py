"""The product's image as an archive: the one that $ANABRANCH_TEST_IMAGE names, else built by Podman."""

from __future__ import annotations

import os
from pathlib import Path

from one_node.commands import run
from one_node.layout import REPOSITORY

BUILD_SECONDS = 900


def product_archive(servers: Path) -> Path:
    """Return the archive's path. Building uses the layers of the last build.

    Raises ClusterError if Podman cannot build it here.
    """
    named = os.environ.get("ANABRANCH_TEST_IMAGE")
    if named:
        return Path(named)
    archive = servers / "testing" / "anabranch.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    run("bash", REPOSITORY / "deploy" / "testing" / "product_archive.sh", archive, timeout=BUILD_SECONDS)
    return archive
