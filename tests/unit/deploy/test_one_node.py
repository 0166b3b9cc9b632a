"""The test cluster's addresses, images and pid files, without a cluster."""

from __future__ import annotations

import hashlib
import io
import ipaddress
import json
import os
import tarfile
from pathlib import Path

import pytest

from one_node.images import program_image
from one_node.layout import ClusterError, Layout, layout
from one_node.processes import Process


def test_addresses_of_a_cluster_are_apart_and_in_its_network() -> None:
    cluster = Layout(3, Path("/nowhere"))
    network, pods, services = map(ipaddress.ip_network, (cluster.network, cluster.pods, cluster.services))

    assert pods.subnet_of(network)  # type: ignore[arg-type]
    assert services.subnet_of(network)  # type: ignore[arg-type]
    assert not pods.overlaps(services)
    assert ipaddress.ip_address(cluster.node) in pods
    assert {ipaddress.ip_address(each) in services for each in (cluster.dns, cluster.api_service)} == {True}


def test_clusters_of_two_numbers_share_no_address() -> None:
    first, second = (ipaddress.ip_network(Layout(number, Path("/nowhere")).network) for number in (0, 1))

    assert not first.overlaps(second)


def test_a_number_that_has_no_network_is_refused() -> None:
    with pytest.raises(ClusterError, match="between 0 and 50"):
        layout(51)


def test_the_image_of_a_program_has_it_as_its_one_layer(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")

    with tarfile.open(fileobj=io.BytesIO(program_image("localhost/pause:1", program))) as archive:
        parts = {name: _content(archive, name) for name in archive.getnames()}

    [manifest] = json.loads(parts["manifest.json"])
    config = json.loads(parts[manifest["Config"]])
    [layer] = manifest["Layers"]
    assert manifest["RepoTags"] == ["localhost/pause:1"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(parts[layer]).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(parts[layer])) as files:
        assert (_content(files, "pause"), files.getmember("pause").mode) == (b"program", 0o755)


def test_a_process_that_got_the_id_of_one_that_ended_is_not_touched(tmp_path: Path) -> None:
    cluster = Layout(0, tmp_path)
    process = Process(cluster, "etcd", ["etcd"])
    pid_file = cluster.folder / "pids" / "etcd"
    pid_file.parent.mkdir(parents=True)
    # This test's own id, with the start time of another process: SIGTERM would end the test.
    pid_file.write_text(f"{os.getpid()} 1")

    assert not process.running()
    process.stop()
    assert not pid_file.exists()


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    extracted = archive.extractfile(name)
    assert extracted is not None
    return extracted.read()
