"""Where the API is and who the worker is there: from a kubeconfig, or from the files of the worker's own pod."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from anabranch.core.errors import Misconfigured

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOST_VARIABLE = "KUBERNETES_SERVICE_HOST"
PORT_VARIABLE = "KUBERNETES_SERVICE_PORT"
WHAT = "the executor kubernetes"
_HINT = "Set kubernetes_kubeconfig to a kubeconfig file, or run the worker as a pod with a service account token"


@dataclass(frozen=True, slots=True, repr=False)
class Material:
    """A certificate or key: its PEM text, or the file that has it."""

    text: str | None = None
    file: PurePath | None = None


@dataclass(frozen=True, slots=True, repr=False)
class ClusterAccess:
    """How to reach an API server. `repr` shows no secret.

    Attributes:
        server: base URL without a trailing slash.
        namespace: of the pod or the context.
        token: a fixed bearer token.
        token_file: a file with the token, which is replaced when the token is rotated.
        verifies: False if the server's certificate is not checked.
        server_name: the name in the server's certificate, if it is not that of the URL.
    """

    server: str
    namespace: str = "default"
    authority: Material | None = None
    client_certificate: Material | None = None
    client_key: Material | None = None
    token: str | None = None
    token_file: PurePath | None = None
    verifies: bool = True
    server_name: str | None = None


def in_cluster_access(environ: Mapping[str, str], namespace: str | None) -> ClusterAccess:
    """The access of a pod by its service account.

    Args:
        namespace: content of the service account's file `namespace`; None if there is none.

    Raises:
        Misconfigured: the process does not run in a pod, or the pod has no token.
    """
    host, port = environ.get(HOST_VARIABLE), environ.get(PORT_VARIABLE, "443")
    if not host or namespace is None:
        missing = HOST_VARIABLE if not host else str(SERVICE_ACCOUNT)
        raise Misconfigured(
            WHAT, f"the worker does not run in a pod with a service account: {missing} is missing", _HINT
        )
    shown = f"[{host}]" if ":" in host else host
    return ClusterAccess(
        server=f"https://{shown}:{port}",
        namespace=namespace.strip(),
        authority=Material(file=SERVICE_ACCOUNT / "ca.crt"),
        token_file=SERVICE_ACCOUNT / "token",
    )


def kubeconfig_access(text: str, file: PurePath, context: str | None) -> ClusterAccess:
    """The access of a context of a kubeconfig.

    Args:
        file: where the text is from; relative paths in it start in its folder.
        context: None for the current one.

    Raises:
        Misconfigured: the file is invalid, has no such context, or authenticates in a way that is not supported.
    """
    config = _mapping(file, text)
    name = context or config.get("current-context") or ""
    chosen = _named(file, config, "contexts", "context", name)
    cluster = _named(file, config, "clusters", "cluster", chosen.get("cluster", ""))
    user = _named(file, config, "users", "user", chosen["user"]) if chosen.get("user") else {}
    for unsupported in ("exec", "auth-provider", "username"):
        if unsupported in user:
            raise Misconfigured(
                f"{WHAT}: {file}",
                f"user {chosen['user']!r} authenticates by `{unsupported}`, which is not supported",
                "Use a service account token (`token`, `tokenFile`) or a client certificate",
            )
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise Misconfigured(f"{WHAT}: {file}", f"cluster {chosen.get('cluster')!r} has no `server`", "Add its URL")
    token_file = user.get("tokenFile")
    return ClusterAccess(
        server=server,
        namespace=str(chosen.get("namespace") or "default"),
        authority=_material(file, cluster, "certificate-authority"),
        client_certificate=_material(file, user, "client-certificate"),
        client_key=_material(file, user, "client-key"),
        token=None if token_file else user.get("token"),
        token_file=file.parent / token_file if token_file else None,
        verifies=not cluster.get("insecure-skip-tls-verify", False),
        server_name=cluster.get("tls-server-name"),
    )


def _mapping(file: PurePath, text: str) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Misconfigured(f"{WHAT}: {file}", f"not valid YAML: {error}", "Correct the kubeconfig") from error
    if not isinstance(config, dict):
        raise Misconfigured(f"{WHAT}: {file}", "not a kubeconfig", "Name a file that kubectl can use")
    return config


def _named(file: PurePath, config: Mapping[str, Any], listed: str, key: str, name: str) -> Mapping[str, Any]:
    entries = config.get(listed) or []
    for each in entries:
        if isinstance(each, dict) and each.get("name") == name:
            return each.get(key) or {}
    names = ", ".join(repr(each.get("name")) for each in entries if isinstance(each, dict)) or "none"
    raise Misconfigured(f"{WHAT}: {file}", f"there is no {key} {name!r} in `{listed}`", f"There are: {names}")


def _material(file: PurePath, entry: Mapping[str, Any], name: str) -> Material | None:
    if data := entry.get(f"{name}-data"):
        try:
            return Material(text=base64.b64decode(data, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError, ValueError) as error:
            raise Misconfigured(
                f"{WHAT}: {file}", f"`{name}-data` is not base64", "Correct the kubeconfig"
            ) from error
    return Material(file=file.parent / entry[name]) if entry.get(name) else None
