"""The cluster's certificate authority, its certificates and kubeconfigs, created by the `openssl` command."""

from __future__ import annotations

import json
from pathlib import Path

from one_node.commands import run
from one_node.layout import Layout

DAYS = "30"
USERS = {
    # Kubernetes has roles for these names and groups; only the administrator and the API server may do everything.
    "admin": "/O=system:masters/CN=admin",
    "apiserver-to-kubelet": "/O=system:masters/CN=apiserver-to-kubelet",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "kubelet": "/O=system:nodes/CN=system:node:node",
}
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def create_certificates(cluster: Layout) -> None:
    """Create the authority, a certificate and kubeconfig for each user, and the key of service accounts, once."""
    folder = cluster.folder / "pki"
    if (folder / "complete").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    run(
        *("openssl", "req", "-x509", *_NEW_KEY, "-days", DAYS, "-subj", "/CN=anabranch-test-cluster"),
        *(
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,digitalSignature",
        ),
        *("-keyout", folder / "ca.key", "-out", folder / "ca.crt"),
    )
    run("openssl", "genpkey", "-algorithm", "RSA", "-out", folder / "accounts.key")
    run("openssl", "pkey", "-in", folder / "accounts.key", "-pubout", "-out", folder / "accounts.pub")
    names = ["kubernetes.default.svc.cluster.local", "kubernetes.default.svc", "kubernetes.default", "kubernetes"]
    addresses = [cluster.node, cluster.api_service, "127.0.0.1"]
    alternatives = ",".join([*(f"IP:{address}" for address in addresses), *(f"DNS:{name}" for name in names)])
    _issue(
        folder, "apiserver", "/CN=kube-apiserver", f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth\n"
    )
    _issue(folder, "kubelet-serving", "/O=system:nodes/CN=system:node:node", f"subjectAltName=IP:{cluster.node}\n")
    for name, subject in USERS.items():
        _issue(folder, name, subject, "extendedKeyUsage=clientAuth\n")
        _write_kubeconfig(cluster, name)
    (folder / "complete").touch()


def _issue(folder: Path, name: str, subject: str, extensions: str) -> None:
    request, described = folder / f"{name}.csr", folder / f"{name}.ext"
    described.write_text(extensions)
    run("openssl", "req", *_NEW_KEY, "-subj", subject, "-keyout", folder / f"{name}.key", "-out", request)
    run(
        *("openssl", "x509", "-req", "-in", request, "-days", DAYS, "-CA", folder / "ca.crt"),
        *("-CAkey", folder / "ca.key", "-CAcreateserial", "-extfile", described, "-out", folder / f"{name}.crt"),
    )


def _write_kubeconfig(cluster: Layout, user: str) -> None:
    pki = cluster.folder / "pki"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        "clusters": [
            {"name": "test", "cluster": {"server": cluster.api, "certificate-authority": str(pki / "ca.crt")}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate": str(pki / f"{user}.crt"),
                    "client-key": str(pki / f"{user}.key"),
                },
            }
        ],
    }
    path = cluster.folder / f"{user}.kubeconfig"
    path.write_text(json.dumps(document, indent=2))
    path.chmod(0o600)
