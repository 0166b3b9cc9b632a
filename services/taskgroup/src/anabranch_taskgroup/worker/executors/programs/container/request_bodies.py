"""What is sent to the engine for an execution: the body of a container, and the archive with its inputs. Pure."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import Any

from anabranch.sdk.programs.spec import ProgramLimits
from anabranch_taskgroup.worker.executors.programs.container.options import ContainerOptions
from anabranch_taskgroup.worker.executors.programs.engine import Execution

LABEL_PREFIX = "anabranch."
EXECUTION_LABEL = f"{LABEL_PREFIX}execution"
"""The label with the name of the execution, which stays when the container is renamed."""

VOLUME_PATH = "/anabranch"
"""An anonymous volume: the archive API writes to it although the image's file system is read-only, and with an
engine on another machine."""
INPUT_PATH = f"{VOLUME_PATH}/io/input.json"
OUTPUT_PATH = f"{VOLUME_PATH}/io/output.json"

LOG_BYTES = "64m"
"""Size after which the engine discards the oldest part of a container's log. More than the largest result."""


def container_body(execution: Execution, options: ContainerOptions) -> dict[str, Any]:
    """The body of `POST /containers/create`."""
    spec = execution.spec
    arguments = [execution.inputs.decode()] if spec.input == "args" else []
    environment = {**spec.env, "ANABRANCH_INPUT": INPUT_PATH, "ANABRANCH_OUTPUT": OUTPUT_PATH}
    body: dict[str, Any] = {
        "Image": spec.image,
        "User": options.user,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": container_labels(execution.name, execution.labels),
        "StopSignal": "SIGTERM",
        "Tty": False,
        "HostConfig": _host_config(spec.limits, options),
    }
    if spec.command:
        body["Entrypoint"] = list(spec.command)
    if arguments or spec.command:
        body["Cmd"] = arguments
    if spec.input == "stdin":
        # Once: the engine closes the program's stdin when the worker's connection ends.
        body |= {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
    return body


def _host_config(limits: ProgramLimits, options: ContainerOptions) -> dict[str, Any]:
    config: dict[str, Any] = {
        "NetworkMode": options.network,
        "ReadonlyRootfs": options.is_read_only,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": options.pids,
        "Init": options.has_init,
        "Tmpfs": {"/tmp": f"rw,nosuid,nodev,size={options.tmp_size},mode=1777"},
        "Mounts": [{"Type": "volume", "Target": VOLUME_PATH}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_BYTES}},
        "RestartPolicy": {"Name": "no"},
    }
    if limits.memory is not None:
        # The same with swap as without: no swap.
        config |= {"Memory": limits.memory, "MemorySwap": limits.memory}
    if limits.cpu is not None:
        config["NanoCpus"] = round(limits.cpu * 1_000_000_000)
    if limits.gpu is not None:
        config["DeviceRequests"] = [{"Driver": "nvidia", "Count": limits.gpu, "Capabilities": [["gpu"]]}]
    return config


def container_labels(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a container, whose values may be any text."""
    return {EXECUTION_LABEL: name} | {f"{LABEL_PREFIX}{key}": value for key, value in labels.items()}


def execution_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of an execution, from those of its container."""
    return {
        key.removeprefix(LABEL_PREFIX): value
        for key, value in labels.items()
        if key.startswith(LABEL_PREFIX) and key != EXECUTION_LABEL
    }


def input_archive(inputs: bytes) -> bytes:
    """The tar archive that is extracted to `VOLUME_PATH` before the container starts.

    Any user of the container may read the inputs and write the output: the user may be a name, whose number only
    the image knows, and nobody else has the volume.

    It ends with its two blocks of zeros, without the padding that `tarfile` adds. Podman extracts in a process of
    its own, which ends after those blocks: what Podman then still writes to it is a broken pipe, and status 500.
    """
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        folder = tarfile.TarInfo("io")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o777
        archive.addfile(folder)
        entry = tarfile.TarInfo("io/input.json")
        entry.size, entry.mode = len(inputs), 0o444
        archive.addfile(entry, io.BytesIO(inputs))
        end = archive.offset + 2 * tarfile.BLOCKSIZE
    return file.getvalue()[:end]


def fence_of(execution: str, name: str) -> int:
    """How often a container of an execution was taken over, counted from 1, by its name."""
    fence = name.removeprefix(f"{execution}-")
    return int(fence) if fence != name and fence.isascii() and fence.isdigit() else 1


def next_name(execution: str, name: str) -> str:
    """The name under which a container is started that another worker has created under `name`.

    A container's name is a fencing token: a container is only started under its present name. So a worker that was
    frozen between the creation and the start cannot start it a second time, after it has ended.
    """
    return f"{execution}-{fence_of(execution, name) + 1}"
