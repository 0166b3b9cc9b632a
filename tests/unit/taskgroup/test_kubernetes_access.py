"""Kubeconfigs, credentials and logs of the engine of Jobs, without a server."""

from __future__ import annotations

import base64
import itertools
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as some

from anabranch.core.errors import Misconfigured
from anabranch_taskgroup.worker.executors.programs.engine import EngineUnavailable, ProgramRefused
from anabranch_taskgroup.worker.executors.programs.kubernetes.api_errors import (
    Call,
    of_response,
    refused_or_unavailable,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes.credentials import TOKEN_SECONDS, TokenSource
from anabranch_taskgroup.worker.executors.programs.kubernetes.handles import JobHandle
from anabranch_taskgroup.worker.executors.programs.kubernetes.kubeconfig import (
    ClusterAccess,
    in_cluster_access,
    kubeconfig_access,
)
from anabranch_taskgroup.worker.executors.programs.kubernetes.log_lines import LineSplitter, LogCursor
from anabranch_taskgroup.worker.executors.programs.kubernetes.owners import OwnerName, owner_name

FILE = PurePosixPath("/etc/kube/config")
CONFIG = f"""
current-context: one
contexts:
- name: one
  context: {{cluster: c, user: token, namespace: jobs}}
- name: two
  context: {{cluster: c, user: certificate}}
- name: plugin
  context: {{cluster: c, user: plugin}}
clusters:
- name: c
  cluster:
    server: https://api.example:6443/
    certificate-authority-data: {base64.b64encode(b"PEM").decode()}
    tls-server-name: kubernetes
users:
- name: token
  user: {{token: t}}
- name: certificate
  user: {{client-certificate: me.pem, client-key: /keys/me.key}}
- name: plugin
  user: {{exec: {{command: get-token}}}}
"""


def test_the_current_context_of_a_kubeconfig() -> None:
    access = kubeconfig_access(CONFIG, FILE, None)

    assert (access.server, access.namespace, access.token) == ("https://api.example:6443", "jobs", "t")
    assert access.authority is not None
    assert (access.authority.text, access.server_name) == ("PEM", "kubernetes")
    assert "'t'" not in repr(access)


def test_paths_of_a_kubeconfig_begin_in_its_folder() -> None:
    access = kubeconfig_access(CONFIG, FILE, "two")

    assert access.client_certificate is not None
    assert access.client_key is not None
    assert access.client_certificate.file == PurePosixPath("/etc/kube/me.pem")
    assert access.client_key.file == PurePosixPath("/keys/me.key")


@pytest.mark.parametrize(
    ("text", "context", "message"),
    [
        (CONFIG, "three", "there is no context 'three'.*'one', 'two'"),
        (CONFIG, "plugin", "`exec`, which is not supported"),
        ("[1]", None, "not a kubeconfig"),
        ("a: [", None, "not valid YAML"),
        (CONFIG.replace("https://api", "api"), None, "has no `server`"),
        (CONFIG.replace("authority-data: ", "authority-data: !"), None, "YAML|base64"),
    ],
)
def test_what_is_wrong_with_a_kubeconfig(text: str, context: str | None, message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        kubeconfig_access(text, FILE, context)


def test_a_pod_has_its_service_account() -> None:
    access = in_cluster_access({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, "jobs\n")

    assert (access.server, access.namespace) == ("https://[fd00::1]:443", "jobs")
    assert access.token_file is not None
    with pytest.raises(Misconfigured, match="KUBERNETES_SERVICE_HOST"):
        in_cluster_access({}, "jobs")
    with pytest.raises(Misconfigured, match="serviceaccount"):
        in_cluster_access({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None)


def test_a_token_is_read_again_when_it_may_have_been_replaced(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    tokens = TokenSource(ClusterAccess("https://a", token_file=file))

    assert tokens.token(0) == "one"
    file.write_text("two\n")
    assert tokens.token(TOKEN_SECONDS - 1) == "one"
    assert tokens.token(TOKEN_SECONDS) == "two"
    file.write_text("three")
    assert tokens.forget()
    assert tokens.token(TOKEN_SECONDS + 1) == "three"
    file.unlink()
    with pytest.raises(Misconfigured, match="No such file"):
        tokens.token(3 * TOKEN_SECONDS)


@given(some.binary(max_size=300), some.lists(some.integers(0, 300)))
def test_lines_do_not_depend_on_chunks(data: bytes, cuts: list[int]) -> None:
    splitter = LineSplitter(1000)
    places = [0, *sorted(min(each, len(data)) for each in cuts), len(data)]

    lines = [line for start, end in itertools.pairwise(places) for line in splitter.feed(data[start:end])]
    lines += splitter.finish()

    assert lines == data.removesuffix(b"\n").split(b"\n") or (data == b"" and lines == [])


def test_a_line_without_an_end_takes_bounded_memory() -> None:
    splitter = LineSplitter(10)

    assert list(splitter.feed(b"x" * 100)) == []
    assert list(splitter.feed(b"y\nnext\n")) == [b"x" * 10, b"next"]


def test_a_log_goes_on_where_it_broke() -> None:
    log = [b"2026-01-01T00:00:00.5Z a", b"2026-01-01T00:00:00.5Z b", b"2026-01-01T00:00:00.50001Z c"]
    cursor = LogCursor()

    assert [cursor.line(each) for each in log[:1]] == ["a"]
    assert cursor.since == "2026-01-01T00:00:00.5Z"
    cursor.reconnected()
    assert [cursor.line(each) for each in log] == [None, "b", "c"]
    cursor.reconnected()
    assert [cursor.line(each) for each in [*log, b"2026-01-01T00:00:01Z d e"]] == [None, None, None, "d e"]


@pytest.mark.parametrize(
    ("status", "message", "kind", "text"),
    [
        (403, 'jobs is forbidden: User "x" cannot create resource', ProgramRefused, "lacks the verb 'create'"),
        (403, "jobs is forbidden: exceeded quota: q", EngineUnavailable, "tried again"),
        (403, "unable to create: because it is being terminated", ProgramRefused, "is being deleted"),
        (422, "Job is invalid: spec.x", ProgramRefused, "Job is invalid: spec.x (422)"),
        (401, "Unauthorized", EngineUnavailable, "credentials"),
        (429, "slow down", EngineUnavailable, "429"),
        (503, "etcd is away", EngineUnavailable, "503"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, message: str, kind: type[Exception], text: str) -> None:
    call = Call("create", "jobs", "n", "ab-1", "batch")

    error = refused_or_unavailable(of_response(call, status, {"message": message}, "", None))

    assert type(error) is kind
    assert text in str(error)
    assert str(error).startswith("cannot create jobs 'ab-1' in namespace 'n': ")


def test_owners_and_handles_are_read_from_text() -> None:
    assert owner_name("apps/v1/Deployment/workers") == OwnerName("apps/v1", "Deployment", "workers")
    assert owner_name("v1/ConfigMap/c") == OwnerName("v1", "ConfigMap", "c")
    assert owner_name(None) is None
    with pytest.raises(Misconfigured, match="apps/v1/Deployment/NAME"):
        owner_name("workers")
    assert JobHandle.parse("n/j/i").text == "n/j/i"
    with pytest.raises(ValueError, match="not the handle"):
        JobHandle.parse("abc")
