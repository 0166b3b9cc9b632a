"""Reads the credentials of a cluster from files, and builds the TLS context of its connections."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

from anabranch.core.errors import Misconfigured
from anabranch_taskgroup.worker.executors.programs.kubernetes.config import KubernetesSettings
from anabranch_taskgroup.worker.executors.programs.kubernetes.kubeconfig import (
    SERVICE_ACCOUNT,
    WHAT,
    ClusterAccess,
    Material,
    in_cluster_access,
    kubeconfig_access,
)

TOKEN_SECONDS = 30.0
"""How long a token is used before its file is read again; kubelet replaces it long before it expires."""


def load_access(settings: KubernetesSettings) -> ClusterAccess:
    """Find the API server and the credentials.

    Raises:
        Misconfigured: there are none, or a file is missing or invalid.
    """
    if settings.kubeconfig:
        file = Path(settings.kubeconfig).expanduser()
        return kubeconfig_access(_text(file), file.absolute(), settings.context)
    namespace = SERVICE_ACCOUNT / "namespace"
    return in_cluster_access(os.environ, _text(namespace) if namespace.is_file() else None)


class TokenSource:
    """The bearer token of a cluster, read again after it may have been rotated."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access
        self._token = access.token
        self._read_at: float | None = None

    def token(self, now: float) -> str | None:
        """The token at a time in seconds of any clock that only advances; None if certificates are used.

        Raises:
            Misconfigured: the file of the token cannot be read.
        """
        file = self._access.token_file
        if file is not None and (self._read_at is None or now - self._read_at >= TOKEN_SECONDS):
            self._token, self._read_at = _text(Path(file)).strip(), now
        return self._token

    def forget(self) -> bool:
        """Read the file again at the next call. False if the token is not from a file."""
        self._read_at = None
        return self._access.token_file is not None


def tls_context(access: ClusterAccess) -> ssl.SSLContext | None:
    """The TLS context for a cluster; None for one without TLS.

    Raises:
        Misconfigured: a certificate or key cannot be read.
    """
    if access.server.startswith("http://"):
        return None
    try:
        authority = access.authority
        context = ssl.create_default_context(
            cafile=str(authority.file) if authority and authority.file else None,
            cadata=authority.text if authority else None,
        )
        if not access.verifies:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if access.client_certificate:
            _load_certificate(context, access.client_certificate, access.client_key)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(WHAT, f"cannot read the certificates: {error}", "Correct the kubeconfig") from error
    return context


def _load_certificate(context: ssl.SSLContext, certificate: Material, key: Material | None) -> None:
    """Load a client certificate. `ssl` reads it from files only, so text is written to private ones meanwhile."""
    with tempfile.TemporaryDirectory(prefix="anabranch-") as folder:

        def path(material: Material, name: str) -> str:
            if material.file is not None:
                return str(material.file)
            file = Path(folder) / name
            file.write_text(material.text or "", encoding="ascii")
            return str(file)

        context.load_cert_chain(path(certificate, "certificate.pem"), path(key, "key.pem") if key else None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise Misconfigured(
            f"{WHAT}: {file}", f"cannot read it: {error.strerror}", "Name a readable file"
        ) from error
