"""What is sent to a container engine: bodies, options, names, addresses, credentials."""

from __future__ import annotations

import base64
import io
import json
import tarfile

import pytest

from anabranch.core.errors import Misconfigured
from anabranch.sdk.programs.spec import ProgramLimits, ProgramSpec
from anabranch_taskgroup.worker.executors.programs.container.addresses import (
    EngineAddress,
    engine_address,
    parse_address,
)
from anabranch_taskgroup.worker.executors.programs.container.images import ImageName, parse_image, registry_auth
from anabranch_taskgroup.worker.executors.programs.container.options import ContainerOptions, read_options
from anabranch_taskgroup.worker.executors.programs.container.request_bodies import (
    container_body,
    container_labels,
    execution_labels,
    fence_of,
    input_archive,
    next_name,
)
from anabranch_taskgroup.worker.executors.programs.engine import Execution, ProgramRefused

HUB = ".".join(("docker", "io"))


def body_of(
    options: ContainerOptions | None = None, inputs: bytes = b'{"a":1}', **spec: object
) -> dict[str, object]:
    program = ProgramSpec(kind="container", image="acme/tool:1", **spec)  # type: ignore[arg-type]
    return container_body(Execution("run-1", program, inputs, {"run_id": "r/1"}), options or ContainerOptions())


def test_a_container_is_confined_by_default() -> None:
    body = body_of(command=("tool", "--fast"), env={"A": "b=c"})

    assert (body["Entrypoint"], body["Cmd"], body["User"]) == (["tool", "--fast"], [], "65534:65534")
    assert body["Env"] == [
        "A=b=c",
        "ANABRANCH_INPUT=/anabranch/io/input.json",
        "ANABRANCH_OUTPUT=/anabranch/io/output.json",
    ]
    assert body["Labels"] == {"anabranch.execution": "run-1", "anabranch.run_id": "r/1"}
    host = body["HostConfig"]
    assert isinstance(host, dict)
    confined = {key: host[key] for key in ("NetworkMode", "ReadonlyRootfs", "CapDrop", "SecurityOpt", "PidsLimit")}
    assert confined == {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": 512,
    }
    assert not {"Binds", "Privileged", "CapAdd", "Memory", "NanoCpus"} & set(host)


def test_limits_are_passed_on_without_swap() -> None:
    host = body_of(limits=ProgramLimits(cpu=0.5, memory=1024, gpu=2))["HostConfig"]

    assert isinstance(host, dict)
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (1024, 1024, 500_000_000)
    assert host["DeviceRequests"] == [{"Driver": "nvidia", "Count": 2, "Capabilities": [["gpu"]]}]


def test_the_images_own_command_is_kept_and_takes_the_inputs_as_its_argument() -> None:
    assert not {"Entrypoint", "Cmd"} & set(body_of())
    with_argument = body_of(input="args", inputs=b"[1]")
    assert ("Entrypoint" in with_argument, with_argument["Cmd"]) == (False, ["[1]"])
    assert body_of(command=("a",), input="args", inputs=b"[1]")["Cmd"] == ["[1]"]


def test_stdin_ends_with_the_connection() -> None:
    body = body_of(input="stdin")

    assert (body["OpenStdin"], body["StdinOnce"]) == (True, True)


def test_options_loosen_what_they_name() -> None:
    options = read_options({"user": "app", "network": "jobs", "read_only": "false", "init": "true", "pids": "9"})

    body = body_of(options)
    host = body["HostConfig"]
    assert isinstance(host, dict)
    assert (body["User"], host["NetworkMode"], host["ReadonlyRootfs"]) == ("app", "jobs", False)
    assert (host["Init"], host["PidsLimit"]) == (True, 9)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"privileged": "true"}, "no option 'privileged'"),
        ({"network": "host"}, "shares the interfaces"),
        ({"network": "container:x"}, "shares the interfaces"),
        ({"network": "a b"}, "not the name of a network"),
        ({"user": "a:b:c"}, "a user or user:group"),
        ({"read_only": "yes"}, "not true or false"),
        ({"pids": "0"}, "at least 1"),
        ({"tmp_size": "1,mode=7"}, "a size such as"),
        ({"pull": "sometimes"}, "missing, always or never"),
    ],
)
def test_other_options_are_refused(options: dict[str, str], part: str) -> None:
    with pytest.raises(ProgramRefused, match=part):
        read_options(options)


