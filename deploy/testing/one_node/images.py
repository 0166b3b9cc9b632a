"""Images of single static programs, made without a container engine, and their import into the cluster."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from one_node.commands import inside, run
from one_node.layout import Layout
from one_node.node import PAUSE_IMAGE, containerd_socket

COREDNS_IMAGE = "localhost/coredns:1"


def import_image(cluster: Layout, archive: Path) -> str:
    """Import an archive in Docker's or OCI's format; return what containerd says, which names the image."""
    return run(
        *inside(cluster, "ctr", "--address", containerd_socket(cluster), "--namespace", "k8s.io"),
        *("images", "import", archive),
        timeout=300,
    )


def import_own_images(cluster: Layout) -> None:
    """Import the images of the cluster's own pods: pause and CoreDNS."""
    for image, program in ((PAUSE_IMAGE, "pause"), (COREDNS_IMAGE, "coredns")):
        archive = cluster.folder / f"{program}.tar"
        archive.write_bytes(program_image(image, Path(cluster.program(program))))
        import_image(cluster, archive)
        archive.unlink()


def program_image(name: str, program: Path) -> bytes:
    """An archive in Docker's format: an image `name` that has and starts one static program."""
    layer = _tar({program.name: (program.read_bytes(), 0o755)})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65534"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    parts = {"layer.tar": layer, "config.json": config, "manifest.json": manifest}
    return _tar({part: (content, 0o644) for part, content in parts.items()})


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()