def test_labels_come_back_as_they_were() -> None:
    labels = {"installation": "a.b", "task": "ü / x", "member": "3"}

    assert execution_labels(container_labels("name", labels) | {"org.other": "1"}) == labels


def test_inputs_are_an_archive_that_any_user_can_use() -> None:
    with tarfile.open(fileobj=io.BytesIO(input_archive(b"abc"))) as archive:
        folder, file = archive.getmembers()
        content = archive.extractfile(file)

        assert (folder.name, folder.isdir(), folder.mode) == ("io", True, 0o777)
        assert (file.name, file.mode) == ("io/input.json", 0o444)
        assert content is not None
        assert content.read() == b"abc"


def test_the_archive_of_inputs_ends_where_its_reader_ends() -> None:
    """Podman's reader ends after two blocks of zeros; what is sent after them is a broken pipe there."""
    archive = input_archive(b"abc")
    headers_and_content = 3 * tarfile.BLOCKSIZE

    assert archive[headers_and_content:] == bytes(2 * tarfile.BLOCKSIZE)


def test_a_name_is_a_fence() -> None:
    assert [fence_of("run-7", each) for each in ("run-7", "run-7-2", "run-7-12", "other")] == [1, 2, 12, 1]
    assert next_name("run-7", "run-7") == "run-7-2"
    assert next_name("run-7", "run-7-9") == "run-7-10"


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python", ImageName(HUB, "python", "latest")),
        ("acme/tool:1.2", ImageName(HUB, "acme/tool", "1.2")),
        ("localhost/tool", ImageName("localhost", "localhost/tool", "latest")),
        ("registry.test:5000/a/b:1", ImageName("registry.test:5000", "registry.test:5000/a/b", "1")),
        (f"registry.test/a:1@{DIGEST}", ImageName("registry.test", "registry.test/a", DIGEST)),
        ("Bad Name", None),
        ("a//b", None),
        ("a/../b", None),
        ("", None),
    ],
)
def test_names_of_images(text: str, expected: ImageName | None) -> None:
    assert parse_image(text) == expected


def auth_of(auths: object, registry: str) -> object:
    header = registry_auth(json.dumps({"auths": auths}).encode(), registry)
    return None if header is None else json.loads(base64.urlsafe_b64decode(header))


def test_credentials_are_those_of_the_images_registry() -> None:
    encoded = base64.b64encode(b"me:se:cret").decode()
    auths = {
        "registry.test": {"auth": encoded},
        f"https://index.{HUB}/v1/": {"username": "u", "password": "p"},
        "tokens.test": {"identitytoken": "t"},
    }

    found = {"username": "me", "password": "se:cret", "serveraddress": "registry.test"}
    assert auth_of(auths, "registry.test") == found
    assert auth_of(auths, HUB) == {"username": "u", "password": "p", "serveraddress": HUB}
    assert auth_of(auths, "tokens.test") == {"identitytoken": "t", "serveraddress": "tokens.test"}
    assert auth_of(auths, "evil-registry.test") is None


@pytest.mark.parametrize(
    "config", [b"secret", b"[]", b'{"credsStore": "x"}', b'{"auths": {"r.test": {"auth": "!"}}}']
)
def test_a_file_of_another_form_is_refused_without_quoting_it(config: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not JSON|has no") as refused:
        registry_auth(config, "r.test")

    assert "secret" not in str(refused.value)


def test_the_engine_is_found_by_setting_variable_or_usual_place() -> None:
    environment = {"DOCKER_HOST": "tcp://proxy:2375", "XDG_RUNTIME_DIR": "/run/user/7"}
    podman = "/run/user/7/podman/podman.sock"

    assert engine_address("unix:///a.sock", environment, lambda _: True) == EngineAddress(path="/a.sock")
    assert engine_address(None, environment, lambda _: True) == EngineAddress(host="proxy", port=2375)
    del environment["DOCKER_HOST"]
    assert engine_address(None, environment, lambda path: path == podman) == EngineAddress(path=podman)
    assert engine_address(None, {}, lambda _: False) == EngineAddress(path="/var/run/docker.sock")


@pytest.mark.parametrize("text", ["docker.sock", "ssh://host", "tcp://host", "tcp://host:x", "unix://host/a"])
def test_another_address_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="NAME"):
        parse_address(text, "NAME")
